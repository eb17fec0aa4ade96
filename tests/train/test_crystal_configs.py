"""The configurations of crystals of two elements, from a store to an evaluation: chains with and without spin-orbit coupling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.train.test_crystals import VALENCE, chain, chain_basis, labelled  # noqa: F401

from harmose.cli import main
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import new_store
from harmose.evaluate.evaluation import Evaluation
from harmose.inference.checkpoint import load
from harmose.spin import Spin

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = ("phases.stage1.steps=3", "phases.stage2.steps=2", "validations=1", "tensorboard=false", "time_limit=null")
COUPLING = 0.3
"""eV."""


def with_coupling(sample: Sample) -> Sample:
    """The sample with L . S on the 2p shell of each Li: Im H_k = - `COUPLING` * epsilon_kab, in the order y, z, x."""
    h, epsilon = sample.hamiltonian, np.zeros((3, 3, 3))
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        epsilon[k, a, b], epsilon[k, b, a] = 1.0, -1.0
    channels = np.zeros((4, h.values.shape[1]))
    channels[0] = np.sqrt(2) * h.values[0]
    for atom in np.flatnonzero(h.numbers == 3):
        own = channels[1:, h.offsets[atom] : h.offsets[atom + 1]].reshape(3, 5, 5)  # 1s 2s 2p
        own[:, 2:, 2:] = -np.sqrt(2) * COUPLING * epsilon
    values = Spin.SPINOR.from_channels(channels)
    return replace(sample, hamiltonian=BlockMatrix(h.basis, h.numbers, h.pairs, values, Spin.SPINOR), spin=Spin.SPINOR)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spin"), [("mos2", Spin.NONE), ("bisb-soc", Spin.SPINOR)])
def test_from_a_store_to_an_evaluation(name, spin, chain_basis, tmp_path):  # noqa: F811
    cells = [labelled(f"c{seed}", chain(seed, "HLiHLi"), chain_basis) for seed in range(6)]
    with new_store(tmp_path / "store", chain_basis, spin, metadata={"code": "model", "valence": VALENCE}) as store:
        for cell in cells:
            store.append(with_coupling(cell) if spin is Spin.SPINOR else cell)
        store.set_splits({"train": [f"c{k}" for k in range(4)], "val": ["c4"], "test": ["c5"]})
    files = [f"data={tmp_path / 'store'}", f"out={tmp_path / 'model'}"]
    assert main(["train", str(CONFIGS / f"{name}.yaml"), *files, *SHORT]) == 0
    card = load(tmp_path / "model").card
    assert (card.spin, card.energy_zero, card.periodic) == (spin, "labels", True)
    out = tmp_path / "evaluation"
    assert (
        main(["evaluate", str(tmp_path / "model"), str(tmp_path / "store"), "--rotations", "0", "--out", str(out)]) == 0
    )
    found = Evaluation.from_json((out / "evaluation.json").read_text())
    regression = found.stages["regression"]
    assert (found.n_samples, regression.ghost_states) == (1, 0)
    assert regression.mae < 0.1
    if spin is Spin.SPINOR:
        assert regression.splittings_relative is not None
        assert regression.splittings_relative < 0.2
    else:
        assert regression.splittings is None
