"""Error features of blocks."""

import numpy as np
import pytest
import torch

from harmose.core.graph import build_graph
from harmose.representation.block_irreps import Coefficients, to_coefficients
from harmose.representation.concatenation import block_irreps, concatenate
from harmose.uncertainty.features import concatenate as concatenate_features
from harmose.uncertainty.features import error_features


@pytest.fixture
def samples(water_sample):
    return [water_sample(seed) for seed in (0, 1)]


@pytest.fixture
def space(samples):
    return block_irreps(samples[0].basis)


@pytest.fixture
def graph(samples, space):
    return concatenate(space, [build_graph(sample.structure, space.basis) for sample in samples])


@pytest.fixture
def matrix(samples, space, graph):
    return graph.matrix(space, graph.values([sample.hamiltonian for sample in samples]))


@pytest.fixture
def features(space, graph, matrix):
    """Scales are the norms of the irreps of H itself."""
    c = to_coefficients(space, matrix, graph.oriented)
    onsite = {}
    for s, x in c.onsite.items():
        degrees = [slice(l * l, (l + 1) ** 2) for l in range(space.l_max + 1)]
        onsite[s] = torch.cat([x[:, d].square().sum(1, keepdim=True).sqrt().expand_as(x[:, d]) for d in degrees], 1)
    scales = Coefficients({g: x.square().sum(1, keepdim=True).sqrt() for g, x in c.pairs.items()}, onsite)
    last_layer_std = np.arange(6.0), 10 + np.arange(6.0)
    return error_features(space, graph, scales, np.arange(6.0), last_layer_std, 20 + np.arange(12.0))


def test_sizes_are_root_mean_squares_of_elements(features, matrix):
    squares = np.add.reduceat(matrix.values[0] ** 2, matrix.offsets[:-1])
    np.testing.assert_allclose(features.size, np.sqrt(squares / np.diff(matrix.offsets)), rtol=1e-10)


def test_block_types_are_species_and_pair_types(features, graph):
    np.testing.assert_array_equal(features.block_type[:6], -1 - graph.oriented.species)
    np.testing.assert_array_equal(features.block_type[6:], graph.oriented.pair_type)


def test_a_pair_has_the_mean_score_of_its_atoms_and_their_distance(features, graph, samples):
    pairs = graph.graph.pairs
    np.testing.assert_allclose(features.ood_score[6:], (pairs[:, 0] + pairs[:, 1]) / 2)
    distances = samples[0].structure.get_all_distances()
    np.testing.assert_allclose(features.distance[6:9], distances[pairs[:3, 0], pairs[:3, 1]])
    assert not features.distance[:6].any()


def test_standard_deviations_come_in_the_order_of_the_batch(features, graph):
    np.testing.assert_array_equal(features.last_layer_std[graph.oriented.atom_order], np.arange(6))
    np.testing.assert_array_equal(features.last_layer_std[6 + graph.oriented.pair_order], 10 + np.arange(6))


def test_standard_deviations_of_the_regression_come_in_the_order_of_the_blocks(features):
    np.testing.assert_array_equal(features.regression_std, 20 + np.arange(12))


def test_blocks_stand_for_all_elements_of_the_matrix(features, graph, samples):
    for part, sample in zip(features.split(graph), samples, strict=True):
        assert part.elements.sum() == sample.hamiltonian.dense().size
        h = sample.hamiltonian
        np.testing.assert_array_equal(part.elements, np.diff(h.offsets) * h.multiplicity)


def test_parts_are_those_of_each_structure(features, graph, samples):
    parts = features.split(graph)
    np.testing.assert_array_equal(parts[1].regression_std, [23, 24, 25, 29, 30, 31])
    assert [len(part.size) for part in parts] == [len(sample.hamiltonian.keys) for sample in samples]
    np.testing.assert_array_equal(parts[1].atom_ood_score, [3, 4, 5])
    assert concatenate_features(parts).size.sum() == pytest.approx(features.size.sum())
