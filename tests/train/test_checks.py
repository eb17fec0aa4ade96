"""Checks before a training: splits, number of samples, and what a Fermi level needs."""

from dataclasses import replace

import pytest
from tests.io.orbital_sets import sample_of

from harmose.data.store import Store, new_store
from harmose.errors import ConfigError, FormatError, ModelError
from harmose.train.checks import check, label_settings, training_names


def test_a_store_that_will_do(small_config, water_store):
    with Store.open(water_store) as store:
        assert check(store, small_config()) is None
        assert training_names(store, small_config("run", "train_samples=2")) == ["water-0", "water-1"]


@pytest.mark.parametrize("key", ["train_split", "val_split"])
def test_a_missing_split_is_named(small_config, water_store, key):
    with Store.open(water_store) as store, pytest.raises(FormatError, match="in the split other; the store's splits"):
        check(store, small_config("run", f"{key}=other"))


def test_too_many_samples(small_config, water_store):
    with Store.open(water_store) as store, pytest.raises(ConfigError, match="at most the 6 of train, got 9"):
        check(store, small_config("run", "train_samples=9"))


def test_valence_electrons_follow_from_the_labels(water_store):
    """Waters alone hold H and O in one ratio: their electrons do not follow."""
    with Store.open(water_store) as store:
        assert "valence" not in label_settings(store, store.names())


def test_valence_electrons_that_labels_state(tmp_path, water_basis, water_sample):
    with new_store(tmp_path / "stated", water_basis, metadata={"code": "siesta"}) as store:
        store.append(water_sample(0, provenance={"valence": {"H": 1.0, "O": 6.0}}))
    with Store.open(tmp_path / "stated") as store:
        assert label_settings(store, ["water-0"])["valence"] == {"H": 1.0, "O": 6.0}


def test_a_fermi_level_needs_electrons(small_config, water_store):
    with Store.open(water_store) as store, pytest.raises(ModelError, match="valence electrons"):
        check(store, small_config("run", "energy_zero=fermi_of_prediction"))


def test_two_sets_of_orbitals_of_one_element(small_config, tmp_path):
    sample = sample_of()
    with new_store(tmp_path / "sets", sample.basis, sample.spin, {}) as store:
        store.append_all([sample, replace(sample, name="again")])
        store.set_splits({"train": ["sets"], "val": ["again"]})
    expected = r"expected one set of orbitals for each element to train on, got C and C\(2\); give"
    with Store.open(tmp_path / "sets") as store, pytest.raises(FormatError, match=expected):
        check(store, small_config())
