"""Triangles against loops over atoms, and their moments under a turn of the whole molecule."""

from itertools import product

import numpy as np
import pytest
from ase.build import bulk, molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.graph import build_graph
from harmose.kernel_regression import angles
from harmose.kernel_regression.descriptors import (
    ALONG,
    ASIDE,
    CELL,
    GRID,
    RADIUS,
    cells,
    directed_pairs,
    find_triangles,
    from_positions,
    potentials,
    potentials_from_the_other_end,
    three_centre,
)
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.representation.block_irreps import BlockIrreps
from harmose.so3.wigner import random_rotation

BASIS = BasisSet("s", {1: (Shell(1, 0),), 6: (Shell(1, 0),), 8: (Shell(1, 0),)}, {1: 5.0, 6: 5.0, 8: 5.0})


FADE = 3.0


def three_centre_moments(triangles, distance, orders):
    return three_centre(triangles, distance, 3, orders)


def cell_moments(triangles, distance, orders):
    return cells(triangles, len(distance), 3, FADE, orders)


def neighbourhoods(atoms, basis=BASIS):
    """Directed pairs, triangles and frames of a structure."""
    oriented = BlockIrreps(basis, 2).orient(build_graph(atoms, basis))
    pairs = directed_pairs(oriented)
    frames = Neighbourhoods(BlockIrreps(basis, 2), oriented).wigner(1, np.arange(len(pairs.centre)))
    return pairs, find_triangles(pairs, np.arange(len(pairs.centre)), frames), frames


def test_all_triangles_of_a_molecule():
    atoms = molecule("CH3OH")
    _, found, _ = neighbourhoods(atoms)
    n = len(atoms)
    assert len(found.edge) == n * (n - 1) * (n - 2)
    distances = atoms.get_all_distances()
    expected = sorted(
        tuple(np.round([distances[i, j], distances[i, k], distances[j, k]], 9))
        for i in range(n) for j in range(n) for k in range(n) if len({i, j, k}) == 3
    )  # fmt: skip
    assert sorted(map(tuple, np.round(found.sides, 9))) == expected


def test_the_axis_coordinate_is_the_height_over_the_edge():
    _, found, _ = neighbourhoods(molecule("H2O"))
    a, b, c = found.sides.T
    half = (a + b + c) / 2
    height = 2 * np.sqrt(half * (half - a) * (half - b) * (half - c)) / a
    np.testing.assert_allclose(np.abs(found.axis), height, atol=1e-12)


def test_triangles_across_cell_boundaries():
    basis = BasisSet("s", {6: (Shell(1, 0),)}, {6: 0.9})
    _, found, _ = neighbourhoods(bulk("C", "diamond", a=3.567), basis)
    # Two atoms with four neighbours each: 2 * 4 * 3 ordered pairs of bonds, the tetrahedral angle between all.
    assert len(found.edge) == 24
    bond = 3.567 * np.sqrt(3) / 4
    np.testing.assert_allclose(found.sides[:, 2], bond * np.sqrt(8 / 3), atol=1e-9)


@pytest.mark.parametrize("functions", [three_centre_moments, cell_moments])
def test_moments_do_not_see_a_rotation_but_for_the_azimuth(functions):
    atoms, generator = molecule("CH3OH"), np.random.default_rng(0)
    turned = atoms.copy()
    turned.positions = turned.positions @ random_rotation(generator).T
    values = []
    for structure in (atoms, turned):
        pairs, found, _ = neighbourhoods(structure)
        values.append(functions(found, pairs.distance, 3))
    np.testing.assert_allclose(values[1][0], values[0][0], atol=1e-12)
    for m in (1, 2, 3):
        sizes = [np.hypot(x[2 * m - 1], x[2 * m]) for x in values]
        np.testing.assert_allclose(sizes[1], sizes[0], atol=1e-12)
        assert sizes[0].max() > 1e-3


@pytest.mark.parametrize("functions", [three_centre_moments, cell_moments])
def test_triangles_of_some_edges_in_the_order_asked_for(functions):
    pairs, found, frames = neighbourhoods(molecule("CH3OH"))
    edges = np.array([7, 2, 11])
    some = find_triangles(pairs, edges, frames[edges])
    whole = functions(found, pairs.distance, 2)
    np.testing.assert_allclose(functions(some, pairs.distance[edges], 2), whole[:, edges], atol=1e-14)


def test_moments_are_sums_over_third_atoms():
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=0)  # out of its mirror plane
    pairs, found, _ = neighbourhoods(atoms)
    edge = int(np.flatnonzero((pairs.centre_species == 1) & (pairs.neighbour_species == 2))[0])
    three, grid = np.zeros((3, 192), complex), np.zeros((3, 69), complex)
    inside = np.abs(GRID[:, None] - GRID) < 3
    for t in np.flatnonzero((found.edge == edge) & (found.third == 0)):
        r, s, q = found.sides[t]
        z = (r**2 + s**2 - q**2) / (2 * r)
        shapes = [
            z**p * np.exp(-a * r**2 - b * s**2 - c * q**2)
            for a, b, c, p in product(ALONG, ASIDE, ASIDE, (0, 1))
            if b + c > 0
        ]
        gaussian = np.exp(-((s - GRID[:, None]) ** 2 + (q - GRID) ** 2) / 2 / CELL**2) * np.exp(-(s + q) / FADE)
        turns = np.array([1, found.axis[t] / 2, found.axis[t] ** 2 / 4])[:, None]
        three, grid = three + turns * np.array(shapes), grid + turns * gaussian[inside]
    for expected, found_moments in (
        (three, three_centre_moments(found, pairs.distance, 2)[:, edge, :192]),
        (grid, cell_moments(found, pairs.distance, 2)[:, edge, :69]),
    ):
        rows = [x for m, y in enumerate(expected) for x in ([y.real] if m == 0 else [y.real, y.imag])]
        np.testing.assert_allclose(found_moments, rows, atol=1e-13)
        assert np.abs(rows).min(0).max() > 1e-3


@pytest.mark.parametrize("functions", [three_centre_moments, cell_moments])
def test_far_atoms_fade_smoothly(functions):
    far = np.array([RADIUS - 1e-3, RADIUS - 1e-2, RADIUS, RADIUS + 1, RADIUS + 2])
    position = np.stack([0 * far, 0 * far, far], 1)
    triangles = from_positions(np.arange(5), np.zeros(5, int), position, np.ones(5))
    values = np.abs(functions(triangles, np.ones(5), 1)[0]).max(1)
    assert values[0] < values[1] < 1e-4
    assert not values[2:].any()


def test_positions_are_what_triangles_are_kept_as():
    pairs, found, _ = neighbourhoods(molecule("CH3OH"))
    again = from_positions(found.edge, found.third, found.position, pairs.distance)
    np.testing.assert_allclose(again.sides, found.sides, atol=1e-13)
    np.testing.assert_array_equal(again.axis, found.axis)


@pytest.mark.parametrize("functions", [three_centre_moments, cell_moments])
def test_moments_do_not_depend_on_how_many_triangles_are_in_memory(functions, monkeypatch):
    pairs, found, _ = neighbourhoods(molecule("CH3OH"))
    whole = functions(found, pairs.distance, 2)
    monkeypatch.setattr("harmose.kernel_regression.descriptors.AT_ONCE", 3)
    np.testing.assert_allclose(functions(found, pairs.distance, 2), whole, atol=1e-13)


def test_the_other_end_of_an_edge_is_seen_without_looking_from_there():
    pairs, found, _ = neighbourhoods(molecule("CH3OH"))
    n = len(pairs.distance) // 2
    seen = potentials(found, 2 * n, 3, 2)
    ahead, back = seen[:, :n], seen[:, n:]
    np.testing.assert_allclose(potentials_from_the_other_end(ahead, pairs.distance[:n]), back, atol=1e-12)


@pytest.mark.skipif(angles.compiled is None, reason="harmose was installed without a C compiler")
@pytest.mark.parametrize("functions", [three_centre_moments, cell_moments])
@pytest.mark.parametrize("orders", [0, 1, 4])
def test_compiled_sums_are_those_in_numpy(monkeypatch, functions, orders):
    atoms = molecule("CH3OH")
    pairs, found, _ = neighbourhoods(atoms)
    compiled = functions(found, pairs.distance, orders)
    monkeypatch.setattr("harmose.kernel_regression.descriptors.compiled", None)
    np.testing.assert_allclose(compiled, functions(found, pairs.distance, orders), atol=1e-12)
    assert np.abs(compiled).max() > 0.01
