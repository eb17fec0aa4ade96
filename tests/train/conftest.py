"""A training small enough for a test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule

from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import molecule as pyscf_molecule
from harmose.io.pyscf.pyscf import overlap, to_blocks
from harmose.train.config import TrainConfig, load_config

SMALL = {
    "network": {
        "stage1": {"channels": 4, "pseudo_channels": 2, "scalars": 8, "so2_channels": 4, "pseudoscalars": 2,
                    "hidden": 8, "radial": 8, "layers": 1},
        "stage2": {"heads": 2, "channels": 4, "pseudo_channels": 2, "scalars": 8, "so2_channels": 4,
                    "pseudoscalars": 2, "hidden": 8, "mlp_layers": 1, "turns": 2},
    },
    "phases": {
        "stage1": {"steps": 6, "warmup": 2, "batch_size": 2},
        "stage2": {"steps": 5, "warmup": 2, "batch_size": 2},
        "joint": {"steps": 4, "warmup": 2, "batch_size": 2},
    },
    "validations": 2,
    "accelerator": "cpu",
    "tensorboard": False,
    "regression": "pairs",
}  # fmt: skip


@pytest.fixture
def mixed_store(tmp_path, water_basis, water_sample, water_atoms) -> Store:
    """Hydrogen, hydrogen peroxide and water in turn: samples with different numbers of pairs in each group."""
    path = tmp_path / "mixed"
    generator = np.random.default_rng(1)
    with Store.create(path, water_basis) as store:
        for k in range(9):
            atoms = [molecule("H2"), molecule("H2O2"), water_atoms(k)][k % 3]
            atoms.positions += 0.02 * generator.normal(size=atoms.positions.shape)
            mol = pyscf_molecule(atoms, "sto-3g")
            h = to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), zeros(atoms, water_basis))
            s = overlap(atoms, "sto-3g", water_basis)
            store.append(Sample(f"m{k}", atoms, water_basis, h, s, h.with_values(h.values / 2)))
    return Store.open(path)


@pytest.fixture
def small_config(tmp_path, water_store) -> Callable[..., TrainConfig]:
    """`small_config(out, "key=value", ...)`: three phases of a few steps on six waters."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))

    def make(out: str | Path = "run", *overrides: str) -> TrainConfig:
        return load_config(path, [f"data={water_store}", f"out={tmp_path / out}", *overrides])

    return make


class Ticks:
    """A clock for tests: every reading is `step` seconds after the one before."""

    def __init__(self, step: float) -> None:
        self.step, self.time = step, 0.0

    def __call__(self) -> float:
        self.time += self.step
        return self.time


@pytest.fixture
def ticks() -> type[Ticks]:
    """`ticks(step)`: a clock that advances by `step` seconds at each reading."""
    return Ticks
