"""Contacts are the bonds of a molecule, join all its atoms, and are longer than any bond where it has come apart."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from harmose.core.basis import BasisSet, Shell
from harmose.core.graph import build_graph
from harmose.kernel_regression.contacts import FEWEST, MARGIN, ContactLengths, contacts, fit_contact_lengths
from harmose.kernel_regression.descriptors import DirectedPairs, directed_pairs
from harmose.representation.block_irreps import BlockIrreps
from harmose.so3.wigner import random_rotation

ELEMENTS = (1, 6, 8)
BASIS = BasisSet("s", dict.fromkeys(ELEMENTS, (Shell(1, 0),)), dict.fromkeys(ELEMENTS, 3.0))
SPACE = BlockIrreps(BASIS, 0)


def directed(atoms: Atoms) -> DirectedPairs:
    """Directed pairs of a structure of H, C and O, up to six angstrom."""
    return directed_pairs(SPACE.orient(build_graph(atoms, BASIS)))


def found(atoms: Atoms) -> set[tuple[int, int]]:
    """Contacts of a molecule, as pairs of atoms."""
    pairs = directed(atoms)
    edges, rows = contacts(pairs, np.arange(len(atoms)))
    np.testing.assert_array_equal(pairs.centre[edges], rows)
    second = [int(np.argmin(np.linalg.norm(atoms.positions - x, axis=1)))
              for x in atoms.positions[rows] + pairs.vectors[edges]]  # fmt: skip
    return set(zip(rows.tolist(), second, strict=True))


def together(molecules: list[Atoms]) -> tuple[DirectedPairs, np.ndarray]:
    """Pairs of molecules that do not see each other, and the number of each atom's molecule."""
    apart = Atoms()
    for k, atoms in enumerate(molecules):
        moved = atoms.copy()
        moved.translate([50.0 * k, 0, 0])
        apart += moved
    return directed(apart), np.repeat(np.arange(len(molecules)), [len(a) for a in molecules])


def water(length: float = 0.96, seed: int = 0) -> Atoms:
    """Water, displaced a little, with one O-H bond of this length."""
    atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(seed).normal(scale=0.02, size=(3, 3))
    atoms.set_distance(0, 1, length, fix=0)
    return atoms


def test_contacts_of_a_molecule_are_its_bonds():
    ethanol = molecule("CH3CH2OH")
    bonds = {(i, j) for i, row in enumerate(ethanol.get_all_distances()) for j, r in enumerate(row) if 0 < r < 1.6}
    assert found(ethanol) == bonds


def test_contacts_as_they_are_defined():
    """Beside the plain definition, on points without order."""
    rng = np.random.default_rng(0)
    atoms = Atoms("H12C6O2", rng.uniform(0, 3.0, size=(20, 3)))
    d = atoms.get_all_distances()
    expected = {
        (i, j)
        for i in range(20)
        for j in range(20)
        if i != j and not any(max(d[i, k], d[j, k]) < d[i, j] for k in range(20) if k not in (i, j))
    }
    assert found(atoms) == expected
    turned = atoms[rng.permutation(20)]
    turned.positions = turned.positions @ random_rotation(rng).T
    assert len(found(turned)) == len(expected)


def test_contacts_join_all_atoms():
    places = 1.5 * np.stack(np.meshgrid(*3 * [np.arange(4)]), -1).reshape(-1, 3)
    atoms = Atoms("H64", places + np.random.default_rng(1).uniform(-0.5, 0.5, size=(64, 3)))
    rows, columns = zip(*found(atoms), strict=True)
    assert connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(64, 64)))[0] == 1


def test_contacts_of_a_crystal():
    """Diamond has four contacts an atom, each to an image of the other one."""
    a = 3.57
    crystal = Atoms("C2", scaled_positions=[[0, 0, 0], [0.25] * 3], cell=a / 2 * (1 - np.eye(3)), pbc=True)
    pairs = directed(crystal)
    edges, rows = contacts(pairs, np.array([1, 0]))
    np.testing.assert_array_equal(np.bincount(rows), [4, 4])
    np.testing.assert_allclose(pairs.distance[edges], a * np.sqrt(3) / 4)
    np.testing.assert_array_equal(pairs.centre[edges[rows == 0]], 1)


@pytest.fixture(scope="module")
def waters() -> ContactLengths:
    """Ranges of forty waters with one O-H of 0.9 to 1.1 angstrom, near none other."""
    return fit_contact_lengths(*together([water(0.9 + 0.005 * k, k) for k in range(41)]), len(ELEMENTS))


@pytest.mark.parametrize(("length", "excess"), [(0.92, 0), (1.1, 0), (1.1 + MARGIN, 0), (1.35, 0.2), (0.65, 0.2)])
def test_a_bond_that_breaks(waters, length, excess):
    atoms = water(length, 50)
    oxygen, moved, other = waters.excess(directed(atoms), np.arange(3))
    assert other == 0  # its own bond is whole
    np.testing.assert_allclose((oxygen, moved), excess, atol=0.02)


def test_only_some_atoms(waters):
    pairs = directed(water(1.3, 50))
    np.testing.assert_array_equal(waters.excess(pairs, np.array([2, 1])), waters.excess(pairs, np.arange(3))[[2, 1]])
    assert not len(waters.excess(pairs, np.zeros(0, dtype=int)))


def test_a_molecule_that_came_apart_although_such_distances_are_known():
    """H..O of 2 angstrom are in every water dimer: but there each H has a nearer O."""
    dimers = []
    for k in range(10):
        other = water(0.96, 100 + k)
        other.translate([0, 0, -2.4 - 0.05 * k])
        dimers.append(water(0.96, k) + other)
    fitted = fit_contact_lengths(*together(dimers), len(ELEMENTS))
    smallest, largest = fitted.ranges[0, 0, 2]
    assert smallest < 1.0
    assert largest > 1.9
    assert fitted.excess(directed(water(1.9)), np.arange(3))[1] > 0.5


def test_kinds_that_are_not_known(waters):
    assert (waters.excess(directed(molecule("CO")), np.arange(2)) > 1).all()
    several = [water(0.96, k) for k in range(20)] + [molecule("CO")] * (FEWEST - 1)
    pairs, group = together(several)
    few = fit_contact_lengths(pairs, group, len(ELEMENTS))
    assert (few.excess(directed(molecule("CO")), np.arange(2)) > 1).all()
    assert (fit_contact_lengths(pairs, np.minimum(group, 1), len(ELEMENTS)).ranges[0, 1, 2] == 0).all()


def test_an_atom_alone_has_no_contacts(waters):
    np.testing.assert_array_equal(waters.excess(directed(Atoms("O", [[0, 0, 0]])), np.arange(1)), [0])
