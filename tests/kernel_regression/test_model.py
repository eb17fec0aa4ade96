"""Predictions of the regression: symmetries, parts of a graph, and unknown elements."""

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.core.graph import build_graph
from harmose.errors import ModelError
from harmose.kernel_regression.settings import RegressionSettings
from harmose.so3.wigner import random_rotation


@pytest.mark.parametrize("kind", ["kernel", "pairs"])
def test_predictions_rotate_with_the_molecule(request, predict, water_sample, kind):
    regression = request.getfixturevalue(f"{'kernel' if kind == 'kernel' else 'pair'}_regression")
    assert regression.kind == kind
    atoms, rotation = water_sample(7).structure, random_rotation(np.random.default_rng(0))
    h, turned = predict(regression, atoms), atoms.copy()
    turned.positions = turned.positions @ rotation.T
    np.testing.assert_allclose(predict(regression, turned).dense(), h.rotate(rotation).dense(), atol=1e-8)


def test_inversion_changes_blocks_by_their_parity(kernel_regression, predict, water_sample):
    atoms = water_sample(7).structure
    h, inverted = predict(kernel_regression, atoms), atoms.copy()
    inverted.positions = -inverted.positions
    degrees = np.concatenate([np.repeat(l, 2 * l + 1) for z in atoms.numbers for l in h.basis.degrees(int(z))])
    parity = (-1.0) ** degrees
    expected = h.dense() * parity * parity[:, None]
    np.testing.assert_allclose(predict(kernel_regression, inverted).dense(), expected, atol=1e-8)


def test_exchanging_two_like_atoms_exchanges_their_blocks(kernel_regression, predict, water_sample):
    atoms = water_sample(3).structure
    h, exchanged = predict(kernel_regression, atoms), predict(kernel_regression, atoms[[0, 2, 1]])
    np.testing.assert_allclose(exchanged.block(1, 2), h.block(2, 1), atol=1e-9)
    np.testing.assert_allclose(exchanged.block(0, 1), h.block(0, 2), atol=1e-9)


@pytest.mark.parametrize("atoms", [Atoms("O"), Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])], ids=["atom", "pair"])
def test_lone_atoms_and_pairs_are_predicted(kernel_regression, predict, atoms):
    assert np.isfinite(predict(kernel_regression, atoms).dense()).all()


def test_parts_of_a_graph_have_the_values_of_the_whole(kernel_regression, water_sample):
    space, atoms = kernel_regression.space, Atoms()
    for k, seed in enumerate((7, 8, 9)):
        water = water_sample(seed).structure
        water.positions += [30.0 * k, 0, 0]
        atoms += water
    oriented = space.orient(build_graph(atoms, space.basis))
    whole = kernel_regression.values(oriented)
    settings = RegressionSettings(stored_pairs=0, edges_of_atoms=10)
    graph = kernel_regression.neighbourhoods(oriented, settings=settings)
    for group, pairs in oriented.pairs.items():
        rows = np.arange(len(pairs))[1::2][::-1].copy()
        values = kernel_regression.pair_values(graph, group, pairs[rows])
        torch.testing.assert_close(values, whole.pairs[group][rows], rtol=0, atol=1e-10)
    for shell_type, members in oriented.atoms.items():
        rows = np.arange(len(members))[::-1].copy()
        values = kernel_regression.onsite_values(graph, shell_type, members[rows])
        torch.testing.assert_close(values, whole.onsite[shell_type][rows], rtol=0, atol=1e-10)


def test_a_pair_of_elements_that_the_training_set_lacks(kernel_regression, predict):
    with pytest.raises(ModelError, match="no pair of elements 8-8"):
        predict(kernel_regression, Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]))


def test_an_element_that_the_training_set_lacks(pair_regression, predict):
    del (onsite := dict(pair_regression.onsite))[1]
    without = type(pair_regression)(pair_regression.space, pair_regression.pairs, onsite)
    with pytest.raises(ModelError, match="no element 8"):
        predict(without, Atoms("O"))
