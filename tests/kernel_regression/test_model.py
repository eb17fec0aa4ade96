"""The closed-form part of stage 1: it fits many-body matrices, rotates, and survives a checkpoint."""

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.core.graph import build_graph
from harmose.errors import ModelError
from harmose.kernel_regression.fit import Training, fit_regression
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.state import from_state, to_state
from harmose.representation.block_irreps import BlockIrreps, to_matrix
from harmose.so3.wigner import random_rotation
from harmose.train.dataset import TargetSettings, compute_targets


@pytest.fixture(scope="module")
def training(water_basis, water_sample) -> Training:
    """Sixty waters in STO-3G."""
    space = BlockIrreps(water_basis, 2)
    measured = compute_targets(space, [water_sample(seed) for seed in range(60)], TargetSettings())
    joined = measured.concatenated
    return Training(space, joined.oriented, measured.coefficients, joined.pair_sample, joined.atom_sample)


@pytest.fixture(scope="module")
def fitted(training):
    """Space and baselines: of many bodies, of pairs alone."""
    return training.space, fit_regression(training)[0], fit_regression(training, many_body=False)[0]


def predict(space: BlockIrreps, regression: KernelRegression, atoms: Atoms):
    graph = build_graph(atoms, space.basis)
    oriented = space.orient(graph)
    return to_matrix(space, regression.values(oriented), graph, oriented)


def test_three_atoms_are_more_than_pairs(fitted, water_sample):
    space, many_body, pairs = fitted
    errors = {True: [], False: []}
    for seed in range(100, 110):
        sample = water_sample(seed)
        for many, regression in ((True, many_body), (False, pairs)):
            error = predict(space, regression, sample.structure) - sample.hamiltonian
            errors[many].append(np.abs(error.dense()).mean())
    spread = np.mean(
        [np.abs((water_sample(s).hamiltonian - water_sample(0).hamiltonian).dense()).mean() for s in range(1, 9)]
    )
    assert np.mean(errors[True]) < 0.003 * spread
    assert np.mean(errors[True]) < 0.02 * np.mean(errors[False])


def test_predictions_left_out_are_those_of_a_fit_without_the_sample(training, water_basis, water_sample, monkeypatch):
    monkeypatch.setattr("harmose.kernel_regression.training.CANDIDATES", ((1e-6, 1e4),))
    _, unseen = fit_regression(training)
    kept = compute_targets(training.space, [water_sample(seed) for seed in range(60) if seed != 17], TargetSettings())
    joined = kept.concatenated
    parts = (joined.oriented, kept.coefficients, joined.pair_sample, joined.atom_sample)
    without, _ = fit_regression(Training(training.space, *parts))
    alone = compute_targets(training.space, [water_sample(17)], TargetSettings())
    expected, spread = without.values(alone.concatenated.oriented), training.coefficients
    for group, pairs in training.oriented.members.items():
        mine = torch.as_tensor(training.pair_sample[pairs] == 17)
        if not mine.any():  # the only oxygen has no pair with another
            continue
        scale = spread.pairs[group].std(0).max()
        # The references differ by those of the sample, so the two agree only as far as these do not matter.
        assert (unseen.pairs[group][mine] - expected.pairs[group]).abs().max() < 2e-3 * scale


@pytest.mark.parametrize("many_body", [True, False])
def test_it_rotates_with_the_molecule_and_is_hermitian(fitted, water_sample, many_body):
    space, regression = fitted[0], fitted[1 if many_body else 2]
    atoms, rotation = water_sample(7).structure, random_rotation(np.random.default_rng(0))
    h, turned = predict(space, regression, atoms), atoms.copy()
    turned.positions = turned.positions @ rotation.T
    np.testing.assert_allclose(predict(space, regression, turned).dense(), h.rotate(rotation).dense(), atol=1e-8)


def test_the_inversion_changes_blocks_by_their_parity(fitted, water_sample):
    space, regression, _ = fitted
    atoms = water_sample(7).structure
    h, turned = predict(space, regression, atoms), atoms.copy()
    turned.positions = -turned.positions
    degrees = np.concatenate([np.repeat(l, 2 * l + 1) for z in atoms.numbers for l in space.basis.degrees(int(z))])
    parity = (-1.0) ** degrees
    inverted = predict(space, regression, turned).dense()
    np.testing.assert_allclose(inverted, h.dense() * parity * parity[:, None], atol=1e-8)


def test_lone_atoms_and_lone_pairs_are_predicted(fitted):
    space, regression, _ = fitted
    for atoms in (Atoms("O"), Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])):
        assert np.isfinite(predict(space, regression, atoms).dense()).all()


def test_exchanging_two_like_atoms_exchanges_their_blocks(fitted, water_sample):
    space, regression, _ = fitted
    atoms = water_sample(3).structure
    h, swapped = predict(space, regression, atoms), predict(space, regression, atoms[[0, 2, 1]])
    np.testing.assert_allclose(swapped.block(1, 2), h.block(2, 1), atol=1e-9)
    np.testing.assert_allclose(swapped.block(0, 1), h.block(0, 2), atol=1e-9)


def test_state_round_trip(fitted, water_sample):
    space, regression, _ = fitted
    again = from_state(space, to_state(regression))
    oriented = space.orient(build_graph(water_sample(5).structure, space.basis))
    for one, other in (
        (regression.values(oriented), again.values(oriented)),
        (regression.scales(oriented), again.scales(oriented)),
    ):
        for g in one.pairs:
            torch.testing.assert_close(one.pairs[g], other.pairs[g], rtol=0, atol=1e-12)
        for s in one.onsite:
            torch.testing.assert_close(one.onsite[s], other.onsite[s], rtol=0, atol=1e-12)


def test_scales_are_what_the_fit_leaves(fitted):
    _, many_body, pairs = fitted
    for pair_type in many_body.pair_scale:
        assert (many_body.pair_scale[pair_type][:-5].max()) < pairs.pair_scale[pair_type][:-5].max()


def test_a_pair_of_elements_that_training_never_saw(fitted):
    space, regression, _ = fitted
    with pytest.raises(ModelError, match="no pair of elements 8-8"):
        predict(space, regression, Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]))


def test_an_incomplete_state_is_refused(fitted):
    space = fitted[0]
    with pytest.raises(ModelError, match="not complete"):
        from_state(space, {"pair.x.weights.0": torch.zeros(1)})


def test_a_state_that_points_at_edges_that_are_not_there(fitted):
    space, regression, _ = fitted
    state = to_state(regression)
    name = next(k for k in state if k.endswith("field.count"))
    state[name] = state[name] + 1
    with pytest.raises(ModelError, match="not complete"):
        from_state(space, state)


def test_predictions_do_not_depend_on_how_many_edges_are_in_memory(training, fitted, monkeypatch):
    whole = fitted[1].values(training.oriented)
    monkeypatch.setattr("harmose.kernel_regression.expansion.AT_ONCE", 500)
    parts = fitted[1].values(training.oriented)
    for group, x in whole.pairs.items():
        torch.testing.assert_close(parts.pairs[group], x, atol=1e-9, rtol=0)
    for shell_type, x in whole.onsite.items():
        torch.testing.assert_close(parts.onsite[shell_type], x, atol=1e-9, rtol=0)


def test_parts_of_a_graph_have_the_values_of_the_whole(fitted, water_sample, monkeypatch):
    space, regression, _ = fitted
    waters = [water_sample(seed).structure for seed in (7, 8, 9)]
    for k, atoms in enumerate(waters):
        atoms.positions += [30.0 * k, 0, 0]
    oriented = space.orient(build_graph(waters[0] + waters[1] + waters[2], space.basis))
    whole, scales, ood_score = regression.values(oriented), regression.scales(oriented), regression.ood_score(oriented)
    # as in a large graph
    monkeypatch.setattr("harmose.kernel_regression.neighbourhoods.KEPT", 0)
    monkeypatch.setattr("harmose.kernel_regression.model.EDGES_AT_ONCE", 10)
    graph = regression.neighbourhoods(space.orient(build_graph(waters[0] + waters[1] + waters[2], space.basis)))
    for group, members in oriented.members.items():
        rows = np.arange(len(members))[1::2][::-1]
        found = regression.pair_values(graph, group, members[rows])
        torch.testing.assert_close(found, whole.pairs[group][rows.copy()], rtol=0, atol=1e-10)
        assert torch.equal(regression.pair_scales(oriented, group, members[rows]), scales.pairs[group][rows.copy()])
    for shell_type, atoms in oriented.atoms.items():
        rows = np.arange(len(atoms))[::-1]
        found = regression.onsite_values(graph, shell_type, atoms[rows])
        torch.testing.assert_close(found, whole.onsite[shell_type][rows.copy()], rtol=0, atol=1e-10)
        found = regression.onsite_scales(oriented, shell_type, atoms[rows])
        assert torch.equal(found, scales.onsite[shell_type][rows.copy()])
    np.testing.assert_allclose(regression.ood_score_of(graph, np.array([5, 2])), ood_score[[5, 2]], rtol=1e-10)


def test_both_directions_from_one_end_are_those_of_each_from_its_own(fitted, water_sample):
    space, regression, _ = fitted
    oriented = space.orient(build_graph(water_sample(7).structure, space.basis))
    once, twice = regression.neighbourhoods(oriented), regression.neighbourhoods(oriented)
    assert once.same_from_both_ends
    twice.same_from_both_ends = False
    for group, members in oriented.members.items():
        found, expected = (regression.pair_values(graph, group, members) for graph in (once, twice))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_fits_do_not_depend_on_how_much_is_in_memory(training, fitted, monkeypatch):
    whole = fitted[1].values(training.oriented)
    for name, value in (("limits.KEPT", 10_000), ("ridge.AT_ONCE", 100_000), ("edge_field.AT_ONCE", 20_000)):
        monkeypatch.setattr(f"harmose.kernel_regression.{name}", value)
    parts = fit_regression(training)[0].values(training.oriented)
    for group, x in whole.pairs.items():
        torch.testing.assert_close(parts.pairs[group], x, atol=1e-6, rtol=0)
    for shell_type, x in whole.onsite.items():
        torch.testing.assert_close(parts.onsite[shell_type], x, atol=1e-6, rtol=0)


def test_columns_without_weights_are_not_written(fitted):
    _, regression, _ = fitted
    state = to_state(regression)
    pair_type, fit = next((pair_type, fit) for pair_type, fit in regression.pairs.items() if len(fit.linear) > 1)
    for name, weights in (("field.weights_1", fit.many_body.weights[1]), ("linear.1", fit.linear[1])):
        used = np.flatnonzero(weights.any(0))
        assert 0 < len(used) < weights.shape[1]  # s-s has no component of order 1
        assert state[f"pair.{kind}.{name}"].shape[1] == len(used)


@pytest.mark.parametrize("limits", [{"MOST_PAIRS": 50}, {"COMPARED": 2000}])
def test_large_sets_are_fitted_to_a_part_of_their_pairs_or_with_fewer_references(training, fitted, monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(f"harmose.kernel_regression.limits.{name}", value)
    smaller, unseen = fit_regression(training)
    pairs = fitted[2].values(training.oriented).pairs
    for group, x in training.coefficients.pairs.items():
        if len(x):
            errors = [(x - y).abs().mean() for y in (unseen.pairs[group], pairs[group], x.mean(0))]
            assert errors[0] < errors[1] < errors[2]
    if "COMPARED" in limits:
        assert not any(fit.many_body for fit in smaller.onsite.values())
        assert all(len(fit.many_body.references.distance) < 60 for fit in smaller.pairs.values())
