"""Ridge regression against its definition; leave-one-group-out predictions against fits without the group."""

import numpy as np
import pytest

from harmose.kernel_regression.ridge import cholesky, fit_kernel, ridge
from harmose.kernel_regression.settings import RegressionSettings
from harmose.kernel_regression.training import Hyperparameters


@pytest.fixture
def problem(rng):
    sample = np.repeat(np.arange(12), [1, 2, 3] * 4)
    x = rng.normal(size=(len(sample), 8))
    y = x @ rng.normal(size=(8, 3)) + 0.1 * rng.normal(size=(len(sample), 3))
    order = rng.permutation(len(sample))
    return x[order], y[order], sample[order]


def solution(x, y, penalty):
    return np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)


def check_leave_one_out(x, y, sample, penalty, predicted):
    for s in np.unique(sample):
        weights = solution(x[sample != s], y[sample != s], penalty)
        np.testing.assert_allclose(predicted[sample == s], x[sample == s] @ weights, atol=1e-9)


def test_weights_solve_the_normal_equations(problem):
    penalty = np.linspace(0.1, 2, 8)
    np.testing.assert_allclose(ridge(*problem, [penalty]).weights, solution(*problem[:2], penalty), atol=1e-12)


@pytest.mark.parametrize("solver_numbers", [1, 10**7])
def test_leave_one_out_predictions_are_those_of_fits_without_the_sample(problem, solver_numbers):
    penalty = np.full(8, 0.3)
    fit = ridge(*problem, [penalty], RegressionSettings(solver_numbers=solver_numbers))
    check_leave_one_out(*problem, penalty, fit.leave_one_out)


def test_leave_one_out_predictions_of_samples_with_more_rows_than_features(rng):
    x, sample = rng.normal(size=(60, 5)), np.repeat([0, 1, 2], 20)
    y = x @ rng.normal(size=(5, 2)) + 0.1 * rng.normal(size=(60, 2))
    penalty = np.full(5, 0.3)
    check_leave_one_out(x, y, sample, penalty, ridge(x, y, sample, [penalty]).leave_one_out)


def test_the_penalty_that_predicts_best_is_chosen(problem):
    assert ridge(*problem, [np.full(8, v) for v in (1e4, 0.1, 1e6)]).best == 1


def test_a_matrix_that_rounding_made_indefinite_is_factorized(rng):
    v = rng.normal(size=(30, 3))
    factor = cholesky(v @ v.T)
    np.testing.assert_allclose(factor @ factor.T, v @ v.T, atol=1e-6)


def test_kernel_weights_are_those_of_a_gaussian_process(rng):
    """With a sparse point at every row, the mean is k (K + noise)^-1 y."""
    points, y = rng.normal(size=(15, 2)), rng.normal(size=(15, 1))
    kernel = np.exp(-((points[:, None] - points) ** 2).sum(-1))
    noise = 1e-3
    fit = fit_kernel(np.zeros((15, 0)), (kernel, kernel), y, np.arange(15), [Hyperparameters(noise, 1.0)])
    np.testing.assert_allclose(kernel @ fit.kernel, kernel @ np.linalg.solve(kernel + noise * np.eye(15), y), atol=1e-6)


def test_linear_terms_of_large_prior_variance_explain_what_they_can(rng):
    x, points = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    kernel = np.exp(-((points - points.T) ** 2))
    y = x @ np.array([[2.0], [-1.0]])
    grid = [Hyperparameters(1e-6, 1e6), Hyperparameters(1e-6, 1e-12)]
    fit = fit_kernel(x, (kernel[:, :10], kernel[:10, :10]), y, np.arange(40), grid)
    assert fit.best == grid[0]
    np.testing.assert_allclose(fit.linear, [[2], [-1]], atol=1e-4)
