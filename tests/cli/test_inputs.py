"""Choice of samples by the commands."""

from types import SimpleNamespace

import pytest

from harmose.cli.inputs import split_names
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, ModelError
from harmose.train.start import check_kind_of_prior


def test_split_names(water_store):
    with Store.open(water_store, writable=True) as store:
        assert split_names(store, None) == ["water-6", "water-7"]
        store.set_splits({"train": ["water-0"], "val": ["water-1"], "test": ["water-2"]})
        assert split_names(store, None) == ["water-2"]
        store.set_splits({"train": ["water-0"], "test": []})
        assert split_names(store, None) == split_names(store, "all") == store.names()
        with pytest.raises(FormatError, match="no samples"):
            split_names(store, "test")
        with pytest.raises(ConfigError, match="expected a split among train, test, all"):
            split_names(store, "val")


@pytest.mark.parametrize("needs_prior", [True, False])
def test_the_kind_of_h0_matters_to_models_that_add_it(tmp_path, water_sample, needs_prior):
    card = SimpleNamespace(reads_prior=needs_prior, settings={"prior": "spherical"})
    basis = water_sample(0).basis
    with Store.create(tmp_path / "same", basis, metadata={"prior": "spherical"}) as store:
        check_kind_of_prior(card, store)
    with Store.create(tmp_path / "other", basis) as store:
        if needs_prior:
            with pytest.raises(
                ModelError, match="expected an H0 of kind spherical, as the model's, got exact: `harmose"
            ):
                check_kind_of_prior(card, store)
        else:
            check_kind_of_prior(card, store)
