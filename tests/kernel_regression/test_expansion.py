"""Kernel expansions against the sums that they are."""

import numpy as np
import pytest
from ase.build import molecule

from harmose.kernel_regression.expansion import KernelExpansion, SparsePoints, add_order, nonzero_columns
from harmose.kernel_regression.kernel import PAIR_KERNEL, edge_kernels

EDGES, POINTS = np.array([0, 1, 4, 5]), np.array([0, 3])


def expansion(graph, weights: dict[int, np.ndarray]) -> KernelExpansion:
    distance = graph.pairs.distance[POINTS]
    points = SparsePoints.from_triangles(graph.triangles(POINTS), distance, graph.n_species, PAIR_KERNEL)
    return KernelExpansion(points, weights, 2)


def values_at(expanded: KernelExpansion, graph, edges: np.ndarray) -> np.ndarray:
    out = np.zeros((len(edges), 5, 3))
    expanded.add([out], graph.edge_descriptors(edges, PAIR_KERNEL, graph.triangles(edges)))
    return out


@pytest.fixture
def weights(rng):
    return {m: rng.normal(size=(len(POINTS) * (2 if m else 1), 3)) for m in range(3)}


def test_values_are_sums_of_kernels(neighbourhoods, weights):
    graph = neighbourhoods(molecule("H2O"))
    expanded = expansion(graph, weights)
    descriptors = graph.edge_descriptors(EDGES, PAIR_KERNEL, graph.triangles(EDGES))
    (scalar, pseudoscalar), first, second = edge_kernels(descriptors, expanded.sparse_points.references, range(3))
    values = values_at(expanded, graph, EDGES)
    np.testing.assert_allclose(values[:, 0, :2], scalar @ weights[0][:, :2], atol=1e-12)
    np.testing.assert_allclose(values[:, 0, 2], pseudoscalar @ weights[0][:, 2], atol=1e-12)
    np.testing.assert_allclose(values[:, 1], (first @ weights[1])[:4], atol=1e-12)
    np.testing.assert_allclose(values[:, 4], (second @ weights[2])[4:], atol=1e-12)


def test_values_at_reversed_edges(neighbourhoods, weights):
    graph = neighbourhoods(molecule("H2O"))
    expanded, edges = expansion(graph, weights), np.arange(graph.n_pairs)
    out = [np.zeros((len(edges), 5, 3)) for _ in range(2)]
    expanded.add(out, graph.edge_descriptors(edges, PAIR_KERNEL, graph.triangles(edges)))
    np.testing.assert_allclose(out[1], values_at(expanded, graph, edges + graph.n_pairs), atol=1e-12)


def test_columns_and_orders_without_weights_are_left_out():
    zero, some = np.zeros((2, 3)), np.array([[0, 1, 0], [0, 2, 0.0]])
    kept = nonzero_columns({0: zero, 1: some, 2: zero})
    assert [columns.tolist() for columns, _ in kept] == [[0, 1, 2], [1]]
    np.testing.assert_array_equal(kept[1][1], some[:, 1:2])


def test_orders_are_added_to_their_slots():
    out = np.zeros((2, 5, 3))
    add_order(out, 2, np.array([1]), np.array([[1.0], [2], [3], [4]]))
    np.testing.assert_array_equal(out[:, 3:, 1], [[1, 3], [2, 4]])
    assert np.count_nonzero(out) == 4
