"""`read` detects the format; `write` never overwrites."""

import numpy as np
import pytest

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.io.files import read, read_all, write
from harmose.io.pyscf.pyscf import overlap
from harmose.spin import Spin


@pytest.mark.parametrize("target", ["water.npz", "water"])
def test_write_and_read(tmp_path, water_sample, target):
    sample = water_sample(3)
    write(tmp_path / target, sample)
    again = read(tmp_path / target)
    assert again.name == "water-3"
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert read(str(tmp_path / target), "water-3").name == "water-3"
    with pytest.raises(FormatError, match="expected a new path"):
        write(tmp_path / target, sample)


def test_store_of_several_samples(water_store):
    assert read(water_store, "water-2").name == "water-2"
    with pytest.raises(FormatError, match=r"the name of one of its 8 samples \(water-0, water-1, water-2, \.\.\.\)"):
        read(water_store)
    with pytest.raises(FormatError, match="no sample named 'fire'"):
        read(water_store, "fire")


def test_other_paths(tmp_path, water_basis, water_sample):
    with pytest.raises(FormatError, match="no such file or folder"):
        read(tmp_path / "nothing")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(
        FormatError, match=r"text\.txt: not recognised, it is a file of 5 bytes; known are: .*store \(sample store"
    ):
        read(tmp_path / "text.txt")
    write(tmp_path / "one.npz", water_sample(0))
    with pytest.raises(FormatError, match="expected the sample 'water-1', got 'water-0'"):
        read(tmp_path / "one.npz", "water-1")
    Store.create(tmp_path / "empty", water_basis).close()
    with pytest.raises(FormatError, match="one of its 0 samples"):
        read(tmp_path / "empty")


def test_format_argument(tmp_path, random_crystal):
    """The folder has the files of two formats."""
    write(tmp_path / "x", random_crystal(), "deeph")
    write(tmp_path / "old", random_crystal(), "deeph-legacy")
    for file in (tmp_path / "old").iterdir():
        if file.name != "info.json":
            file.rename(tmp_path / "x" / file.name)
    assert read(tmp_path / "x").provenance["format"] == "deeph"
    assert read(tmp_path / "x", format="deeph-legacy").provenance["format"] == "deeph-legacy"
    with pytest.raises(
        FormatError, match=r"x: expected npz \(one sample of harmose\), got a folder with POSCAR, element\.dat, "
    ):
        read(tmp_path / "x", format="npz")
    with pytest.raises(FormatError, match=r"format: expected one of .*deeph.*, got 'vasp'"):
        read(tmp_path / "x", format="vasp")
    with pytest.raises(FormatError, match=r"format: expected one of .*petsc, got 'vasp'"):
        write(tmp_path / "y", random_crystal(), "vasp")


def test_folders_of_calculations(tmp_path, random_crystal):
    """At any depth, in the order of their names, 9 before 10, without hidden folders."""
    for name in ("set/9", "set/10", "set/deeper/x", ".hidden/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, random_crystal(), "deeph")
    names = [sample.name for sample in read_all(tmp_path)]
    assert names == ["set/9", "set/10", "set/deeper/x"]
    assert read(tmp_path / "set", "deeper/x").name == "deeper/x"
    with pytest.raises(FormatError, match=r"expected the name of one of its 3 samples \(set/9, set/10, set/deeper/x\)"):
        read(tmp_path)
    with pytest.raises(FormatError, match="no calculation named 'x'"):
        read(tmp_path, "x")
    assert read(tmp_path / "set/10").name == "10"
    sample = read(tmp_path / "set/10")
    wide = BasisSet("wide", sample.basis.shells, dict.fromkeys(sample.basis.elements, 3.0))
    assert {s.basis.name for s in read_all(tmp_path, basis=wide)} == {"wide"}


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("format", ["store", "npz", "deeph", "deeph-legacy"])
def test_every_spin_in_every_format(tmp_path, random_crystal, spin, format):
    sample = random_crystal(spin)
    path = tmp_path / ("x.npz" if format == "npz" else "x")
    write(path, sample, format)
    again = read(path, basis=sample.basis if format.startswith("deeph") else None)
    assert (again.spin, again.basis) == (spin, sample.basis)
    assert np.array_equal(again.hamiltonian.pairs, sample.hamiltonian.pairs)
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert np.array_equal(again.overlap.values, sample.overlap.values)
    assert np.array_equal(again.structure.pbc, [True] * 3)
    assert np.array_equal(again.structure.cell.array, sample.structure.cell.array)
    assert again.fermi_level == sample.fermi_level


@pytest.mark.parametrize("format", ["store", "npz", "deeph", "deeph-legacy", "wannier90", "petsc"])
def test_isolated_atom_in_every_format(tmp_path, water_sample, format):
    """No pairs."""
    water = water_sample(0)
    atom = water.structure[:1]
    s = overlap(atom, "sto-3g", water.basis)
    h = s.with_values(-3.0 * s.values)
    sample = Sample("atom", atom, water.basis, h, overlap=s, n_electrons=8.0)
    path = tmp_path / ("x.npz" if format == "npz" else "x")
    write(path, sample, format)
    if format not in ("wannier90", "petsc"):
        again = read(path, basis=water.basis if format == "deeph-legacy" else None)
        assert np.array_equal(again.hamiltonian.values, h.values)
        assert again.hamiltonian.pairs.shape == (0, 5)
        assert not again.structure.pbc.any()
