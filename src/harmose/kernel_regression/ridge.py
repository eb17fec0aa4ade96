"""Ridge regression with leave-one-group-out predictions.

    w = argmin sum (y - X w)^2 + noise * w^T P w

With the leverages `H = X (X^T X + noise P)^-1 X^T` of the rows g of a sample, its residual in a fit without it is
`(1 - H_gg)^-1 (y - X w)_g`, exactly (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, eq. 7.64). Kernel
terms enter as features `K_nm L^-T` with `K_mm = L L^T` for sparse points m (subset of regressors: Quinonero-Candela and
Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular

from harmose.kernel_regression.settings import DEFAULT, RegressionSettings
from harmose.kernel_regression.training import Hyperparameters

PENALTIES = (1e-12, 1e-10, 1e-8, 1e-6)
"""Penalties to choose from for linear terms without a kernel, relative to the size of the features."""
JITTER = 1e-10
"""Added to the diagonal of the kernel between sparse points, against rounding."""


@dataclass(frozen=True)
class RidgeFit:
    """Result of `ridge`.

    Attributes:
        weights: (features, K).
        leave_one_out: prediction of each sample by a fit to all others (rows, K).
        best: number of the penalty that was chosen.
    """

    weights: np.ndarray
    leave_one_out: np.ndarray
    best: int


@dataclass(frozen=True)
class KernelFit:
    """Result of `fit_kernel`.

    Attributes:
        linear: weights of the linear features (F, K).
        kernel: weights of the sparse points (R, K).
        leave_one_out: prediction of each sample by a fit to all others (rows, K).
        best: hyperparameters that were chosen.
    """

    linear: np.ndarray
    kernel: np.ndarray
    leave_one_out: np.ndarray
    best: Hyperparameters


def fit_kernel(
    x: np.ndarray,
    kernels: tuple[np.ndarray, np.ndarray] | None,
    y: np.ndarray,
    sample: np.ndarray,
    grid: Sequence[Hyperparameters],
    settings: RegressionSettings = DEFAULT,
) -> KernelFit:
    """Fit linear features x (n, F) and kernel terms together to y (n, K) of the samples (n,).

    `kernels`: between rows and sparse points (n, R), and between sparse points (R, R); None for linear features alone.
    """
    n_linear = x.shape[1]
    size = np.full(n_linear, max(np.einsum("nf,nf->", x, x) / len(x), 1e-300) if n_linear else 1.0)
    if kernels is None:
        fit = ridge(x, y, sample, [penalty * size * len(x) for penalty in PENALTIES], settings)
        return KernelFit(fit.weights, np.zeros((0, y.shape[1])), fit.leave_one_out, grid[0])
    factor = cholesky(kernels[1] + JITTER * np.eye(len(kernels[1])))
    features = np.empty((len(x), n_linear + len(factor)))
    features[:, :n_linear] = x
    for rows in np.array_split(np.arange(len(x)), -(-features.size // settings.kernel_numbers)):
        features[rows, n_linear:] = solve_triangular(factor, kernels[0][rows].T, lower=True, check_finite=False).T
    penalties = [noise * np.concatenate([size / variance, np.ones(len(factor))]) for noise, variance in grid]
    fit = ridge(features, y, sample, penalties, settings)
    weights = solve_triangular(factor, fit.weights[n_linear:], lower=True, trans=1, check_finite=False)
    return KernelFit(fit.weights[:n_linear], weights, fit.leave_one_out, grid[fit.best])


def ridge(
    x: np.ndarray,
    y: np.ndarray,
    sample: np.ndarray,
    penalties: Sequence[np.ndarray],
    settings: RegressionSettings = DEFAULT,
) -> RidgeFit:
    """Fit rows x (n, features), y (n, K) of the samples (n,) with the best of `penalties`, noise * diagonal of P.

    The best penalty has the smallest sum of absolute errors of leave-one-group-out predictions.
    """
    gram, moment = x.T @ x, x.T @ y
    best, smallest = None, np.inf
    for k, penalty in enumerate(penalties):
        weights, leave_one_out = _solve(x, y, sample, gram, moment, penalty, settings.solver_numbers)
        error = np.abs(y - leave_one_out).sum()
        if best is None or error < smallest:
            best, smallest = RidgeFit(weights, leave_one_out, k), error
    assert best is not None
    return best


def _solve(x, y, sample, gram, moment, penalty, solver_numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and leave-one-group-out predictions."""
    scale = 1 / np.sqrt(penalty)
    factor = cholesky(gram * scale * scale[:, None] + np.eye(len(gram)))
    weights = scale[:, None] * cho_solve((factor, True), scale[:, None] * moment, check_finite=False)
    residual, leave_one_out, order = y - x @ weights, np.empty_like(y), np.argsort(sample, kind="stable")
    _, first, count = np.unique(sample[order], return_index=True, return_counts=True)
    for size in np.unique(count):  # samples with equally many rows together
        rows = order[first[count == size][:, None] + np.arange(size)]
        n_parts = min(-(-rows.size * max(size, x.shape[1]) // solver_numbers), len(rows))
        for part in np.array_split(rows, n_parts):
            scaled = (x[part] * scale).reshape(-1, len(scale))
            # H = leverage leverage^T
            leverage = solve_triangular(factor, scaled.T, lower=True, check_finite=False).T.reshape(*part.shape, -1)
            leave_one_out[part] = y[part] - _left_out_residual(leverage, residual[part])
    return weights, leave_one_out


def _left_out_residual(v: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """`(1 - V V^T)^-1 r`, by Woodbury's formula where samples have more rows than there are features."""
    size, n_features = v.shape[1:]
    if size <= n_features:
        return np.linalg.solve((1 + 1e-12) * np.eye(size) - v @ v.mT, residual)
    return residual + v @ np.linalg.solve((1 + 1e-12) * np.eye(n_features) - v.mT @ v, v.mT @ residual)


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Return the lower factor of a matrix that is positive definite up to rounding, after a shift where it is not."""
    shift = 0.0
    while True:
        try:
            return np.tril(cho_factor(matrix + shift * np.eye(len(matrix)), lower=True, check_finite=False)[0])
        except LinAlgError:
            shift = max(10 * shift, 1e-12 * np.trace(matrix) / len(matrix))
