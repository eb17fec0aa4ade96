"""Directed pairs, rotations and sums over the edges of atoms."""

import numpy as np
import pytest
from ase.build import molecule

from harmose.kernel_regression.neighbourhoods import N_GAUSSIANS, SPACING, pair_features, radial_gaussians
from harmose.kernel_regression.settings import RegressionSettings


@pytest.fixture
def graph(neighbourhoods):
    return neighbourhoods(molecule("H2O"))


def test_rotations_of_large_graphs_are_computed_when_needed(neighbourhoods, graph):
    large, edges = neighbourhoods(molecule("H2O"), settings=RegressionSettings(stored_pairs=0)), np.array([4, 0, 2])
    for degree in range(3):
        np.testing.assert_allclose(large.wigner(degree, edges), graph.wigner(degree, edges), atol=1e-14)
    np.testing.assert_allclose(large.axes(edges), graph.axes(edges), atol=1e-14)


@pytest.mark.parametrize(("degree", "parity"), [(1, 1), (2, 1), (1, -1), (2, -1)])
def test_rows_into_the_global_frame_are_orthonormal(graph, degree, parity):
    rows = graph.to_global(np.arange(6), degree, parity).swapaxes(0, 1)
    np.testing.assert_allclose(
        rows @ rows.swapaxes(1, 2), np.broadcast_to(np.eye(2 * degree + 1), rows.shape), atol=1e-12
    )


def test_the_first_row_of_proper_irreps_is_the_axis(graph):
    edges = np.arange(6)
    np.testing.assert_allclose(graph.axis_to_global(edges, 2), graph.to_global(edges, 2, 1)[0], atol=1e-12)
    directions = graph.pairs.vectors / graph.pairs.distance[:, None]
    np.testing.assert_allclose(graph.axis_to_global(edges, 1), directions[:, [1, 2, 0]], atol=1e-12)


def test_all_edges_of_an_atom_are_found(graph):
    edges = graph.atom_edges(np.array([1, 0]))
    assert edges.rows.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(graph.pairs.centre[edges.edges], [1, 1, 0, 0])
    assert sorted(graph.neighbours[edges.edges[:2]]) == [0, 2]


def test_sums_over_edges(graph):
    edges = graph.atom_edges(np.arange(3))
    np.testing.assert_array_equal(edges.sum(np.ones((6, 2))), np.full((3, 2), 2.0))
    counts = edges.by_species().sum(np.ones(6)).reshape(3, graph.n_species)
    assert counts.tolist() == [[2, 0], [1, 1], [1, 1]]  # oxygen has two H; hydrogen has one H and one O


def test_weights_favour_short_edges_and_sum_to_about_one(graph):
    edges = graph.atom_edges(np.arange(3)).weighted()
    np.testing.assert_allclose(edges.sum(edges.weights), 1, atol=0.01)
    own = edges[np.flatnonzero(edges.rows == 1)]
    assert own.weights[own.distance.argmin()] == own.weights.max()
    assert (edges.weights > 0).all()


def test_atoms_are_split_by_the_number_of_their_edges(neighbourhoods):
    graph, atoms = neighbourhoods(molecule("H2O"), settings=RegressionSettings(edges_of_atoms=3)), np.arange(3)
    parts = graph.atom_chunks(np.arange(3), atoms)
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), atoms)


def test_gaussians_peak_at_their_centres():
    centres = SPACING * (1 + np.arange(N_GAUSSIANS))
    np.testing.assert_array_equal(radial_gaussians(centres).argmax(1), np.arange(N_GAUSSIANS))
    np.testing.assert_allclose(np.diagonal(radial_gaussians(centres)), 1)


def test_features_without_triangles_are_those_of_the_distance(graph):
    scalar, vector = pair_features(graph, np.arange(4), 1, None)
    np.testing.assert_array_equal(scalar, radial_gaussians(graph.pairs.distance[:4]))
    assert vector.shape == (8, 0)
