"""Choice of samples by the commands."""

import pytest

from harmose.cli.inputs import split_names
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError


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
