"""Pickles of plain values are understood, of every protocol since 2; all others are refused and never run."""

import os
import pickle
from contextlib import suppress

import numpy as np
import pytest

from harmose.errors import FormatError
from harmose.io.plain_pickle import plain_dictionary

PLAIN = {
    "id": 12345678901,
    "small": 7,
    "negative": -70000,
    "half": 0.5,
    "nothing": None,
    "yes": True,
    "text": "äöü" * 100,
    "bytes": bytes(range(256)) * 300,
    "short": b"x",
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values(protocol):
    assert plain_dictionary(pickle.dumps(PLAIN, protocol=protocol)) == PLAIN
    shared = b"the same object twice" * 20
    again = plain_dictionary(pickle.dumps({"a": shared, "b": shared, "c": "a"}, protocol=protocol))
    assert again == {"a": shared, "b": shared, "c": "a"}
    many = {str(k): k for k in range(5000)}
    assert plain_dictionary(pickle.dumps(many, protocol=protocol)) == many


class Runs:
    def __reduce__(self):
        return os.mkdir, ("harm",)


CODE = [{"a": Runs()}, Runs(), {"a": np.arange(3)}, {"a": np.float64(1)}, {"a": os.mkdir}, {"a": [1]}, {"a": {1}}]


@pytest.mark.parametrize("value", CODE)
def test_code_is_not_run(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    for protocol in range(6):
        with pytest.raises(FormatError, match="expected a pickled dictionary of numbers and bytes, got"):
            plain_dictionary(pickle.dumps(value, protocol=protocol))
    assert not list(tmp_path.iterdir())


def test_damage():
    good = pickle.dumps(PLAIN, protocol=4)
    for bad in (b"", b"hello", good[:-1], good[:500], good[20:], pickle.dumps(3), pickle.dumps({1: 2}), b"\x80\x04u."):
        with pytest.raises(FormatError, match="expected a pickled dictionary"):
            plain_dictionary(bad)
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(good)
        spoiled[rng.integers(0, 120)] = rng.integers(0, 256)
        with suppress(FormatError):
            assert isinstance(plain_dictionary(bytes(spoiled)), dict)
