"""Models that read initial magnetic moments: each order of one structure has its own H, and reversed moments exchange up and down."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from harmose.core.moments import with_reversed_moments
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import FormatError, ModelError
from harmose.inference.checkpoint import load
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import molecule, to_blocks
from harmose.representation.concatenation import TargetSettings
from harmose.spin import Spin
from harmose.train.calibrate import calibrated_on
from harmose.train.engine import train
from harmose.train.fit import fit_to_samples, load_targets
from harmose.train.reversals import StoreWithReversals, with_reversals

SPLITTING = 0.1
"""Hartree."""


def labelled(sample: Sample, name: str, moments: list[float]) -> Sample:
    """Kinetic energy and nuclear attraction; the orbitals of an atom with moment m are lower for spin up where m > 0."""
    atoms = sample.structure.copy()
    atoms.set_initial_magnetic_moments(moments)
    mol = molecule(sample.structure, "sto-3g")
    h, s = mol.intor("int1e_kin") + mol.intor("int1e_nuc"), mol.intor("int1e_ovlp")
    parts = [m * s[:, a:b] @ s[a:b] for m, (a, b) in zip(moments, mol.aoslice_by_atom()[:, 2:])]
    split = SPLITTING * np.sum(parts, axis=0)
    blocks = to_blocks(np.stack([h - split, h + split]), zeros(atoms, sample.basis, Spin.COLLINEAR))
    return replace(
        sample, name=name, structure=atoms, hamiltonian=blocks, spin=Spin.COLLINEAR, prior=None, orbital_energies=None
    )


@pytest.fixture
def store(tmp_path, water_basis, water_sample) -> Store:
    """Waters whose hydrogen atoms have parallel or opposite moments, each kind up first or down first."""
    path = tmp_path / "magnetic"
    with Store.create(path, water_basis, Spin.COLLINEAR) as new:
        for seed in range(12):
            first = 1.0 if seed % 4 < 2 else -1.0
            moments = [0.0, first, first if seed % 2 else -first]
            new.append(labelled(water_sample(seed), f"w{seed}", moments))
        new.set_splits({"train": [f"w{k}" for k in range(10)], "val": ["w10", "w11"]})
    return Store.open(path)


@pytest.fixture
def model(store, small_config):
    return load(train(small_config("model", f"data={store.path}", "inputs.moments=true", "regression=kernel")))


def with_moments(atoms: Atoms, *moments: float) -> Atoms:
    out = atoms.copy()
    out.info.pop("spin", None)
    out.set_initial_magnetic_moments(moments)
    return out


def test_orders_of_one_structure(model, store, tmp_path, water_sample):
    assert model.card.inputs.moments
    assert model.card.moments == {"H": (-1, 1), "O": (0,)}
    assert model.card.n_train == 10
    atoms = water_sample(20).structure
    for moments in ([0, 1, 1], [0, 1, -1], [0, -1, 1]):
        expected = labelled(water_sample(20), "new", moments).hamiltonian
        h = model.predict(with_moments(atoms, *moments))
        ours, theirs = (x.values[0] - x.values[1] for x in (h, expected))
        assert np.abs(ours - theirs).mean() < 0.1 * np.abs(theirs).mean()
        reverse = model.predict(with_moments(atoms, *(-np.array(moments))))
        np.testing.assert_array_equal(reverse.values, h.values[::-1])
    parallel, opposite = (model.predict(with_moments(atoms, 0, 1, m)).values for m in (1, -1))
    assert np.abs(parallel - opposite).max() > 1.0
    # sizes of moments do not count, only their signs
    np.testing.assert_array_equal(model.predict(with_moments(atoms, 0.01, 3.5, 0.2)).values, parallel)


def test_every_way_to_predict(model, tmp_path, water_sample):
    atoms = with_moments(water_sample(21).structure, 0, -1, 1)
    h = model.predict(atoms)
    np.testing.assert_allclose(model.predict(atoms, partition=2).values, h.values, atol=2e-5)
    many = model.predict_many([with_reversed_moments(atoms), atoms])
    np.testing.assert_allclose(many[0].values, h.values[::-1], atol=1e-5)
    u = model.uncertainty(atoms)
    np.testing.assert_array_equal(u.hamiltonian.values, h.values)
    for stage in ("regression", "stage1"):
        one, other = (model.predict(x, stage=stage).values for x in (atoms, with_reversed_moments(atoms)))
        np.testing.assert_array_equal(one, other[::-1])


def test_a_structure_that_does_not_state_its_moments(model, water_sample):
    atoms = water_sample(0).structure
    with pytest.raises(ModelError, match=r"structure: expected the initial magnetic moment of each atom, which the model reads, "
                       r"got none; state them by atoms.set_initial_magnetic_moments"):  # fmt: skip
        model.predict(atoms)
    with pytest.raises(ModelError, match=r"of the training set for O \(no moment\), got moment up"):
        model.predict(with_moments(atoms, 1, 1, 1))
    vectors = atoms.copy()
    vectors.set_initial_magnetic_moments(np.eye(3))
    with pytest.raises(
        ModelError, match="an up or down magnetic moment of each atom for a collinear model, got vectors"
    ):
        model.predict(vectors)


def test_calibration_anew(model, store):
    names = store.splits
    again = calibrated_on(model, store, names["train"], names["val"], refit=True)
    assert again.card.calibration["samples"] == 2
    assert again.card.calibration["groups"] == 12  # a sample and its reverse are one


def test_a_sample_and_its_reverse_are_left_out_together(store):
    names = with_reversals(store.splits["train"])
    targets = load_targets(StoreWithReversals(store), names, TargetSettings(moments=True))
    assert targets.originals.tolist() == [*range(10), *range(10)] or len(set(targets.originals)) == 10
    np.testing.assert_array_equal(targets.originals[:10], targets.originals[10:])
    fit = fit_to_samples(targets, "pairs")
    assert fit.space.kinds == ((1, -1), (1, 1), (8, 0))


def test_labels_without_moments(store, tmp_path, water_store, small_config, water_basis, water_sample):
    with pytest.raises(FormatError, match=r"expected collinear labels for inputs\.moments, got spin none"):
        train(small_config("none", "inputs.moments=true"))
    for moments, text in ((None, "expected the initial magnetic moment of each atom for inputs.moments, got none"),
                          ([0, 0, 0], "got zeros in all training samples")):  # fmt: skip
        path = tmp_path / f"unstated-{moments is None}"
        with Store.create(path, water_basis, Spin.COLLINEAR) as new:
            for k in range(3):
                sample = labelled(water_sample(k), f"w{k}", [0.0, 0.0, 0.0])
                if moments is None:
                    del sample.structure.arrays["initial_magmoms"]
                new.append(sample)
            new.set_splits({"train": ["w0", "w1"], "val": ["w2"]})
        with pytest.raises(FormatError, match=text):
            train(small_config(path.name + "-out", f"data={path}", "inputs.moments=true"))


def test_a_set_that_is_prepared_in_parts(model, store, small_config):
    """Processes read the reversed samples, too."""
    options = "inputs.moments=true", "regression=kernel", "memory=0.4MB", "threads=2"
    found = load(train(small_config("parts", f"data={store.path}", *options)))
    assert found.card.n_train == 10
    assert found.card.moments == model.card.moments
    assert found.card.metrics["mae_val_full"] < 5 * model.card.metrics["mae_val_full"]
