"""The registry of formats: what is built in, and formats of other packages."""

from dataclasses import replace

import pytest

from harmose.core.files import atomic_path
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.io import formats
from harmose.io.files import open_source, read, read_all, writable_formats, write
from harmose.io.formats import Format, format_named, register
from harmose.io.npz import read_npz, write_npz
from harmose.testing import assert_round_trip


@pytest.fixture
def own_format(monkeypatch):
    """A format of folders with a toy.npz, unregistered after the test."""
    monkeypatch.setattr(formats, "_FORMATS", formats.formats())

    def save(path, sample):
        with atomic_path(path, overwrite=False) as hidden:
            hidden.mkdir()
            write_npz(hidden / "toy.npz", sample)

    def load(path, basis=None):
        sample = replace(read_npz(path / "toy.npz"), name=path.name)
        return sample if basis is None else replace(sample, basis=basis)

    own = Format("toy", "toy samples", lambda path: (path / "toy.npz").is_file(), load, write=save)
    register(own)
    return own


def test_builtin_formats():
    names = [format.name for format in formats.formats()]
    assert len(set(names)) == len(names)
    for format in formats.formats():
        assert format.read or format.open or format.write
        assert not (format.read and format.open)
        assert format.description
    assert writable_formats() == ["store", "npz", "deeph", "deeph-legacy", "wannier90", "petsc"]
    with pytest.raises(FormatError, match=r"format: expected one of qh9-lmdb, .*, petsc, got 'none'"):
        format_named("none")


def test_registered_format_is_read_and_written(own_format, tmp_path, water_sample):
    (tmp_path / "runs").mkdir()
    write(tmp_path / "runs" / "a", water_sample(0), "toy")
    write(tmp_path / "runs" / "b", water_sample(1), "toy")
    assert read(tmp_path / "runs" / "a").name == "a"
    assert [sample.name for sample in read_all(tmp_path / "runs")] == ["a", "b"]
    assert "toy" in writable_formats()
    assert_round_trip(read, own_format.write, water_sample(2), tmp_path / "c")


def test_registered_format_comes_first_and_replaces_its_name(own_format, tmp_path, water_store):
    greedy = Format("toy", "everything", lambda path: True, open=Store.open)
    register(greedy)
    assert [format.name for format in formats.formats()].count("toy") == 1
    assert format_named("toy") is greedy
    assert open_source(water_store).names()[0] == "water-0"
    with pytest.raises(FormatError, match=r"expected no basis set to read it in, it has its own \(everything\)"):
        read(water_store, "water-0", basis=Store.open(water_store).basis)


def test_format_that_is_only_written(tmp_path, random_crystal):
    write(tmp_path / "x", random_crystal(), "wannier90")
    with pytest.raises(FormatError, match="not recognised"):
        read(tmp_path / "x")
    with pytest.raises(FormatError, match="harmose writes the format wannier90, but does not read it"):
        read(tmp_path / "x", format="wannier90")
