"""The closed-form part of stage 1: it fits three-body matrices, rotates, and survives a checkpoint."""

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.baseline import Baseline, fit_baseline
from harmose.errors import ModelError
from harmose.graph import build_graph
from harmose.so3.wigner import random_rotation
from harmose.targets import TargetSpace, to_coefficients, to_matrix


@pytest.fixture(scope="module")
def fitted(water_basis, water_sample):
    """Space and baselines with and without triangles, fitted to 60 waters in STO-3G."""
    space, training = TargetSpace(water_basis, 2), []
    for seed in range(60):
        sample = water_sample(seed)
        oriented = space.orient(build_graph(sample.structure, water_basis))
        training.append((oriented, to_coefficients(space, sample.hamiltonian, oriented)))
    return space, fit_baseline(space, training), fit_baseline(space, training, three_body=False)


def predict(space: TargetSpace, baseline: Baseline, atoms: Atoms):
    graph = build_graph(atoms, space.basis)
    oriented = space.orient(graph)
    return to_matrix(space, baseline.values(oriented), graph, oriented)


def test_three_atoms_are_fitted_by_triangles(fitted, water_sample):
    space, triangles, pairs = fitted
    errors = {True: [], False: []}
    for seed in range(100, 110):
        sample = water_sample(seed)
        for three_body, baseline in ((True, triangles), (False, pairs)):
            error = predict(space, baseline, sample.structure) - sample.hamiltonian
            errors[three_body].append(np.abs(error.dense()).mean())
    spread = np.mean(
        [np.abs((water_sample(s).hamiltonian - water_sample(0).hamiltonian).dense()).mean() for s in range(1, 9)]
    )
    assert np.mean(errors[True]) < 0.02 * spread
    assert np.mean(errors[True]) < 0.1 * np.mean(errors[False])


@pytest.mark.parametrize("three_body", [True, False])
def test_it_rotates_with_the_molecule_and_is_hermitian(fitted, water_sample, three_body):
    space, baseline = fitted[0], fitted[1 if three_body else 2]
    atoms, rotation = water_sample(7).structure, random_rotation(np.random.default_rng(0))
    h, turned = predict(space, baseline, atoms), atoms.copy()
    turned.positions = turned.positions @ rotation.T
    np.testing.assert_allclose(predict(space, baseline, turned).dense(), h.rotate(rotation).dense(), atol=1e-8)


def test_exchanging_two_like_atoms_exchanges_their_blocks(fitted, water_sample):
    space, baseline, _ = fitted
    atoms = water_sample(3).structure
    h, swapped = predict(space, baseline, atoms), predict(space, baseline, atoms[[0, 2, 1]])
    np.testing.assert_allclose(swapped.block(1, 2), h.block(2, 1), atol=1e-9)
    np.testing.assert_allclose(swapped.block(0, 1), h.block(0, 2), atol=1e-9)


def test_state_round_trip(fitted, water_sample):
    space, baseline, _ = fitted
    again = Baseline.from_state(space, baseline.state())
    oriented = space.orient(build_graph(water_sample(5).structure, space.basis))
    for one, other in (
        (baseline.values(oriented), again.values(oriented)),
        (baseline.scales(oriented), again.scales(oriented)),
    ):
        for g in one.pairs:
            torch.testing.assert_close(one.pairs[g], other.pairs[g], rtol=0, atol=1e-12)
        for s in one.onsite:
            torch.testing.assert_close(one.onsite[s], other.onsite[s], rtol=0, atol=1e-12)


def test_scales_are_what_the_fit_leaves(fitted):
    _, triangles, pairs = fitted
    for kind in triangles.pair_scale:
        assert (triangles.pair_scale[kind][:-5].max()) < pairs.pair_scale[kind][:-5].max()


def test_a_pair_of_elements_that_training_never_saw(fitted):
    space, baseline, _ = fitted
    with pytest.raises(ModelError, match="no pair of elements 8-8"):
        predict(space, baseline, Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]))


def test_an_incomplete_state_is_refused(fitted):
    space = fitted[0]
    with pytest.raises(ModelError, match="not complete"):
        Baseline.from_state(space, {"pair.x.weights.0": torch.zeros(1)})
