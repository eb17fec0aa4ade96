"""The checks for authors of models and readers: right ones pass, each kind of wrong one fails with its place."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

import harmose
from harmose.core.basis import BasisSet
from harmose.core.blocks import empty_matrix
from harmose.core.graph import build_graph
from harmose.io.npz import read_npz, write_npz
from harmose.spin import Spin
from harmose.testing import assert_equivariant, assert_round_trip

BASIS = harmose.basis("def2-svp", [1, 6, 8])
MOLECULE = Atoms("OHCH", [[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [1.3, -0.1, 0.2], [1.7, 0.9, 0.4]])
CHAIN = Atoms(
    "CH", [[0.1, 0.0, 0.0], [0.3, 1.0, 0.2]], cell=[[2.2, 0.1, 0.0], [0.0, 9.0, 0.0], [0.3, 0.0, 9.0]], pbc=True
)


def overlap(atoms):
    """S: it transforms as H does, exactly."""
    return harmose.overlap(atoms, BASIS)


class Model:
    """A model that predicts S."""

    def predict(self, atoms):
        return overlap(atoms)


@pytest.mark.parametrize("atoms", [MOLECULE, CHAIN], ids=["molecule", "crystal"])
def test_overlap_is_equivariant(atoms):
    assert_equivariant(overlap, atoms, tolerance=1e-9)


def test_model_is_an_object_with_predict():
    assert_equivariant(Model(), MOLECULE, tolerance=1e-9)
    with pytest.raises(AssertionError, match="expected a function or an object with a method predict, got int"):
        assert_equivariant(3, MOLECULE)


def broken(change):
    """A function of the atoms: S plus 0.01 eV in the elements that `change(atoms, s)` gives a number for."""

    def predict(atoms):
        s = overlap(atoms)
        return s.with_values(s.values + 0.01 * np.asarray(change(atoms, s)))

    return predict


def first_coordinate(atoms, s):
    """Depends on the direction in space."""
    return atoms.positions[1, 0] - atoms.positions[0, 0]


def handedness(atoms, s):
    """A triple product: the same after a rotation, of opposite sign after inversion. Added to overlaps of s orbitals."""
    a, b, c = atoms.positions[1:] - atoms.positions[0]
    _, row, col = s.indices
    degrees = np.array([l for z in s.numbers for l in s.basis.degrees(int(z)) for _ in range(2 * l + 1)])
    return np.where((degrees[row] == 0) & (degrees[col] == 0), np.dot(np.cross(a, b), c), 0.0)


def distance_from_origin(atoms, s):
    """Invariant under rotation and inversion, not under translation."""
    _, row, col = s.indices
    return np.where(row == col, np.linalg.norm(atoms.positions[0]), 0.0)


def number_of_the_atom(atoms, s):
    """Depends on the order of the atoms."""
    block, row, col = s.indices
    return np.where(row == col, block, 0.0)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (first_coordinate, "rotation"),
        (handedness, "inversion"),
        (distance_from_origin, "translation"),
        (number_of_the_atom, "permutation"),
    ],
)
def test_broken_model_fails(change, law):
    with pytest.raises(
        AssertionError, match=rf"^{law}: elements differ by up to .* eV .* in block \(\d, \d, \(0, 0, 0\)\)"
    ):
        assert_equivariant(broken(change), MOLECULE)


def test_inversion_is_optional():
    assert_equivariant(broken(handedness), MOLECULE, inversion=False)


def test_values_that_are_not_finite_fail():
    with pytest.raises(AssertionError, match="not finite"):
        assert_equivariant(broken(lambda atoms, s: np.nan), MOLECULE)


def test_other_blocks_fail():
    basis = BASIS.basis

    def predict(atoms):
        short = BasisSet(basis.name, basis.shells, dict.fromkeys(basis.radii, 0.6))
        near = basis if atoms.positions[0, 2] == 0.1 else short
        return empty_matrix(near, atoms.numbers, build_graph(atoms, near).pairs)

    with pytest.raises(AssertionError, match="rotation: expected 10 blocks, got 6"):
        assert_equivariant(predict, MOLECULE)


def test_largest_error_and_its_place():
    calls = []

    def predict(atoms):
        calls.append(atoms)
        s = overlap(atoms)
        values = s.values.copy()
        if len(calls) > 1:  # the prediction of the rotated molecule
            values[0, s.offsets[1] + 1] += 0.5
        return s.with_values(values)

    with pytest.raises(AssertionError, match=r"5.00e-01 eV .* block \(1, 1, \(0, 0, 0\)\), row 0, column 1"):
        assert_equivariant(predict, MOLECULE)


@pytest.fixture
def sample(random_crystal):
    return random_crystal(Spin.NONE)


def test_round_trip_of_molecule(water_sample, tmp_path):
    assert_round_trip(harmose.read, harmose.write, water_sample(0), tmp_path / "water.npz", tolerance=1e-12)


@pytest.mark.parametrize("spin", list(Spin))
def test_round_trip_of_crystal(random_crystal, spin, tmp_path):
    assert_round_trip(read_npz, write_npz, random_crystal(spin), tmp_path / "crystal.npz", tolerance=1e-12)


def shifted(matrix):
    return matrix.with_values(matrix.values + 1e-3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda s: replace(s, hamiltonian=shifted(s.hamiltonian)),
            r"^hamiltonian: block \(0, 0, \(-1, 0, 0\)\): expected",
        ),
        (lambda s: replace(s, overlap=shifted(s.overlap)), r"^overlap: block"),
        (lambda s: replace(s, overlap=None), "^overlap: expected a matrix, got None"),
        (lambda s: replace(s, prior=s.hamiltonian), "^prior: expected None, got a matrix"),
        (lambda s: replace(s, fermi_level=0.0), "^fermi_level: expected -1.25, got 0.0"),
        (lambda s: replace(s, energy=1.0), "^energy: expected None, got 1.0"),
        (lambda s: replace(s, n_electrons=np.nan), "^n_electrons: expected 14.0, got nan"),
        (lambda s: replace(s, structure=s.structure[[1, 0, 2]]), "^structure: expected the atoms COC, got OC2"),
        (lambda s: replace(s, structure=moved(s.structure)), r"^positions: .* at index \(2, 1\)"),
        (lambda s: replace(s, structure=without_cell(s.structure)), r"^structure: expected pbc \[ True"),
    ],
)
def test_damaged_sample_fails(sample, damage, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        assert_round_trip(lambda path: damage(read_npz(path)), write_npz, sample, tmp_path / "sample.npz")


def moved(structure):
    copy = structure.copy()
    copy.positions[2, 1] += 0.01
    return copy


def without_cell(structure):
    return Atoms(structure.numbers, structure.positions)


def test_field_without_a_place_in_the_format(sample, tmp_path):
    def read(path):
        return replace(read_npz(path), fermi_level=None, n_electrons=None)

    assert_round_trip(read, write_npz, sample, tmp_path / "sample.npz")


def test_writer_that_writes_nothing(sample, tmp_path):
    with pytest.raises(AssertionError, match="expected a file or folder"):
        assert_round_trip(read_npz, lambda path, sample: None, sample, tmp_path / "sample.npz")


def test_existing_path_is_refused(sample, tmp_path):
    with pytest.raises(AssertionError, match="expected a path that does not exist yet"):
        assert_round_trip(read_npz, write_npz, sample, tmp_path)
