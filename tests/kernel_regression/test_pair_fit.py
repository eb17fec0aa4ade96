"""The fit to one pair type."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit
from harmose.kernel_regression.settings import RegressionSettings
from harmose.representation.concatenation import TargetSettings

DENSITY = TargetSettings(prior=True, operators=("density",))


def neighbourhoods(training):
    graph = Neighbourhoods(training.space, training.oriented, training.charges, settings=training.settings)
    if training.charges is not None:
        graph.mean_density = mean_density(graph, training.charges)
    return graph


def fit(training, kind="kernel", settings=None):
    """The pairs of O and H."""
    training = replace(training, settings=settings or training.settings)
    graph = neighbourhoods(training)
    group = training.space.group(0, 1)
    pairs, targets = training.oriented.pairs[group], training.coefficients.pairs[group].numpy()
    pair_fit = PairFit(graph, training, 1, training.space.pair_layout(group), pairs, targets)
    return targets, pair_fit.run(kind, np.random.default_rng(0))


def test_left_out_samples_are_predicted(training):
    errors = {}
    for kind in ("kernel", "pairs"):
        targets, found = fit(training, kind)
        errors[kind] = np.abs(found.leave_one_out - targets).mean()
    assert errors["kernel"] < 0.1 * errors["pairs"]
    assert errors["pairs"] < 0.5 * np.abs(targets - targets.mean(0)).mean()


def test_the_number_of_sparse_points_is_limited(training):
    regression = fit(training, settings=RegressionSettings(sparse_edges=7))[1].regression
    assert len(regression.kernel_expansion.sparse_points.distance) == 7
    assert fit(replace(training, sparse_points=0))[1].regression.kernel_expansion is None
    regression = fit(training, settings=RegressionSettings(kernel_elements=400))[1].regression
    assert len(regression.kernel_expansion.sparse_points.distance) == 5


def test_a_part_of_the_pairs_is_fitted_and_all_are_predicted(training):
    targets, found = fit(training, settings=RegressionSettings(pairs=40))
    assert found.leave_one_out.shape == targets.shape
    assert found.variance.shape == (len(targets),)
    assert np.abs(found.leave_one_out - targets).mean() < 0.1 * np.abs(targets - targets.mean(0)).mean()


@pytest.mark.parametrize("limits", [{"kernel_numbers": 10_000}, {"feature_numbers": 20_000}, {"kernel_block": 100}])
def test_memory_limits_do_not_change_the_fit(training, limits):
    whole, parts = fit(training)[1], fit(training, settings=RegressionSettings(**limits))[1]
    np.testing.assert_allclose(parts.leave_one_out, whole.leave_one_out, atol=1e-6)
    np.testing.assert_allclose(parts.variance, whole.variance, rtol=1e-4)


@pytest.mark.parametrize("kind", ["kernel", "pairs", "distances"])
@pytest.mark.parametrize("reads_density", [False, True])
def test_variances_of_a_prediction_are_those_of_the_fit(make_training, monkeypatch, kind, reads_density):
    """Draws give v of every pair; that of a fit without the pair is v / (1 - v) if each pair is a sample."""
    training = make_training(range(30), DENSITY if reads_density else None)
    for module in ("ridge", "pair_fit"):
        monkeypatch.setattr(f"harmose.kernel_regression.{module}.N_DRAWS", 2000)
    alone = replace(training, pair_sample=np.arange(len(training.pair_sample)))
    _, found = fit(alone, kind)
    graph = neighbourhoods(training)
    pairs = training.oriented.pairs[training.space.group(0, 1)]
    values, variance = found.regression.values(graph, pairs, training.space.pair_layout((0, 1)).n_slots)
    assert values.shape == found.leave_one_out.shape
    assert found.regression.n_draws == 2000
    assert bool(found.regression.electronic) == (reads_density and kind != "distances")
    assert np.ptp(np.log(variance)) > 0.5
    np.testing.assert_allclose(variance, found.variance / (1 + found.variance), rtol=6 * np.sqrt(2 / 2000))


def test_functions_that_others_fade_to_are_smoother(training):
    """They have the features of the kind "pairs", and smaller weights."""
    one, other = (fit(training, kind)[1].regression.linear[0] for kind in ("pairs", "distances"))
    assert one.shape == other.shape
    assert np.abs(other).max() < 0.5 * np.abs(one).max()


def test_the_variance_of_like_atoms_is_the_mean_of_both_directions(training):
    graph, pairs = Neighbourhoods(training.space, training.oriented), training.oriented.pairs[(0, 0)]
    layout, y = training.space.pair_layout((0, 0)), training.coefficients.pairs[(0, 0)].numpy()
    found = PairFit(graph, training, 0, layout, pairs, y).run("kernel", np.random.default_rng(0))
    assert found.variance.shape == (len(pairs),)
    assert found.outermost.rows.max() >= len(pairs)  # rows of directed pairs
