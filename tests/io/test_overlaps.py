"""S alone for a prediction: the same in another place, refused for another structure or basis set."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.io.files import has_only_overlap, read_overlap, write
from harmose.io.overlaps import Overlap, overlap_on_graph


def test_molecule(water_sample):
    sample = water_sample(1)
    overlap = Overlap("w", sample.structure, sample.overlap)
    moved = sample.structure.copy()
    moved.positions += [5.0, -3.0, 1.0]
    assert np.array_equal(overlap_on_graph(overlap, moved, sample.basis, "x").values, sample.overlap.values)
    moved.rotate(20, "z")
    with pytest.raises(FormatError, match=r"x: expected S of the structure in this orientation"):
        overlap_on_graph(overlap, moved, sample.basis, "x")
    with pytest.raises(FormatError, match=r"x: expected S .* with this order of atoms"):
        overlap_on_graph(overlap, sample.structure[[1, 0, 2]], sample.basis, "x")


def test_crystal_with_atoms_in_other_cells(random_crystal):
    sample = random_crystal()
    moved = sample.structure.copy()
    moved.positions += [0.1, 0.2, 0.3]
    moved.positions[1] += 2 * moved.cell.array[0] - moved.cell.array[2]
    found = overlap_on_graph(Overlap("x", sample.structure, sample.overlap), moved, sample.basis, "x")
    assert np.array_equal(found.block(0, 1, (-2, 0, 1)), sample.overlap.block(0, 1))
    assert np.array_equal(found.block(1, 1), sample.overlap.block(1, 1))
    assert np.array_equal(found.block(0, 2, (0, 0, -1)), sample.overlap.block(0, 2, (0, 0, -1)))


def test_other_basis_sets(random_crystal):
    sample = random_crystal()
    overlap = Overlap("x", sample.structure, sample.overlap)
    wide = BasisSet("wide", sample.basis.shells, {6: 2.5, 8: 3.0})
    found = overlap_on_graph(overlap, sample.structure, wide, "x")
    assert len(found.pairs) > len(sample.overlap.pairs)
    assert np.array_equal(found.block(0, 1), sample.overlap.block(0, 1))
    narrow = BasisSet("narrow", sample.basis.shells, {6: 1.5, 8: 2.0})
    with pytest.raises(MatrixError, match=r"x: S: a value of .* lies in block"):
        overlap_on_graph(overlap, sample.structure, narrow, "x")
    other = BasisSet("other", {**sample.basis.shells, 6: (Shell(2, 0),)}, sample.basis.radii)
    with pytest.raises(BasisError, match=r"basis set other, whose shells of C have l = \[0\], got l = \[0, 1\]"):
        overlap_on_graph(overlap, sample.structure, other, "x")


@pytest.mark.parametrize(("format", "h"), [("deeph", "hamiltonian.h5"), ("deeph-legacy", "hamiltonians.h5")])
def test_folders_with_and_without_h(tmp_path, random_crystal, format, h):
    sample = random_crystal()
    for name in ("a", "b"):
        write(tmp_path / name, sample, format)
    (tmp_path / "a" / h).unlink()
    (tmp_path / "b" / h).unlink()
    assert has_only_overlap(tmp_path)
    for path in (tmp_path, tmp_path / "b"):
        found = read_overlap(path, sample.structure, sample.basis, "b")
        assert np.array_equal(found.values, sample.overlap.values)
    write(tmp_path / "c", sample, format)
    assert not has_only_overlap(tmp_path)
    assert np.array_equal(read_overlap(tmp_path / "c", sample.structure, sample.basis).values, sample.overlap.values)
    other = sample.structure.copy()
    other.positions[0] += 0.2
    with pytest.raises(FormatError, match=r"none of its 3 samples has the structure of 'water'"):
        read_overlap(tmp_path, other, sample.basis, "water")


def test_stores_and_files(tmp_path, water_store, water_sample):
    sample = water_sample(3)
    assert np.array_equal(
        read_overlap(water_store, sample.structure, sample.basis, "new").values, sample.overlap.values
    )
    assert not has_only_overlap(water_store)
    write(tmp_path / "bare.npz", replace(sample, overlap=None))
    with pytest.raises(FormatError, match=r"bare.npz: expected S, got the sample 'water-3' without S"):
        read_overlap(tmp_path / "bare.npz", sample.structure, sample.basis)
    with pytest.raises(FormatError, match="no such file or folder"):
        read_overlap(tmp_path / "nothing", sample.structure, sample.basis)


def test_overlap_of_real_water(shared_data):
    """S without H, and the same S beside H, of PySCF's cc-pVDZ."""
    import harmose

    cases = shared_data / "cases"
    whole = harmose.read(cases / "passing" / "09-deeph-pyscf-H2O")
    alone = read_overlap(cases / "17-overlap-only" / "sonly", whole.structure, whole.basis)
    assert np.array_equal(alone.values, whole.overlap.values)
