"""The fit to one pair type."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit
from harmose.kernel_regression.settings import RegressionSettings


def fit(training, kind="kernel", settings=None):
    """The pairs of O and H."""
    training = replace(training, settings=settings or training.settings)
    graph = Neighbourhoods(training.space, training.oriented, settings=training.settings)
    group = training.space.group(0, 1)
    pairs, targets = training.oriented.pairs[group], training.coefficients.pairs[group].numpy()
    pair_fit = PairFit(graph, training, 1, training.space.pair_layout(group), pairs, targets)
    return targets, *pair_fit.run(kind, np.random.default_rng(0))


def test_left_out_samples_are_predicted(training):
    errors = {}
    for kind in ("kernel", "pairs"):
        targets, _, leave_one_out = fit(training, kind)
        errors[kind] = np.abs(leave_one_out - targets).mean()
    assert errors["kernel"] < 0.1 * errors["pairs"]
    assert errors["pairs"] < 0.5 * np.abs(targets - targets.mean(0)).mean()


def test_the_number_of_sparse_points_is_limited(training):
    _, regression, _ = fit(training, settings=RegressionSettings(sparse_edges=7))
    assert len(regression.kernel_expansion.sparse_points.distance) == 7
    _, regression, _ = fit(replace(training, sparse_points=0))
    assert regression.kernel_expansion is None
    _, regression, _ = fit(training, settings=RegressionSettings(kernel_elements=400))
    assert len(regression.kernel_expansion.sparse_points.distance) == 5


def test_a_part_of_the_pairs_is_fitted_and_all_are_predicted(training):
    targets, _, leave_one_out = fit(training, settings=RegressionSettings(pairs=40))
    assert leave_one_out.shape == targets.shape
    assert np.abs(leave_one_out - targets).mean() < 0.1 * np.abs(targets - targets.mean(0)).mean()


@pytest.mark.parametrize("limits", [{"kernel_numbers": 10_000}, {"feature_numbers": 20_000}, {"kernel_block": 100}])
def test_memory_limits_do_not_change_the_fit(training, limits):
    _, _, whole = fit(training)
    _, _, parts = fit(training, settings=RegressionSettings(**limits))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
