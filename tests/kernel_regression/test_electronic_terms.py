"""Terms in the density and the charges of H0: their number, and their rotation with the molecule."""

import numpy as np
import pytest
from ase import Atoms

from harmose.kernel_regression.electronic_terms import (
    AtomTerms,
    mean_density,
    n_atom_terms,
    n_pair_terms,
    pair_terms,
    scale_to_unit_rms,
)
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.representation.concatenation import TargetSettings, compute_targets
from harmose.so3.wigner import random_rotation, shells_wigner


@pytest.fixture(scope="module")
def graphs(kernel_regression, water_sample):
    """A water molecule, and the same molecule rotated with its operators."""
    sample, rotation = water_sample(3), random_rotation(np.random.default_rng(1))
    turned = Atoms(sample.structure.numbers, sample.structure.positions @ rotation.T)
    operators = {name: getattr(sample, name).rotate(rotation) for name in ("hamiltonian", "prior", "overlap")}
    graphs = []
    for x in (sample, water_sample(3, structure=turned, **operators)):
        settings = TargetSettings(prior=True, operators=("density",))
        targets = compute_targets(kernel_regression.space, [x], settings)
        graph = Neighbourhoods(targets.space, targets.concatenated.oriented, targets.charges)
        graph.mean_density = mean_density(graph, targets.charges)
        graphs.append(graph)
    return *graphs, rotation


def test_pair_terms_do_not_change_under_rotation(graphs):
    one, turned, _ = graphs
    edges = np.flatnonzero(one.oriented.pair_type == 1)
    before, after = (pair_terms(graph, graph.charges, edges, 2) for graph in (one, turned))
    np.testing.assert_allclose(after[0], before[0], atol=1e-8)
    for m in (1, 2):  # the azimuth of a frame is arbitrary
        sizes = [sum(half**2 for half in np.split(x[m], 2)) for x in (before, after)]
        np.testing.assert_allclose(sizes[1], sizes[0], atol=1e-8)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_atom_terms_rotate_by_their_degree(graphs, degree):
    one, turned, rotation = graphs
    before, after = (AtomTerms(graph, graph.charges, np.array([1, 2])).terms(degree)[0] for graph in (one, turned))
    expected = np.einsum("ab,nbf->naf", shells_wigner((degree,), rotation), before)
    np.testing.assert_allclose(after, expected, atol=1e-8)


def test_numbers_of_terms(graphs):
    graph, _, _ = graphs
    for pair_type, (low, high) in {0: (0, 0), 1: (0, 1)}.items():
        edges = np.flatnonzero(graph.oriented.pair_type == pair_type)
        for order, terms in enumerate(pair_terms(graph, graph.charges, edges, 2)):
            assert terms.shape[1] == n_pair_terms(graph.space, low, high, order)
    for species, atoms in ((0, [1, 2]), (1, [0])):
        terms = AtomTerms(graph, graph.charges, np.array(atoms))
        for degree in range(3):
            values, sizes = terms.terms(degree)
            assert values.shape[-1] == len(sizes) == n_atom_terms(graph.space, species, degree)


def test_scaling_to_unit_rms(rng):
    features = rng.normal(size=(50, 3)) * [1, 10, 0]
    scaled, scale = scale_to_unit_rms(features)
    np.testing.assert_allclose(scaled * scale, features)
    np.testing.assert_allclose((scaled**2).mean(0), [1, 1, 0])
