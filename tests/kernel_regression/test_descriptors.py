"""Triangles against loops over atoms, and moments against sums; moments under rotations."""

from itertools import product

import numpy as np
import pytest
from ase.build import bulk, molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.graph import build_graph
from harmose.kernel_regression import angles
from harmose.kernel_regression.descriptors import (
    BIN_CENTRES,
    BIN_WIDTH,
    EDGE_EXPONENTS,
    N_THREE_CENTRE,
    RADIUS,
    SIDE_EXPONENTS,
    directed_pairs,
    exchanged_bins,
    find_triangles,
    from_positions,
    moments,
    moments_compiled,
    moments_numpy,
    reverse_potentials,
    side_potentials,
    smeared_atoms,
    three_centre,
    three_centre_weights,
)
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.representation.block_irreps import BlockIrreps
from harmose.so3.wigner import random_rotation

BASIS = BasisSet("s", {1: (Shell(1, 0),), 6: (Shell(1, 0),), 8: (Shell(1, 0),)}, {1: 5.0, 6: 5.0, 8: 5.0})

DECAY_LENGTH = 3.0


def three_centre_moments(triangles, distance, orders):
    return three_centre(triangles, distance, 3, orders)


def smeared_moments(triangles, distance, orders):
    return smeared_atoms(triangles, len(distance), 3, DECAY_LENGTH, orders)


def find(atoms, basis=BASIS):
    """Directed pairs, all triangles, and frames of a structure."""
    oriented = BlockIrreps(basis, 2).orient(build_graph(atoms, basis))
    pairs = directed_pairs(oriented)
    frames = Neighbourhoods(BlockIrreps(basis, 2), oriented).wigner(1, np.arange(len(pairs.centre)))
    return pairs, find_triangles(pairs, np.arange(len(pairs.centre)), frames), frames


def test_all_triangles_of_a_molecule():
    atoms = molecule("CH3OH")
    _, triangles, _ = find(atoms)
    n = len(atoms)
    assert len(triangles.edge) == n * (n - 1) * (n - 2)
    distances = atoms.get_all_distances()
    expected = sorted(
        tuple(np.round([distances[i, j], distances[i, k], distances[j, k]], 9))
        for i in range(n) for j in range(n) for k in range(n) if len({i, j, k}) == 3
    )  # fmt: skip
    assert sorted(map(tuple, np.round(triangles.sides, 9))) == expected


def test_distance_from_the_axis_is_the_height_of_the_triangle():
    _, triangles, _ = find(molecule("H2O"))
    a, b, c = triangles.sides.T
    half = (a + b + c) / 2
    height = 2 * np.sqrt(half * (half - a) * (half - b) * (half - c)) / a
    np.testing.assert_allclose(np.abs(triangles.axis), height, atol=1e-12)


def test_triangles_across_cell_boundaries():
    basis = BasisSet("s", {6: (Shell(1, 0),)}, {6: 0.9})
    _, triangles, _ = find(bulk("C", "diamond", a=3.567), basis)
    # Two atoms with four neighbours each: 2 * 4 * 3 ordered pairs of bonds, the tetrahedral angle between all.
    assert len(triangles.edge) == 24
    bond = 3.567 * np.sqrt(3) / 4
    np.testing.assert_allclose(triangles.sides[:, 2], bond * np.sqrt(8 / 3), atol=1e-9)


@pytest.mark.parametrize("functions", [three_centre_moments, smeared_moments])
def test_a_rotation_changes_only_the_azimuth(functions):
    atoms, generator = molecule("CH3OH"), np.random.default_rng(0)
    turned = atoms.copy()
    turned.positions = turned.positions @ random_rotation(generator).T
    values = []
    for structure in (atoms, turned):
        pairs, triangles, _ = find(structure)
        values.append(functions(triangles, pairs.distance, 3))
    np.testing.assert_allclose(values[1][0], values[0][0], atol=1e-12)
    for m in (1, 2, 3):
        sizes = [np.hypot(x[2 * m - 1], x[2 * m]) for x in values]
        np.testing.assert_allclose(sizes[1], sizes[0], atol=1e-12)
        assert sizes[0].max() > 1e-3


@pytest.mark.parametrize("functions", [three_centre_moments, smeared_moments])
def test_triangles_of_some_edges(functions):
    pairs, triangles, frames = find(molecule("CH3OH"))
    edges = np.array([7, 2, 11])
    some = find_triangles(pairs, edges, frames[edges])
    whole = functions(triangles, pairs.distance, 2)
    np.testing.assert_allclose(functions(some, pairs.distance[edges], 2), whole[:, edges], atol=1e-14)


def test_moments_are_sums_over_third_atoms():
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=0)  # out of its mirror plane
    pairs, triangles, _ = find(atoms)
    edge = int(np.flatnonzero((pairs.centre_species == 1) & (pairs.neighbour_species == 2))[0])
    three, smeared = np.zeros((3, N_THREE_CENTRE), complex), np.zeros((3, 69), complex)
    inside = np.abs(BIN_CENTRES[:, None] - BIN_CENTRES) < 3
    for t in np.flatnonzero((triangles.edge == edge) & (triangles.third == 0)):
        r, s, q = triangles.sides[t]
        z = (r**2 + s**2 - q**2) / (2 * r)
        shapes = [
            z**p * np.exp(-a * r**2 - b * s**2 - c * q**2)
            for a, b, c, p in product(EDGE_EXPONENTS, SIDE_EXPONENTS, SIDE_EXPONENTS, (0, 1))
            if b + c > 0
        ]
        squares = (s - BIN_CENTRES[:, None]) ** 2 + (q - BIN_CENTRES) ** 2
        gaussians = np.exp(-squares / 2 / BIN_WIDTH**2) * np.exp(-(s + q) / DECAY_LENGTH)
        phases = np.array([1, triangles.axis[t] / 2, triangles.axis[t] ** 2 / 4])[:, None]
        three, smeared = three + phases * np.array(shapes), smeared + phases * gaussians[inside]
    for expected, values in (
        (three, three_centre_moments(triangles, pairs.distance, 2)[:, edge, :N_THREE_CENTRE]),
        (smeared, smeared_moments(triangles, pairs.distance, 2)[:, edge, :69]),
    ):
        rows = [x for m, y in enumerate(expected) for x in ([y.real] if m == 0 else [y.real, y.imag])]
        np.testing.assert_allclose(values, rows, atol=1e-13)
        assert np.abs(rows).min(0).max() > 1e-3


@pytest.mark.parametrize("functions", [three_centre_moments, smeared_moments])
def test_terms_of_far_atoms_vanish_smoothly(functions):
    far = np.array([RADIUS - 1e-3, RADIUS - 1e-2, RADIUS, RADIUS + 1, RADIUS + 2])
    position = np.stack([0 * far, 0 * far, far], 1)
    triangles = from_positions(np.arange(5), np.zeros(5, int), position, np.ones(5))
    values = np.abs(functions(triangles, np.ones(5), 1)[0]).max(1)
    assert values[0] < values[1] < 1e-4
    assert not values[2:].any()


def test_positions_determine_triangles():
    pairs, triangles, _ = find(molecule("CH3OH"))
    again = from_positions(triangles.edge, triangles.third, triangles.position, pairs.distance)
    np.testing.assert_allclose(again.sides, triangles.sides, atol=1e-13)
    np.testing.assert_array_equal(again.axis, triangles.axis)


def gaussian_functions(sides, cutoff):
    exponents = (sides[1:] ** 2)[..., None] * -np.array([0.0, 0.1, 0.6])
    return np.stack([cutoff, cutoff * sides[0]]), *np.exp(exponents)


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
def test_numpy_code_in_parts(at_once):
    pairs, triangles, _ = find(molecule("CH3OH"))
    parts = moments_numpy(triangles, len(pairs.distance), 3, gaussian_functions, 2, at_once)
    whole = moments(triangles, len(pairs.distance), 3, gaussian_functions, 2)
    np.testing.assert_allclose(parts, whole, atol=1e-13)


@pytest.mark.skipif(angles.compiled is None, reason="harmose was installed without a C compiler")
@pytest.mark.parametrize("orders", [0, 1, 4, 6])
def test_compiled_code_agrees_with_numpy(orders):
    pairs, triangles, _ = find(molecule("CH3OH"))
    compiled, expected = (
        compute(triangles, len(pairs.distance), 3, gaussian_functions, orders)
        for compute in (moments_compiled, moments_numpy)
    )
    np.testing.assert_allclose(compiled, expected, atol=1e-12)
    assert np.abs(compiled).max() > 0.01


def test_potentials_of_reversed_edges():
    pairs, triangles, _ = find(molecule("CH3OH"))
    n = len(pairs.distance) // 2
    potentials = side_potentials(triangles, 2 * n, 3, 2)
    forward, backward = potentials[:, :n], potentials[:, n:]
    np.testing.assert_allclose(reverse_potentials(forward, pairs.distance[:n]), backward, atol=1e-12)


def test_smeared_atoms_of_reversed_edges():
    """Bins are exchanged, and the mirror changes the sign of imaginary parts."""
    pairs, triangles, _ = find(molecule("CH3OH"))
    n = len(pairs.distance) // 2
    values = smeared_moments(triangles, pairs.distance, 2)
    expected = values[:, :n, exchanged_bins(values.shape[2])]
    expected[2::2] *= -1
    np.testing.assert_allclose(values[:, n:], expected, atol=1e-12)


def test_weights_of_three_centre_terms_apply_to_potentials():
    pairs, triangles, _ = find(molecule("H2O"))
    terms = three_centre_moments(triangles, pairs.distance, 0)[0]
    weights = np.random.default_rng(0).normal(size=(terms.shape[1], 2))
    reordered = three_centre_weights(weights, 3)
    potentials = side_potentials(triangles, len(terms), 3, 0)[0].reshape(len(terms), -1)
    along = np.exp(-(pairs.distance[:, None] ** 2) * EDGE_EXPONENTS)
    values = np.einsum("eak,ea->ek", (potentials @ reordered).reshape(len(terms), len(EDGE_EXPONENTS), 2), along)
    np.testing.assert_allclose(values, terms @ weights, atol=1e-10)
