"""Checks of structures and pairs of neighbours: errors, and long or flat structures."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from harmose.core.structure import check_structure, neighbour_pairs
from harmose.errors import StructureError

GOOD = {
    "molecule": molecule("CH3CH2OH"),
    "atom": Atoms("He"),
    "molecule with a cell": molecule("H2O", cell=[9, 9, 9]),
    "crystal": bulk("Si"),
    "slab without a third vector": graphene(),
    "slab with vacuum": graphene(vacuum=8.0),
    "wire": Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.8]], cell=[0, 0, 2.0], pbc=[False, False, True]),
    # lattice vectors of directions that are not periodic may be anything
    "slab, third vector downward": Atoms("C", cell=[[2.5, 0, 0], [0, 2.5, 0], [0, 0, -9]], pbc=[1, 1, 0]),
    "slab, third vector in its plane": Atoms("C", cell=[[2.5, 0, 0], [0, 2.5, 0], [2.5, 0, 0]], pbc=[1, 1, 0]),
}


@pytest.mark.parametrize(
    "sites",
    [
        {"0": {"H": 1.0}, "1": {"H": 1}},
        {"0": {"H": 1.0, "Li": 0.0}},
        {"0": {"H": "."}, "1": {"H": "?"}},  # not stated, so full
        {"0": {"H": 1.0}, "7": {"Li": 0.5}},  # of an atom that has been removed
    ],
)
def test_full_sites_pass(sites):
    assert check_structure(occupied(sites, [1.0, 1.0])) is None


@pytest.mark.parametrize("atoms", GOOD.values(), ids=GOOD)
def test_good_structures_pass(atoms):
    assert check_structure(atoms) is None


def h2(*second, **kwargs):
    return Atoms("H2", positions=[[0, 0, 0], second], **kwargs)


def with_number(number):
    atoms = h2(0, 0, 1)
    atoms.numbers[1] = number
    return atoms


def half_an_element():
    atoms = h2(0, 0, 1)
    atoms.arrays["numbers"] = np.array([1, 1.5])
    return atoms


def occupied(sites=None, column=None):
    atoms = h2(0, 0, 1)
    atoms.set_array("spacegroup_kinds", np.arange(2))
    if sites is not None:
        atoms.info["occupancy"] = sites
    if column is not None:
        atoms.set_array("occupancy", np.array(column))
    return atoms


BAD = {
    "no atoms": (Atoms(), "file 3: expected at least one atom, got none"),
    "NaN": (
        h2(0, np.nan, 1),
        r"file 3: expected finite positions within 1e\+05 angstrom, got \[0.0, nan, 1.0\] for atom 1",
    ),
    "infinite": (h2(0, 0, -np.inf), r"expected finite positions .*, got \[0.0, 0.0, -inf\] for atom 1"),
    "far": (h2(0, 0, 1e9), r"expected finite positions .*, got \[0.0, 0.0, 1000000000.0\] for atom 1"),
    "dummy atom": (with_number(0), "file 3: expected chemical elements, got atomic number 0 for atom 1"),
    "negative number": (with_number(-6), "expected chemical elements, got atomic number -6 for atom 1"),
    "beyond oganesson": (with_number(119), "expected chemical elements, got atomic number 119 for atom 1"),
    "fractional number": (half_an_element(), "expected chemical elements, got atomic number 1.5 for atom 1"),
    "shared site": (
        occupied({"0": {"H": 1.0}, "1": {"H": 0.5, "Li": 0.5}}),
        "file 3: expected sites that one element occupies fully, got occupancy H 0.5 and Li 0.5 of site 1",
    ),
    "partly empty site": (occupied({"0": {"H": 0.75}}), "got occupancy H 0.75 of site 0"),
    "integer keys": (occupied({0: {"H": 0.75}}), "got occupancy H 0.75 of site 0"),
    "empty site": (occupied({"0": {"H": 0.0}}), "got occupancy H 0.0 of site 0"),
    "unreadable share": (occupied({"0": {"H": "half"}}), "got occupancy H half of site 0"),
    "column of occupancies": (occupied(column=[1.0, 0.5]), "got occupancy 0.5 of atom 1"),
    "on top": (
        h2(0.1, 0, 0),
        "file 3: expected atoms at least 0.3 angstrom apart, got 0.100 between atoms 0 and 1",
    ),
    "same place": (h2(0, 0, 0), "got 0.000 between atoms 0 and 1"),
    "on top of an image": (h2(0, 0, 5.9, cell=[6, 6, 6], pbc=True), "got 0.100 between atoms 0 and 1"),
    "on top of its own image": (Atoms("H", cell=[0.2, 3, 3], pbc=True), "got 0.200 between atoms 0 and 0"),
    "on top across the periodic direction": (h2(2.9, 0, 0, cell=[3, 0, 0], pbc=[1, 0, 0]), "got 0.100"),
    "flat cell": (
        Atoms("H", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True),
        "file 3: expected a cell with a volume, got 0 cubic angstrom",
    ),
    "parallel vectors": (Atoms("H", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 0]], pbc=[1, 1, 0]), "cell with a volume"),
    "almost flat cell": (Atoms("H", cell=[[3e4, 0, 0], [3e4, 1e-9, 0], [0, 0, 3]], pbc=True), "cell with a volume"),
    "no cell": (
        Atoms("H", pbc=True),
        "file 3: expected a lattice vector for each periodic direction, got none for a",
    ),
    "no third vector": (Atoms("H", cell=[3, 3, 0], pbc=True), "each periodic direction, got none for c"),
    "NaN cell": (Atoms("H", cell=[3, np.nan, 3], pbc=True), r"file 3: expected a finite cell within 1e\+05 angstrom"),
    "huge cell": (Atoms("H", cell=[3, 3, 1e9], pbc=True), r"expected a finite cell within 1e\+05 angstrom"),
}


@pytest.mark.parametrize(("atoms", "message"), BAD.values(), ids=BAD)
def test_errors(atoms, message):
    with pytest.raises(StructureError, match=message) as caught:
        check_structure(atoms, "file 3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False)])
def test_left_handed_cells(pbc):
    """The order of the lattice vectors changes the names of the cells only, not the pairs."""
    rng = np.random.default_rng(5)
    right = Atoms("H5", rng.random((5, 3)) * 4, cell=[[4.0, 0.3, 0], [0.5, 5.0, 0], [0, 0.2, 4.5]], pbc=pbc)
    left = right[:]
    left.cell, left.pbc = right.cell.array[[1, 0, 2]], right.pbc[[1, 0, 2]]
    assert check_structure(left) is None
    pairs = [sorted(np.round(neighbour_pairs(atoms, 6.0)[3], 9).tolist()) for atoms in (left, right)]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) > 10
    i, j, shift, distance = neighbour_pairs(left, 6.0)
    vectors = left.positions[j] + shift @ left.cell.array - left.positions[i]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), distance, atol=1e-9)


@pytest.mark.parametrize("case", ["NaN", "far", "NaN cell", "no cell", "almost flat cell"])
def test_neighbour_pairs_checks_positions_and_cell(case):
    """Unchecked, such input would crash the process inside vesin."""
    with pytest.raises(StructureError, match="file 3: expected"):
        neighbour_pairs(BAD[case][0], 5.0, "file 3")


SHAPES = {
    "line": Atoms("H3", positions=[[0, 0, 0], [1e4, 0, 0], [1e4, 0.2, 0]]),
    "plane": Atoms("H3", positions=[[0, 0, 0], [1e3, 0, 0], [1e3, 1e3, 0]]),
    "wide cell": Atoms("H2", positions=[[0, 0, 0.05], [300, 300, 0.15]], cell=[600, 600, 0.7], pbc=True),
    "wire": Atoms("H2", positions=[[0, 0, 0], [1e3, 1e3, 0.1]], cell=[0, 0, 0.5], pbc=[False, False, True]),
}


@pytest.mark.parametrize("atoms", SHAPES.values(), ids=SHAPES)
def test_long_and_flat_structures(atoms):
    """Unless the search radius grows, vesin divides by zero here (SIGFPE)."""
    i, j, shift, distance = neighbour_pairs(atoms, 0.3)
    expected = {frozenset([a, b]) for a in range(len(atoms)) for b in range(a) if atoms.get_distance(a, b) < 0.3}
    assert {frozenset(pair) for pair in zip(i.tolist(), j.tolist())} == expected
    assert len(i) == len(expected)
    assert shift.shape == (len(i), 3)
    assert (distance < 0.3).all()


def test_no_atoms_no_pairs():
    i, j, shift, distance = neighbour_pairs(Atoms(), 5.0)
    assert (len(i), len(j), shift.shape, len(distance)) == (0, 0, (0, 3), 0)
