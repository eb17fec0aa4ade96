"""Ridge regression against its definition; predictions and variances of groups left out against fits without the group."""

import numpy as np
import pytest

from harmose.kernel_regression.fading import OUTERMOST
from harmose.kernel_regression.ridge import N_DRAWS, REPEATS, cholesky, fit_kernel, ridge
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


def check_left_out(x, y, penalty, rows, predicted, variance):
    """Compare with a fit without some rows: predictions, and `x^T (X^T X + P)^-1 x`."""
    others = np.setdiff1d(np.arange(len(x)), rows)
    np.testing.assert_allclose(predicted, x[rows] @ solution(x[others], y[others], penalty), atol=1e-9)
    inverse = np.linalg.inv(x[others].T @ x[others] + np.diag(penalty))
    np.testing.assert_allclose(variance, np.einsum("nf,fg,ng->n", x[rows], inverse, x[rows]), rtol=1e-8)


def check_leave_one_out(x, y, sample, penalty, fit):
    for s in np.unique(sample):
        rows = np.flatnonzero(sample == s)
        check_left_out(x, y, penalty, rows, fit.leave_one_out[rows], fit.variance[rows])


def test_weights_solve_the_normal_equations(problem):
    penalty = np.linspace(0.1, 2, 8)
    np.testing.assert_allclose(ridge(*problem, [penalty]).weights, solution(*problem[:2], penalty), atol=1e-12)


@pytest.mark.parametrize("solver_numbers", [1, 10**7])
def test_leave_one_out_predictions_are_those_of_fits_without_the_sample(problem, solver_numbers):
    penalty = np.full(8, 0.3)
    fit = ridge(*problem, [penalty], RegressionSettings(solver_numbers=solver_numbers))
    check_leave_one_out(*problem, penalty, fit)


def test_leave_one_out_predictions_of_samples_with_more_rows_than_features(rng):
    x, sample = rng.normal(size=(60, 5)), np.repeat([0, 1, 2], 20)
    y = x @ rng.normal(size=(5, 2)) + 0.1 * rng.normal(size=(60, 2))
    penalty = np.full(5, 0.3)
    check_leave_one_out(x, y, sample, penalty, ridge(x, y, sample, [penalty]))


def test_the_outermost_samples_are_left_out_together(problem):
    x, y, sample = problem
    penalty = np.full(8, 0.3)
    fit = ridge(*problem, [penalty])
    rows, predicted, variance = fit.outermost
    chosen = np.unique(sample[rows])
    assert len(chosen) == int(OUTERMOST * 12) == 2
    assert sorted(rows) == np.flatnonzero(np.isin(sample, chosen)).tolist()
    largest = [fit.variance[sample == s].max() for s in range(12)]
    assert min(largest[s] for s in chosen) > max(largest[s] for s in range(12) if s not in chosen)
    check_left_out(x, y, penalty, rows, predicted, variance)
    assert (variance >= fit.variance[rows] - 1e-12).all()


def test_not_more_rows_are_left_out_together_than_fit_into_memory(problem):
    """Three rows of eight features: those of the samples with the largest variances."""
    x, y, _ = problem
    penalty = np.full(8, 0.3)
    rows = ridge(*problem, [penalty]).outermost.rows
    few = ridge(*problem, [penalty], RegressionSettings(solver_numbers=24)).outermost
    np.testing.assert_array_equal(few.rows, rows[:3])
    check_left_out(x, y, penalty, *few)


def test_a_few_samples_have_no_outermost_ones(rng):
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    rows, predicted, variance = ridge(x, y, np.arange(4), [np.ones(2)]).outermost
    assert (rows.shape, predicted.shape, variance.shape) == ((0,), (0, 3), (0,))


def test_squares_of_draws_have_the_variance_as_their_mean(problem, monkeypatch):
    """A mean of n squares of normal numbers scatters by sqrt(2 / n)."""
    monkeypatch.setattr("harmose.kernel_regression.ridge.N_DRAWS", 20_000)
    x, y, sample = problem
    penalty = np.linspace(0.1, 2, 8)
    found = ((x @ ridge(x, y, sample, [penalty]).draws) ** 2).mean(1)
    exact = np.einsum("nf,fg,ng->n", x, np.linalg.inv(x.T @ x + np.diag(penalty)), x)
    ratio = found / exact
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / 20_000)
    assert np.abs(ratio - 1).mean() > 0.1 * np.sqrt(2 / 20_000)  # they are draws, not a root of the matrix


def test_a_few_draws_are_the_same_in_each_fit(problem):
    one, other = (ridge(*problem, [np.ones(8)]).draws for _ in range(2))
    assert one.shape == (8, N_DRAWS)
    np.testing.assert_array_equal(one, other)


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


def test_draws_of_a_kernel_have_the_variance_of_a_gaussian_process(rng, monkeypatch):
    """With a sparse point at every row, it is the diagonal of K (K + noise)^-1."""
    monkeypatch.setattr("harmose.kernel_regression.ridge.N_DRAWS", 20_000)
    points, y = rng.normal(size=(15, 2)), rng.normal(size=(15, 1))
    kernel = np.exp(-((points[:, None] - points) ** 2).sum(-1))
    fit = fit_kernel(np.zeros((15, 0)), (kernel, kernel), y, np.arange(15), [Hyperparameters(0.1, 1.0)])
    exact = np.diag(np.linalg.solve(kernel + 0.1 * np.eye(15), kernel))
    np.testing.assert_allclose(
        ((kernel @ fit.space.split(fit.draws)[1]) ** 2).mean(1), exact, rtol=5 * np.sqrt(2 / 20_000)
    )
    np.testing.assert_allclose(fit.variance, exact / (1 - exact), rtol=1e-6)  # without the row itself


def test_draws_of_linear_and_kernel_terms_belong_together(rng, monkeypatch):
    monkeypatch.setattr("harmose.kernel_regression.ridge.N_DRAWS", 20_000)
    x, points = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    kernel = np.exp(-((points - points.T) ** 2))
    fit = fit_kernel(x, (kernel[:, :10], kernel[:10, :10]), x[:, :1], np.arange(40), [Hyperparameters(0.1, 1.0)])
    found = ((x @ fit.space.split(fit.draws)[0] + kernel[:, :10] @ fit.space.split(fit.draws)[1]) ** 2).mean(1)
    np.testing.assert_allclose(found / (1 - found), fit.variance, rtol=0.1)


def test_linear_terms_of_large_prior_variance_explain_what_they_can(rng):
    x, points = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    kernel = np.exp(-((points - points.T) ** 2))
    y = x @ np.array([[2.0], [-1.0]])
    grid = [Hyperparameters(1e-6, 1e6), Hyperparameters(1e-6, 1e-12)]
    fit = fit_kernel(x, (kernel[:, :10], kernel[:10, :10]), y, np.arange(40), grid)
    assert fit.best == grid[0]
    np.testing.assert_allclose(fit.linear, [[2], [-1]], atol=1e-4)


def test_a_robust_fit_is_a_weighted_one(problem):
    """Samples with large residuals count less, and are left out with the weights that they have."""
    x, y, sample = problem
    penalty, odd = np.full(8, 0.3), sample == 5
    y = y + 20.0 * odd[:, None]
    true = solution(x[~odd], y[~odd], penalty)
    plain, robust = ridge(x, y, sample, [penalty]), ridge(x, y, sample, [penalty], robust=True)
    assert np.abs(robust.weights - true).max() < 0.3 * np.abs(plain.weights - true).max()
    weights = np.ones(len(y))
    for _ in range(REPEATS):
        left_out = y - fit_left_out(x, y, sample, weights, penalty)[0]
        size = {s: np.sqrt((left_out[sample == s] ** 2).sum(1).mean()) for s in range(12)}
        weights = np.array([min(1.0, np.median(list(size.values())) / size[s]) for s in sample])
        weights /= weights.mean()
    predicted, variance = fit_left_out(x, y, sample, weights, penalty)
    np.testing.assert_allclose(robust.leave_one_out, predicted, atol=1e-9)
    np.testing.assert_allclose(robust.variance, variance, rtol=1e-8)
    root = np.sqrt(weights)[:, None]
    np.testing.assert_allclose(robust.weights, solution(x * root, y * root, penalty), atol=1e-12)


def test_a_robust_fit_of_what_mostly_vanishes(problem):
    x, y, sample = problem
    y = y * (sample == 5)[:, None]
    x = x * (sample == 5)[:, None]
    penalty = np.full(8, 0.3)
    np.testing.assert_array_equal(
        ridge(x, y, sample, [penalty], robust=True).weights, ridge(x, y, sample, [penalty]).weights
    )


def fit_left_out(x, y, sample, weights, penalty):
    """Predictions and variances of weighted fits without the sample of each row."""
    predicted, variance = np.empty_like(y), np.empty(len(y))
    for s in np.unique(sample):
        rows, root = sample == s, np.sqrt(weights[sample != s])[:, None]
        own = x[~rows] * root
        predicted[rows] = x[rows] @ solution(own, y[~rows] * root, penalty)
        inverse = np.linalg.inv(own.T @ own + np.diag(penalty))
        variance[rows] = np.einsum("nf,fg,ng->n", x[rows], inverse, x[rows])
    return predicted, variance
