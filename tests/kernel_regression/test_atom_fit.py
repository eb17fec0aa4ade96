"""The fit to the atoms of one species."""

from dataclasses import replace

import numpy as np

from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.settings import RegressionSettings


def fit(training, kind="kernel", settings=None):
    """The oxygen atoms."""
    training = replace(training, settings=settings or training.settings)
    graph = Neighbourhoods(training.space, training.oriented, settings=training.settings)
    atoms, targets = training.oriented.atoms[1], training.coefficients.onsite[1].numpy()
    return targets, *AtomFit(graph, training, 1, atoms, targets).run(kind, np.random.default_rng(0))


def test_left_out_samples_are_predicted(training):
    targets, _, leave_one_out = fit(training)
    assert np.abs(leave_one_out - targets).mean() < 0.05 * np.abs(targets - targets.mean(0)).mean()


def test_pairs_predict_the_mean_of_scalars(training):
    targets, regression, leave_one_out = fit(training, "pairs")
    n = training.space.onsite_layout(1).n_proper
    np.testing.assert_allclose(leave_one_out[:, 0, :n], np.broadcast_to(targets[:, 0, :n].mean(0), (len(targets), n)))
    assert not leave_one_out[:, 1:].any()
    assert not regression.linear
    assert not regression.kernel_expansions


def test_there_is_no_kernel_with_too_few_sparse_points(training):
    _, regression, _ = fit(training, settings=RegressionSettings(kernel_elements=100))
    assert not regression.kernel_expansions
    assert regression.linear
    _, regression, _ = fit(replace(training, sparse_points=0))
    assert not regression.kernel_expansions


def test_the_number_of_sparse_atoms_is_limited(training):
    """Degrees up to 2 have five components: 20 components are four atoms with two edges each."""
    _, regression, _ = fit(training, settings=RegressionSettings(sparse_components=20))
    assert len(regression.kernel_expansions[0].sparse_points.distance) == 8


def test_memory_limits_do_not_change_the_fit(training):
    _, _, whole = fit(training)
    _, _, parts = fit(training, settings=RegressionSettings(kernel_numbers=1000, solver_numbers=1000, kernel_block=100))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
