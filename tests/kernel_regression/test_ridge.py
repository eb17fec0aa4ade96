"""Ridge regression against its definition, and its predictions of samples left out against fits without them."""

import numpy as np
import pytest

from harmose.kernel_regression.ridge import cholesky, ridge


@pytest.fixture
def problem():
    generator = np.random.default_rng(0)
    sample = np.repeat(np.arange(12), [1, 2, 3] * 4)
    x = generator.normal(size=(len(sample), 8))
    y = x @ generator.normal(size=(8, 3)) + 0.1 * generator.normal(size=(len(sample), 3))
    order = generator.permutation(len(sample))
    return x[order], y[order], sample[order]


def solution(x, y, penalty):
    return np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)


def test_weights_solve_the_normal_equations(problem):
    penalty = np.linspace(0.1, 2, 8)
    np.testing.assert_allclose(ridge(*problem, [penalty]).weights, solution(*problem[:2], penalty), atol=1e-12)


def test_left_out_predictions_are_those_of_fits_without_the_sample(problem):
    x, y, sample = problem
    penalty = np.full(8, 0.3)
    found = ridge(x, y, sample, [penalty]).left_out
    for s in range(12):
        w = solution(x[sample != s], y[sample != s], penalty)
        np.testing.assert_allclose(found[sample == s], x[sample == s] @ w, atol=1e-9)


def test_the_penalty_that_predicts_best_is_taken(problem):
    assert ridge(*problem, [np.full(8, v) for v in (1e4, 0.1, 1e6)]).best == 1


def test_a_matrix_that_rounding_made_indefinite_is_factorised():
    v = np.random.default_rng(0).normal(size=(30, 3))
    factor = cholesky(v @ v.T)
    np.testing.assert_allclose(factor @ factor.T, v @ v.T, atol=1e-6)


def test_samples_with_more_rows_than_features_are_left_out_alike():
    generator = np.random.default_rng(1)
    x, sample = generator.normal(size=(60, 5)), np.repeat([0, 1, 2], 20)
    y = x @ generator.normal(size=(5, 2)) + 0.1 * generator.normal(size=(60, 2))
    penalty = np.full(5, 0.3)
    found = ridge(x, y, sample, [penalty]).left_out
    for s in range(3):
        w = solution(x[sample != s], y[sample != s], penalty)
        np.testing.assert_allclose(found[sample == s], x[sample == s] @ w, atol=1e-9)
