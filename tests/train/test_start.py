"""Trainings that start from a model: what they change, what they leave as it is, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ConfigError, HarmoseError, ModelError
from harmose.inference.checkpoint import load
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import basis_set, overlap, to_blocks
from harmose.io.pyscf.pyscf import molecule as pyscf_molecule
from harmose.train.engine import train
from harmose.train.start import load_start

ALONE = ["regression=kernel", *(f"phases.{phase}.steps=0" for phase in ("stage1", "stage2", "joint"))]
"""The regression alone."""


def labelled(atoms: Atoms, basis, name: str) -> Sample:
    """Kinetic energy plus nuclear attraction as H, its half as H0."""
    mol = pyscf_molecule(atoms, "sto-3g")
    h = to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), zeros(atoms, basis))
    s = overlap(atoms, "sto-3g", basis)
    return Sample(name, atoms, basis, h, s, h.with_values(h.values / 2), n_electrons=float(atoms.numbers.sum()))


def bent(k: int) -> Atoms:
    """Water that is stretched and opened, with its atoms displaced: another molecule of the same elements."""
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 1.25, -0.2], [0.0, -1.25, -0.2]])
    return Atoms("OHH", positions + 0.03 * np.random.default_rng(100 + k).normal(size=(3, 3)))


def new_store(path: Path, structures: list[Atoms], metadata: dict | None = None) -> Path:
    """A store of these structures, the last two in the split val."""
    basis = basis_set("sto-3g", sorted({int(z) for atoms in structures for z in atoms.numbers}))
    with Store.create(path, basis, metadata={"functional": "hf", "basis": "sto-3g"} | (metadata or {})) as store:
        for k, atoms in enumerate(structures):
            store.append(labelled(atoms, basis, f"new-{k}"))
        names = store.names()
        store.set_splits({"train": names[:-2], "val": names[-2:]})
    return path


@pytest.fixture
def bent_store(tmp_path) -> Path:
    return new_store(tmp_path / "bent", [bent(k) for k in range(8)])


def errors(model, path: Path) -> np.ndarray:
    """Mean |dH| of the samples of val in eV."""
    with Store.open(path) as store:
        samples = [store[name] for name in store.splits["val"]]
    predicted = model.predict_many([sample.structure for sample in samples])
    return np.array([np.abs(h.values - x.hamiltonian.values).mean() for h, x in zip(predicted, samples, strict=True)])


@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
def test_a_correction_learns_new_structures_and_keeps_all_others(small_config, bent_store, water_store, water_atoms):
    base = train(small_config("base", *ALONE))
    out = train(small_config("tuned", f"data={bent_store}", f"init={base}", "regression=kernel"))
    before, after = load(base), load(out)
    assert errors(after, bent_store).mean() < errors(before, bent_store).mean() / 3
    np.testing.assert_allclose(errors(after, water_store), errors(before, water_store), rtol=0.1)
    assert after.network is None
    assert after.card.init["model"] == str(base)
    assert (after.card.init["regression"], after.card.init["n_train"], after.card.n_train) == ("correct", 6, 6)
    assert len(after.regression.corrections) == 1

    # what is left out is what it was
    water, far = water_atoms(3), bent(0)
    far.positions *= 3.0
    for stage in ("prior", "pairs"):
        a, b = (model.predict(water, stage=stage).values for model in (before, after))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(after.predict(far).values, before.predict(far).values, atol=1e-6)
    assert errors_in_parts(after, bent(50)) < 1e-9

    # scores, bounds
    inside = after.uncertainty(bent(51))
    assert not inside.outside
    assert before.uncertainty(bent(51)).outside
    assert (after.calibration.block_factors >= before.calibration.block_factors).all()
    assert after.card.calibration["further_samples"] == 2

    # a second start adds a second correction
    twice = load(train(small_config("twice", f"data={water_store}", f"init={out}", "regression=kernel")))
    assert len(twice.regression.corrections) == 2
    assert twice.card.init["init"]["model"] == str(base)
    assert errors(twice, bent_store).mean() < errors(before, bent_store).mean() / 3


def errors_in_parts(model, atoms: Atoms) -> float:
    """Largest difference between a prediction in parts and one as a whole."""
    return float(np.abs(model.predict(atoms, partition=2).values - model.predict(atoms, partition="off").values).max())


def test_a_network_goes_on_from_its_weights(small_config, bent_store, tmp_path):
    base = train(small_config("base", "regression=kernel"))
    before = load(base)
    start = load_start(small_config("start", f"data={bent_store}", f"init={base}", "regression=kernel"))
    assert start is not None
    assert start.card_entry["regression"] == "correct"
    for how in ("correct", "keep"):
        config = small_config(how, f"data={bent_store}", f"init={base}", f"init_regression={how}", *ALONE)
        after = load(train(config))
        state = before.network.state_dict()
        assert all(torch.equal(x, state[name]) for name, x in after.network.state_dict().items())
        assert len(after.regression.corrections) == (how == "correct")
    still = [f"phases.{phase}.learning_rate=1e-12" for phase in ("stage1", "stage2", "joint")]
    after = load(train(small_config("on", f"data={bent_store}", f"init={base}", "regression=kernel", *still)))
    for name, x in after.network.state_dict().items():
        if name.startswith("stage2.output_scale"):  # of a stage 2 that no phase of the model had improved
            continue
        torch.testing.assert_close(x, before.network.state_dict()[name], rtol=0, atol=1e-6)


def test_a_refit_keeps_the_scales(small_config, bent_store):
    base = train(small_config("base", "regression=kernel"))
    keys = [f"data={bent_store}", f"init={base}", "init_regression=refit", *ALONE]
    before, after = load(base), load(train(small_config("refit", *keys)))
    assert not after.regression.corrections
    for pair_type, scale in before.normalizer.pair_scale.items():
        np.testing.assert_array_equal(after.normalizer.pair_scale[pair_type], scale)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["regression=pairs"], "regression: expected kernel, as in the model .*, got pairs; leave the key out"),
        (["prior=H0"], "prior: expected none, as in the model .*, got H0; leave the key out"),
        (["init_regression=keep"], "init_regression: expected correct, since .* has no network, got keep"),
        (["init_regression=refit"], "init_regression: expected correct, since .* has no network, got refit"),
    ],
)
def test_keys_that_contradict_the_model(small_config, keys, message):
    base = train(small_config("base", *ALONE, "calibrate=false"))
    with pytest.raises(ConfigError, match=message):
        train(small_config("tuned", f"init={base}", "regression=kernel", *keys))


def test_keys_that_contradict_the_network(small_config):
    base = train(small_config("base", "calibrate=false"))
    with pytest.raises(
        ConfigError, match=r"network.stage1.hidden: expected 8, as in the model .*, got 4; leave the key out"
    ):
        train(small_config("tuned", f"init={base}", "network.stage1.hidden=4"))
    with pytest.raises(ConfigError, match="expected init, the model to start from, with init_regression"):
        small_config("tuned", "init_regression=keep")


def test_labels_of_another_kind(small_config, tmp_path, bent_store):
    base = train(small_config("base", *ALONE, "calibrate=false"))
    waters = [bent(k) for k in range(4)]
    refused: list[tuple[Path, type[HarmoseError], str]] = [
        (
            new_store(tmp_path / "pbe", waters, {"functional": "pbe"}),
            ModelError,
            "expected labels of functional hf, as the model",
        ),
        (
            new_store(tmp_path / "carbon", [molecule("CH4") for _ in range(4)]),
            ModelError,
            "expected elements of the model .* got C",
        ),
        (
            new_store(tmp_path / "peroxide", [molecule("H2O2") for _ in range(4)]),
            ModelError,
            "pairs of elements .* got 8-8",
        ),
    ]
    for path, kind, message in refused:
        with pytest.raises(kind, match=message):
            train(small_config(f"on-{path.name}", f"data={path}", f"init={base}", *ALONE))
    reads = train(small_config("reads", *ALONE, "prior=H0", "calibrate=false"))
    path = new_store(tmp_path / "spherical", waters, {"prior": "spherical"})
    with pytest.raises(ModelError, match=r"expected an H0 of kind exact, as the model.s, got spherical"):
        train(small_config("on-spherical", f"data={path}", f"init={reads}", *ALONE, "prior=H0"))
    with pytest.raises(HarmoseError, match="no such model"):
        small_config("none", "init=no-such-model")


def test_a_resumed_training_goes_on(small_config, bent_store, monkeypatch):
    import signal

    from safetensors.torch import load_file

    from harmose.train.engine import Trainer

    base = train(small_config("base", "regression=kernel", "calibrate=false"))
    keys = [f"data={bent_store}", f"init={base}", "regression=kernel", "calibrate=false"]
    whole = train(small_config("whole", *keys))
    original = Trainer._report

    def with_signal(self, *args):
        if self.state.step == 3:
            signal.raise_signal(signal.SIGINT)
        return original(self, *args)

    monkeypatch.setattr(Trainer, "_report", with_signal)
    with pytest.raises(KeyboardInterrupt):
        train(small_config("parts", *keys))
    monkeypatch.undo()
    a, b = (load_file(out / "model.safetensors") for out in (whole, train(small_config("parts", *keys))))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
