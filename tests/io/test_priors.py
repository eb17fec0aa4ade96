"""Another H0 for the labels of a store; what else they hold stays as it is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from harmose.cli import app
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.evaluate.predictions import _prior
from harmose.io.priors import replace_priors
from harmose.io.pyscf.pyscf import PySCFSettings, prior
from harmose.io.structures import read_structures
from harmose.label.label import label

SETTINGS = PySCFSettings("b3lypg", "sto-3g", grid_level=0)


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    """Two labelled molecules, and one that failed."""
    folder = tmp_path_factory.mktemp("labels")
    write(folder / "few.xyz", [molecule("H2O"), molecule("NH3")], format="extxyz")
    label(read_structures(folder / "few.xyz"), folder / "store", SETTINGS, 1)
    with Store.open(folder / "store", writable=True) as store:
        store.set_splits({"train": store.names()[:1], "test": store.names()[1:]})
        store.remember_failure("other", "not converged")
    return folder / "store"


def test_only_h0_changes(labels, tmp_path):
    with Store.open(labels) as old:
        assert list(replace_priors(old, tmp_path / "new", "spherical")) == old.names()
        with Store.open(tmp_path / "new") as new:
            assert new.metadata == {**old.metadata, "prior": "spherical"}
            assert (new.splits, new.failures) == (old.splits, old.failures)
            for name in old.names():
                before, after = old[name], new[name]
                np.testing.assert_array_equal(after.hamiltonian.values, before.hamiltonian.values)
                np.testing.assert_array_equal(after.overlap.values, before.overlap.values)
                expected = prior(before.structure, replace(SETTINGS, prior="spherical"), old.basis)
                np.testing.assert_allclose(after.prior.values, expected.values, atol=1e-9)
                assert after.provenance == {**before.provenance, "prior": "spherical"}
            list(replace_priors(new, tmp_path / "back", "exact"))
        with Store.open(tmp_path / "back") as back:
            assert back.metadata == old.metadata
            for name in old.names():
                np.testing.assert_allclose(back[name].prior.values, old[name].prior.values, atol=1e-9)


def test_labels_are_made_with_it(tmp_path):
    write(tmp_path / "one.xyz", molecule("H2O"), format="extxyz")
    command = [
        "--functional",
        "pbe",
        "--basis",
        "sto-3g",
        "--grid-level",
        "0",
        "--prior",
        "spherical",
        "--workers",
        "1",
    ]
    done = CliRunner().invoke(app, ["label", str(tmp_path / "one.xyz"), str(tmp_path / "store"), *command])
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "store") as store:
        (sample,) = (store[name] for name in store.names())
        settings = PySCFSettings("pbe", "sto-3g", grid_level=0, prior="spherical")
        assert store.metadata["prior"] == sample.provenance["prior"] == "spherical"
        expected = prior(sample.structure, settings, store.basis)
        np.testing.assert_allclose(sample.prior.values, expected.values, rtol=0, atol=1e-9)


def test_the_command(labels, tmp_path):
    done = CliRunner().invoke(app, ["data", "prior", str(labels), str(tmp_path / "new"), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("new: 2 samples")
    again = CliRunner().invoke(app, ["data", "prior", str(labels), str(tmp_path / "new")])
    assert isinstance(again.exception, FormatError)
    assert "--force replaces it" in str(again.exception)


def test_labels_of_another_code(labels, tmp_path, monkeypatch):
    with Store.open(labels) as store:
        monkeypatch.setattr(Store, "metadata", {"code": "cp2k"})
        with pytest.raises(FormatError, match="expected labels of PySCF, whose H0 is computed, got cp2k"):
            list(replace_priors(store, tmp_path / "new", "spherical"))


def test_models_take_h0_of_their_own_kind_only(labels):
    with Store.open(labels) as store:
        sample = store[store.names()[0]]
    own, other = (SimpleNamespace(card=SimpleNamespace(settings=s)) for s in ({}, {"prior": "spherical"}))
    assert _prior(sample, own) is sample.prior
    assert _prior(sample, other) is None
