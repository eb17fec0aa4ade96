"""The fit to the atoms of one species."""

from dataclasses import replace

import numpy as np

from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.settings import RegressionSettings
from harmose.representation.concatenation import TargetSettings


def neighbourhoods(training):
    graph = Neighbourhoods(training.space, training.oriented, training.charges, settings=training.settings)
    if training.charges is not None:
        graph.mean_density = mean_density(graph, training.charges)
    return graph


def fit(training, kind="kernel", settings=None):
    """The oxygen atoms."""
    training = replace(training, settings=settings or training.settings)
    graph = neighbourhoods(training)
    atoms, targets = training.oriented.atoms[1], training.coefficients.onsite[1].numpy()
    return targets, AtomFit(graph, training, 1, atoms, targets).run(kind, np.random.default_rng(0))


def test_left_out_samples_are_predicted(training):
    targets, found = fit(training)
    assert np.abs(found.leave_one_out - targets).mean() < 0.05 * np.abs(targets - targets.mean(0)).mean()


def test_pairs_predict_the_mean_of_scalars(training):
    targets, (regression, leave_one_out, variance, outermost, *_) = fit(training, "pairs")
    n = training.space.onsite_layout(1).n_proper
    np.testing.assert_allclose(leave_one_out[:, 0, :n], np.broadcast_to(targets[:, 0, :n].mean(0), (len(targets), n)))
    assert not leave_one_out[:, 1:].any()
    assert not regression.linear
    assert not regression.kernel_expansions
    assert regression.n_draws == 0
    assert not variance.any()
    assert not len(outermost.rows)


def test_there_is_no_kernel_with_too_few_sparse_points(training):
    regression = fit(training, settings=RegressionSettings(kernel_elements=100))[1].regression
    assert not regression.kernel_expansions
    assert regression.linear
    assert not fit(replace(training, sparse_points=0))[1].regression.kernel_expansions


def test_the_number_of_sparse_atoms_is_limited(training):
    """Degrees up to 2 have five components: 20 components are four atoms with two edges each."""
    found = fit(training, settings=RegressionSettings(sparse_components=20))[1]
    assert len(found.regression.kernel_expansions[0].sparse_points.distance) == 8


def test_memory_limits_do_not_change_the_fit(training):
    whole = fit(training)[1]
    parts = fit(training, settings=RegressionSettings(kernel_numbers=1000, solver_numbers=1000, kernel_block=100))[1]
    np.testing.assert_allclose(parts.leave_one_out, whole.leave_one_out, atol=1e-6)
    np.testing.assert_allclose(parts.variance, whole.variance, rtol=1e-4)


def test_variances_of_a_prediction_are_those_of_the_fit(training, monkeypatch):
    """Draws give v of every atom; that of a fit without the atom is v / (1 - v), since a water has one oxygen atom."""
    check_variances(training, monkeypatch)


def test_variances_of_a_fit_that_reads_the_density(make_training, monkeypatch):
    check_variances(make_training(range(30), TargetSettings(prior=True, operators=("density",))), monkeypatch)


def check_variances(training, monkeypatch):
    for module in ("ridge", "atom_fit"):
        monkeypatch.setattr(f"harmose.kernel_regression.{module}.N_DRAWS", 2000)
    _, found = fit(training)
    atoms = training.oriented.atoms[1]
    graph = neighbourhoods(training)
    values, variance = found.regression.values(graph, atoms, training.space.onsite_layout(1))
    assert values.shape == found.leave_one_out.shape
    assert found.regression.n_draws == 2000
    np.testing.assert_allclose(variance, found.variance / (1 + found.variance), rtol=6 * np.sqrt(2 / 2000))


def test_the_average_is_the_mean_of_the_training_set(make_training):
    """Where the density is read, the constant term is another number."""
    training = make_training(range(10), TargetSettings(prior=True, operators=("density",)))
    targets, found = fit(training)
    layout = training.space.onsite_layout(1)
    mean = found.regression.mean_values(2, layout)
    np.testing.assert_allclose(mean[1, 0, : layout.n_proper], targets[:, 0, : layout.n_proper].mean(0), atol=1e-9)
    assert not mean[:, 1:].any()
    assert np.abs(found.regression.mean - found.regression.average).max() > 1e-3


def test_outermost_atoms_are_predicted_worse(training):
    targets, found = fit(training)
    rows, predicted, variance = found.outermost
    n = predicted.shape[1]
    errors = [np.abs(x - targets[rows, 0, :n]).mean() for x in (predicted, found.leave_one_out[rows, 0, :n])]
    assert len(rows) == len(targets) // 5
    assert errors[0] > errors[1]
    assert (variance > found.variance[rows]).all()
