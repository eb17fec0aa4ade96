"""Regressions of one pair type and of one species."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.errors import ModelError
from harmose.kernel_regression.fit import fit_regression
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression, require_charges
from harmose.kernel_regression.neighbourhoods import N_GAUSSIANS, pair_features, radial_gaussians
from harmose.kernel_regression.settings import RegressionSettings
from harmose.representation.concatenation import TargetSettings


def test_linear_values_are_features_times_weights(neighbourhoods, rng):
    graph, edges = neighbourhoods(molecule("H2O")), np.arange(6)
    features = pair_features(graph, edges, 1, graph.triangles(edges))
    linear = {m: rng.normal(size=(x.shape[1], 2)) for m, x in enumerate(features)}
    values, variance = PairRegression(linear).values(graph, edges, 5)
    np.testing.assert_allclose(values[:, 0], features[0] @ linear[0], atol=1e-9)
    even, odd = np.split(features[1] @ linear[1], 2)
    np.testing.assert_allclose(values[:, 1], even, atol=1e-9)
    np.testing.assert_allclose(values[:, 2], odd, atol=1e-9)
    assert not values[:, 3:].any()
    assert not variance.any()


def test_both_directions_at_once_agree_with_each_direction(kernel_regression, neighbourhoods, stretched):
    graph, hydrogens = neighbourhoods(stretched(1.2)), kernel_regression.pairs[0]
    pairs = np.flatnonzero(graph.oriented.pair_type == 0)
    assert graph.same_from_both_ends
    *both, variance = hydrogens.both_values(graph, pairs, 5)
    alone = [hydrogens.values(graph, pairs + direction * graph.n_pairs, 5) for direction in range(2)]
    for values, (expected, _) in zip(both, alone, strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-9)
    np.testing.assert_allclose(variance, (alone[0][1] + alone[1][1]) / 2, rtol=1e-5)
    assert abs(alone[0][1] / alone[1][1] - 1) > 1e-2


def test_values_do_not_depend_on_the_limits_of_memory(kernel_regression, water_sample):
    settings = RegressionSettings(feature_numbers=500, stored_pairs=0, edges_of_atoms=1, kernel_block=1)
    space = kernel_regression.space
    oriented = space.orient(build_graph(water_sample(7).structure, space.basis))
    whole, parts = kernel_regression.values(oriented), kernel_regression.neighbourhoods(oriented, settings=settings)
    for group, pairs in oriented.pairs.items():
        values, _, _ = kernel_regression.pair_values(parts, group, pairs)
        torch.testing.assert_close(values, whole.pairs[group], atol=1e-9, rtol=0)
    for shell_type, atoms in oriented.atoms.items():
        values, _, _ = kernel_regression.onsite_values(parts, shell_type, atoms)
        torch.testing.assert_close(values, whole.onsite[shell_type], atol=1e-9, rtol=0)


def test_linear_terms_of_an_atom_are_sums_over_its_neighbours(neighbourhoods, rng):
    graph = neighbourhoods(molecule("H2O"))
    layout = graph.space.onsite_layout(1)
    weights = rng.normal(size=(N_GAUSSIANS, layout.n_proper))
    regression = AtomRegression(np.zeros(layout.n_proper), {(1, 0): weights}, {})
    values = regression.values(graph, np.array([0]), layout)[0][0]
    edges = graph.atom_edges(np.array([0]))
    vectors = graph.pairs.vectors[edges.edges] / edges.distance[:, None]
    expected = vectors[:, [1, 2, 0]].T @ (radial_gaussians(edges.distance) @ weights)
    np.testing.assert_allclose(values[1:4, : layout.n_proper], expected, atol=1e-10)


def test_a_regression_that_reads_charges_needs_them(make_training, water_sample, predict):
    regression, _ = fit_regression(make_training(range(10), TargetSettings(prior=True, operators=("density",))))
    assert regression.reads_charges
    with pytest.raises(ModelError, match="expected H0 and S, got none"):
        predict(regression, water_sample(3).structure)


def test_charges_are_required(neighbourhoods):
    with pytest.raises(ModelError, match="expected H0 and S"):
        require_charges(neighbourhoods(molecule("H2O")))
