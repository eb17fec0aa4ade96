"""The standard deviation of the last layer against its definition."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.graph import build_graph
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.batch import graph_batch
from harmose.representation.block_irreps import BlockIrreps
from harmose.uncertainty.llpr import RIDGE, LastLayer, fit_last_layer

BASIS = BasisSet("sp", {z: (Shell(1, 0), Shell(2, 1)) for z in (1, 6, 8)}, dict.fromkeys((1, 6, 8), 4.0))
SPACE = BlockIrreps(BASIS, 2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    settings = NetworkSettings(Stage1Settings(4, 2, 8, 4, 2, 8, 8, 1), Stage2Settings(2, 4, 2, 8, 4, 2, 8, 1, 2))
    return TwoStage(SPACE, settings).eval()


def batch(name: str):
    graph = build_graph(molecule(name), BASIS)
    return graph_batch(SPACE, graph, SPACE.orient(graph))


def test_variances_follow_the_definition(network):
    methanol = batch("CH3OH")
    with torch.no_grad():
        atoms, _, _ = network.stage1.encode(methanol)
    hydrogens = (methanol.species == 0).numpy()
    x = np.concatenate([atoms.proper[:, 0].double().numpy(), np.ones((methanol.n_atoms, 1))], 1)[hydrogens]
    moment = x.T @ x
    ridge = RIDGE * np.trace(moment) / len(moment)
    expected = np.einsum("ni,ij,nj->n", x, np.linalg.inv(moment + ridge * np.eye(len(moment))), x)
    std, _ = fit_last_layer(network, [methanol]).std(network, methanol)
    np.testing.assert_allclose(std[hydrogens] ** 2, expected, rtol=1e-6)


def test_more_training_edges_make_the_standard_deviation_smaller(network):
    few, many = fit_last_layer(network, [batch("CH3OH")]), fit_last_layer(network, [batch("CH3OH")] * 4)
    for one, other in zip(few.std(network, batch("CH3OH")), many.std(network, batch("CH3OH"))):
        np.testing.assert_allclose(other, one / 2, rtol=0.05)
        assert (one <= 1 + 1e-9).all()


def test_pairs_of_elements_that_the_training_set_lacks_have_one(network):
    water, carbon_monoxide = fit_last_layer(network, [batch("H2O")]), batch("CO")
    atoms, pairs = water.std(network, carbon_monoxide)
    np.testing.assert_array_equal(pairs, 1)
    assert atoms[(carbon_monoxide.species == SPACE.species(np.array([6]))[0]).numpy()] == 1


def test_without_a_network_all_are_one():
    water = batch("H2O")
    last_layer = fit_last_layer(None, [water])
    assert not last_layer.edges
    for std, n in zip(last_layer.std(None, water), (3, 3)):
        np.testing.assert_array_equal(std, np.ones(n))


def test_a_pair_has_the_rms_of_both_directions():
    scalars, pair_type = torch.tensor([[3.0], [4.0]]), torch.tensor([0, 1])
    whitening = np.array([[1.0, 0.0], [0.0, 0.0]])
    std = LastLayer({0: whitening, 1: whitening}, {}).pair_std(scalars, pair_type)
    np.testing.assert_allclose(std, [np.sqrt(12.5)])


def test_weights_are_one_half_where_the_standard_deviation_is():
    last_layer = LastLayer({}, {}, np.array([0.5, 2.0]))
    weights = last_layer.weights(np.array([0.0, 0.5, 2.0, 1e9]))
    np.testing.assert_allclose(weights[:, 0], 1)
    assert (weights[0, 1], weights[1, 2]) == (0.5, 0.5)
    assert (np.diff(weights, axis=1) < 0).all()
    assert weights[:, 3].max() < 1e-12
    np.testing.assert_array_equal(LastLayer({}, {}).weights(np.array([0.0, 1e300])), np.ones((2, 2)))


def test_standard_deviations_of_parts_are_those_of_the_whole(network):
    methanol, layer = batch("CH3OH"), fit_last_layer(network, [batch("CH3OH")])
    with torch.no_grad():
        first = network.stage1(methanol)
    atoms, pairs = layer.std(network, batch("CH3OH"))
    np.testing.assert_allclose(layer.atom_std(first.atoms.proper[:, 0], methanol.species), atoms, rtol=1e-5)
    np.testing.assert_allclose(layer.pair_std(first.edges.scalars, first.graph.pair_type), pairs, rtol=1e-5)
    np.testing.assert_array_equal(layer.half, [np.inf, np.inf])
