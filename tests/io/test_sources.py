"""Folders of calculations are read in one basis set."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError, FormatError, HarmoseError
from harmose.io.deeph.deeph import read_deeph
from harmose.io.sources import Runs, common_basis

SHELLS = {1: (Shell(1, 0),), 6: (Shell(2, 0), Shell(2, 1))}


def basis(radii, shells=SHELLS, name="x"):
    return BasisSet(name, {z: shells[z] for z in radii}, radii)


def test_common_basis():
    both = common_basis(basis({1: 2.0, 6: 3.5}), basis({6: 3.0}))
    assert dict(both.radii) == {1: 2.0, 6: 3.5}
    assert common_basis(basis({6: 3.0}), basis({1: 2.0, 6: 3.5})) == both
    with pytest.raises(BasisError, match="two different sets of shells for C"):
        common_basis(basis({6: 3.0}), basis({6: 3.0}, {6: (Shell(2, 0),)}))
    with pytest.raises(BasisError, match="expected calculations in one basis set, got x and y"):
        common_basis(basis({6: 3.0}), basis({6: 3.0}, name="y"))


def test_common_basis_of_several_sets_of_orbitals():
    """A run whose atoms have some of the sets of orbitals of another run takes its numbers, in any order."""
    small = (Shell(2, 0),)
    both = basis({6: 3.0, 1006: 2.5, 1: 2.0}, SHELLS | {1006: small})
    alone = basis({6: 2.8}, {6: small})
    for found in (common_basis(both, alone), common_basis(alone, both)):
        assert dict(found.shells) == dict(both.shells)
        assert dict(found.radii) == {1: 2.0, 6: 3.0, 1006: 2.8}
    with pytest.raises(BasisError, match="two different sets of shells for C"):
        common_basis(both, basis({6: 2.8}, {6: (Shell(3, 0),)}))


@pytest.fixture
def reader(tmp_path, water_sample):
    """A reader with radii of 6 angstrom in `a`, 7 in `b`, and an error in `c`; and the list of its calls."""
    calls = []

    def read(folder, basis=None):
        calls.append((folder.name, basis))
        if folder.name == "c":
            raise FormatError("c: damaged")
        sample = water_sample(1)
        own = basis or replace_radii(sample.basis, 6.0 if folder.name == "a" else 7.0)
        h = replace(sample.hamiltonian, basis=own)
        return replace(sample, name=folder.name, basis=own, hamiltonian=h, overlap=None, prior=None)

    return read, calls


def replace_radii(own, radius):
    return BasisSet(own.name, own.shells, dict.fromkeys(own.shells, radius))


def test_common_radii_of_runs(tmp_path, reader):
    read, calls = reader
    runs = Runs({"first": tmp_path / "a", "second": tmp_path / "b", "third": tmp_path / "c"}, read)
    assert runs.names() == ["first", "second", "third"]
    assert calls == []
    assert list(runs.survey()) == ["first", "second", "third"]
    assert list(runs.survey()) == []
    assert runs["first"].basis.radii[1] == 7.0
    assert runs["first"].name == "first"
    with pytest.raises(HarmoseError, match="c: damaged"):
        runs["third"]
    with pytest.raises(FormatError, match="no calculation named 'x'; there are first, second, third"):
        runs["x"]
    assert len(calls) == 6


def test_single_run_and_basis_argument(tmp_path, reader, water_basis):
    read, calls = reader
    assert Runs({"a": tmp_path / "a"}, read)["a"].basis.radii[1] == 6.0
    assert len(calls) == 1
    wide = replace_radii(water_basis, 9.0)
    assert Runs({"a": tmp_path / "a", "b": tmp_path / "b"}, read, wide)["b"].basis == wide
    assert len(calls) == 2


def test_a_run_that_cannot_be_read_says_why(tmp_path, water_sample):
    """Its own error, not how it differs from the basis set of the others."""

    def read(path, basis):
        if path.name == "good":
            return water_sample(0)
        raise FormatError(
            "bad: expected H(R), got their sum" if basis is None else "bad: other shells than siesta (none)"
        )

    runs = Runs({name: tmp_path / name for name in ("good", "bad")}, read)
    assert runs["good"].name == "good"
    with pytest.raises(FormatError, match="expected H"):
        runs["bad"]


def test_real_molecules(shared_data):
    folders = {f.name: f for f in sorted((shared_data / "dft-outputs" / "deeph-molecules").iterdir())[::4]}
    runs = Runs(folders, read_deeph)
    samples = [runs[name] for name in runs.names()]
    assert len({sample.basis.fingerprint for sample in samples}) == 1
    assert samples[0].basis.elements == (1, 6, 8)
    for sample, folder in zip(samples, folders.values()):
        assert np.array_equal(sample.hamiltonian.dense(), read_deeph(folder).hamiltonian.dense())
