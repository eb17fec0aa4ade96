"""`read` finds out what a path is; `write` never overwrites."""

import numpy as np
import pytest

from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.files import read, write


@pytest.mark.parametrize("target", ["water.npz", "water"])
def test_written_samples_are_read_again(tmp_path, water_sample, target):
    sample = water_sample(3)
    write(tmp_path / target, sample)
    again = read(tmp_path / target)
    assert again.name == "water-3"
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert read(str(tmp_path / target), "water-3").name == "water-3"
    with pytest.raises(FormatError, match="expected a new path"):
        write(tmp_path / target, sample)


def test_a_store_of_many_wants_a_name(water_store):
    assert read(water_store, "water-2").name == "water-2"
    with pytest.raises(FormatError, match=r"the name of one of its 8 samples \(water-0, water-1, water-2, \.\.\.\)"):
        read(water_store)
    with pytest.raises(FormatError, match="no sample named 'fire'"):
        read(water_store, "fire")


def test_other_paths_are_refused(tmp_path, water_basis, water_sample):
    with pytest.raises(FormatError, match="no such file or folder"):
        read(tmp_path / "nothing")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(
        FormatError, match=r"text\.txt: not recognised, it is a file of 5 bytes; known are: .*store \(harmose's own\)"
    ):
        read(tmp_path / "text.txt")
    write(tmp_path / "one.npz", water_sample(0))
    with pytest.raises(FormatError, match="expected the sample 'water-1', got 'water-0'"):
        read(tmp_path / "one.npz", "water-1")
    Store.create(tmp_path / "empty", water_basis).close()
    with pytest.raises(FormatError, match="one of its 0 samples"):
        read(tmp_path / "empty")
