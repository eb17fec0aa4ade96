"""Triangles against loops over atoms, and their moments under a turn of the whole molecule."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from harmose.basis import BasisSet, Shell
from harmose.closed_form.triangles import RADIUS, cells, directed_pairs, find_triangles, moments, three_centre
from harmose.graph import build_graph
from harmose.so3.wigner import random_rotation
from harmose.targets import TargetSpace

BASIS = BasisSet("s", {1: (Shell(1, 0),), 6: (Shell(1, 0),), 8: (Shell(1, 0),)}, {1: 5.0, 6: 5.0, 8: 5.0})


def near_cells(sides):
    return cells(sides, fade=3.0)


def surroundings(atoms, basis=BASIS):
    """Directed pairs and triangles of a structure."""
    oriented = TargetSpace(basis, 2).orient(build_graph(atoms, basis))
    pairs = directed_pairs(oriented)
    return pairs, find_triangles(pairs, oriented.wigner(1).numpy())


def test_all_triangles_of_a_molecule():
    atoms = molecule("CH3OH")
    _, found = surroundings(atoms)
    n = len(atoms)
    assert len(found.edge) == n * (n - 1) * (n - 2)
    distances = atoms.get_all_distances()
    expected = sorted(
        tuple(np.round([distances[i, j], distances[i, k], distances[j, k]], 9))
        for i in range(n) for j in range(n) for k in range(n) if len({i, j, k}) == 3
    )  # fmt: skip
    assert sorted(map(tuple, np.round(found.sides, 9))) == expected


def test_the_axis_coordinate_is_the_height_over_the_edge():
    _, found = surroundings(molecule("H2O"))
    a, b, c = found.sides.T
    half = (a + b + c) / 2
    height = 2 * np.sqrt(half * (half - a) * (half - b) * (half - c)) / a
    np.testing.assert_allclose(np.abs(found.axis), height, atol=1e-12)


def test_triangles_across_cell_boundaries():
    basis = BasisSet("s", {6: (Shell(1, 0),)}, {6: 0.9})
    _, found = surroundings(bulk("C", "diamond", a=3.567), basis)
    # Two atoms with four neighbours each: 2 * 4 * 3 ordered pairs of bonds, the tetrahedral angle between all.
    assert len(found.edge) == 24
    bond = 3.567 * np.sqrt(3) / 4
    np.testing.assert_allclose(found.sides[:, 2], bond * np.sqrt(8 / 3), atol=1e-9)


@pytest.mark.parametrize("functions", [three_centre, near_cells])
@pytest.mark.parametrize("m", [0, 1, 2, 3])
def test_moments_do_not_see_a_rotation_but_for_the_azimuth(m, functions):
    atoms, generator = molecule("CH3OH"), np.random.default_rng(0)
    turned = atoms.copy()
    turned.positions = turned.positions @ random_rotation(generator).T
    values = []
    for structure in (atoms, turned):
        pairs, found = surroundings(structure)
        values.append(moments(found, len(pairs.centre), 3, functions, 3)[m])
    np.testing.assert_allclose(np.abs(values[0]), np.abs(values[1]), atol=1e-12)
    assert np.abs(values[0]).max() > 1e-3


def test_triangles_of_some_edges_in_the_order_asked_for():
    pairs, found = surroundings(molecule("CH3OH"))
    edges = np.array([7, 2, 11])
    whole = moments(found, len(pairs.centre), 3, near_cells, 1)
    np.testing.assert_allclose(moments(found.of(edges), 3, 3, near_cells, 1), whole[:, edges], atol=1e-14)


def test_moments_are_sums_over_third_atoms():
    atoms = molecule("CH3OH")
    pairs, found = surroundings(atoms)
    edge = int(np.flatnonzero((pairs.centre_species == 1) & (pairs.neighbour_species == 2))[0])
    total = sum(
        three_centre(found.sides[[t]])[0] * found.axis[t] / 2
        for t in np.flatnonzero((found.edge == edge) & (found.third == 0))
    )
    np.testing.assert_allclose(moments(found, len(pairs.centre), 3, three_centre, 1)[1, edge, :192], total, atol=1e-14)


@pytest.mark.parametrize("functions", [three_centre, near_cells])
def test_far_atoms_fade_smoothly(functions):
    sides = np.array([[1.0, x, x - 1] for x in (RADIUS - 1e-3, RADIUS - 1e-2, RADIUS, RADIUS + 1, RADIUS + 2)])
    values = np.abs(functions(sides)).max(1)
    assert values[0] < values[1] < 1e-4
    assert not values[2:].any()


def test_moments_do_not_depend_on_how_many_triangles_are_in_memory(monkeypatch):
    pairs, found = surroundings(molecule("CH3OH"))
    whole = moments(found, len(pairs.centre), 3, three_centre, 2)
    monkeypatch.setattr("harmose.closed_form.triangles.AT_ONCE", 3)
    np.testing.assert_allclose(moments(found, len(pairs.centre), 3, three_centre, 2), whole, atol=1e-13)
