"""Triangles against loops over atoms, and their moments under a turn of the whole molecule."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from harmose.basis import BasisSet, Shell
from harmose.graph import build_graph
from harmose.so3.wigner import random_rotation
from harmose.targets import TargetSpace
from harmose.triangles import RADIUS, directed_pairs, find_triangles, moments, spread_centres

BASIS = BasisSet("s", {1: (Shell(1, 0),), 6: (Shell(1, 0),), 8: (Shell(1, 0),)}, {1: 5.0, 6: 5.0, 8: 5.0})


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


@pytest.mark.parametrize("m", [0, 1, 2, 3])
def test_moments_do_not_see_a_rotation_but_for_the_azimuth(m):
    atoms, generator = molecule("CH3OH"), np.random.default_rng(0)
    centres = generator.uniform(0.8, 3, size=(5, 3))
    turned = atoms.copy()
    turned.positions = turned.positions @ random_rotation(generator).T
    values = []
    for structure in (atoms, turned):
        pairs, found = surroundings(structure)
        edges = np.arange(len(pairs.centre))
        values.append(moments(found, edges, 0, centres, 3)[m])
    np.testing.assert_allclose(np.abs(values[0]), np.abs(values[1]), atol=1e-12)
    assert np.abs(values[0]).max() > 1e-3


def test_moments_follow_the_order_of_the_edges_asked_for():
    _, found = surroundings(molecule("CH3OH"))
    centres = np.array([[1.4, 1.1, 2.0]])
    edges = np.array([7, 2, 11])
    together = moments(found, edges, 0, centres, 1)
    alone = np.concatenate([moments(found, edges[k : k + 1], 0, centres, 1) for k in range(3)], 1)
    np.testing.assert_allclose(together, alone, atol=1e-14)


def test_far_atoms_fade_smoothly():
    basis = BasisSet("s", {1: (Shell(1, 0),)}, {1: 10.0})
    from ase import Atoms

    def value(x: float) -> float:
        pairs, found = surroundings(Atoms("H3", [[0, 0, 0], [1, 0, 0], [x, 0.1, 0]]), basis)
        chosen = np.flatnonzero((pairs.distance < 1.01) & (pairs.vectors[:, 0] > 0))
        return abs(moments(found, chosen, 0, np.array([[1.0, RADIUS, RADIUS - 1]]), 0)).sum()

    assert value(RADIUS - 0.001) < 1e-6 < value(RADIUS - 1)
    assert value(RADIUS + 0.1) == 0


def test_centres_are_spread_and_taken_from_the_data():
    sides = np.random.default_rng(1).uniform(1, 3, size=(400, 3))
    centres = spread_centres(sides, 20, np.random.default_rng(0))
    assert centres.shape == (20, 3)
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1) + 10 * np.eye(20)
    assert gaps.min() > 0.3
    assert all((np.abs(sides - c).sum(1) == 0).any() for c in centres)
