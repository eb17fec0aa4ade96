"""Ridge regression with leave-one-group-out predictions.

    w = argmin sum (y - X w)^2 + noise * w^T P w

With the leverages `H = X (X^T X + noise P)^-1 X^T` of the rows g of a sample, its residual in a fit without it is
`(1 - H_gg)^-1 (y - X w)_g`, exactly (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, eq. 7.64). Kernel
terms enter as features `K_nm L^-T` with `K_mm = L L^T` for sparse points m (subset of regressors: Quinonero-Candela and
Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005)).

The prediction of a row x has the variance

    v = x^T (X^T X + noise P)^-1 x = E[(x^T d)^2],    d = L^-T xi,    L L^T = X^T X + noise P

in units of the variance of the noise, with independent standard normal numbers xi (Rasmussen and Williams, Gaussian Processes
for Machine Learning, eq. 2.9). A few such draws d of the posterior, evaluated like weights, give v at the cost of as many
columns (Johnson and Lindenstrauss, 1984): with 16 of them v is right to 35 %.

Among many molecules some are unlike all others, and squares of their residuals would rule the fit. A robust fit weighs the rows
of a sample whose residual in a fit without it is r by min(1, median of all r / r), repeatedly, which makes large residuals count
by their size and not by their square (Huber, Ann. Math. Stat. 35, 73 (1964)).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular

from harmose.kernel_regression.fading import OUTERMOST
from harmose.kernel_regression.settings import DEFAULT, RegressionSettings
from harmose.kernel_regression.training import Hyperparameters

PENALTIES = (1e-12, 1e-10, 1e-8, 1e-6)
"""Penalties to choose from for linear terms without a kernel, relative to the size of the features."""
SMOOTH_PENALTIES = (1e-6,)
"""The same for functions that others fade to: larger, since smaller ones fit a little better and explode a little outside."""
JITTER = 1e-10
"""Added to the diagonal of the kernel between sparse points, against rounding."""
REPEATS = 2
"""Times that the weights of a robust fit are found anew."""
N_DRAWS = 16
"""Draws of the posterior that a prediction's variance is computed from."""


@dataclass(frozen=True)
class RidgeFit:
    """Result of `ridge`.

    Attributes:
        weights: (features, K).
        leave_one_out: prediction of each sample by a fit to all others (rows, K).
        best: number of the penalty that was chosen.
        draws: draws of the posterior (features, N_DRAWS).
        variance: variance v of each row in a fit to all other samples (rows,).
        outermost: rows of the samples with the largest variances, and their predictions and variances in a fit without any
            of these samples.
    """

    weights: np.ndarray
    leave_one_out: np.ndarray
    best: int
    draws: np.ndarray
    variance: np.ndarray
    outermost: "Outermost"


class Outermost(NamedTuple):
    """Rows (n,) of the samples with the largest variances; predictions (n, K) and variances (n,) without these samples."""

    rows: np.ndarray
    predicted: np.ndarray
    variance: np.ndarray


NOTHING = Outermost(np.zeros(0, dtype=int), np.zeros((0, 0)), np.zeros(0))
"""No outermost rows."""


@dataclass(frozen=True)
class KernelFit:
    """Result of `fit_kernel`.

    Attributes:
        linear: weights of the linear features (F, K).
        kernel: weights of the sparse points (R, K).
        leave_one_out: prediction of each sample by a fit to all others (rows, K).
        best: hyperparameters that were chosen.
        linear_draws, kernel_draws: draws of the posterior (F, N_DRAWS), (R, N_DRAWS).
        variance: variance of each row in a fit to all other samples (rows,), in units of the noise's.
        outermost: as in `RidgeFit`.
    """

    linear: np.ndarray
    kernel: np.ndarray
    leave_one_out: np.ndarray
    best: Hyperparameters
    linear_draws: np.ndarray
    kernel_draws: np.ndarray
    variance: np.ndarray
    outermost: Outermost


def fit_kernel(
    x: np.ndarray,
    kernels: tuple[np.ndarray, np.ndarray] | None,
    y: np.ndarray,
    sample: np.ndarray,
    grid: Sequence[Hyperparameters],
    settings: RegressionSettings = DEFAULT,
    relative_penalties: Sequence[float] = PENALTIES,
    robust: bool = False,
) -> KernelFit:
    """Fit linear features x (n, F) and kernel terms together to y (n, K) of the samples (n,).

    `kernels`: between rows and sparse points (n, R), and between sparse points (R, R); None for linear features alone, with the
    best of `relative_penalties`.
    """
    n_linear = x.shape[1]
    size = np.full(n_linear, max(np.einsum("nf,nf->", x, x) / len(x), 1e-300) if n_linear else 1.0)
    if kernels is None:
        fit = ridge(x, y, sample, [penalty * size * len(x) for penalty in relative_penalties], settings, robust)
        nothing = np.zeros((0, y.shape[1])), np.zeros((0, N_DRAWS))
        return KernelFit(
            fit.weights, nothing[0], fit.leave_one_out, grid[0], fit.draws, nothing[1], fit.variance, fit.outermost
        )
    factor = cholesky(kernels[1] + JITTER * np.eye(len(kernels[1])))
    features = np.empty((len(x), n_linear + len(factor)))
    features[:, :n_linear] = x
    for rows in np.array_split(np.arange(len(x)), -(-features.size // settings.kernel_numbers)):
        features[rows, n_linear:] = solve_triangular(factor, kernels[0][rows].T, lower=True, check_finite=False).T
    penalties = [noise * np.concatenate([size / variance, np.ones(len(factor))]) for noise, variance in grid]
    fit = ridge(features, y, sample, penalties, settings, robust)
    weights, draws = (
        solve_triangular(factor, x[n_linear:], lower=True, trans=1, check_finite=False)
        for x in (fit.weights, fit.draws)
    )
    best, linear, linear_draws = grid[fit.best], fit.weights[:n_linear], fit.draws[:n_linear]
    return KernelFit(linear, weights, fit.leave_one_out, best, linear_draws, draws, fit.variance, fit.outermost)


def ridge(
    x: np.ndarray,
    y: np.ndarray,
    sample: np.ndarray,
    penalties: Sequence[np.ndarray],
    settings: RegressionSettings = DEFAULT,
    robust: bool = False,
) -> RidgeFit:
    """Fit rows x (n, features), y (n, K) of the samples (n,) with the best of `penalties`, noise * diagonal of P.

    The best penalty has the smallest sum of absolute errors of leave-one-group-out predictions, before any weights of a robust
    fit.
    """
    gram, moment, root = x.T @ x, x.T @ y, np.ones((len(y), 1))
    fits = (_solve(x, y, sample, gram, moment, penalty, settings.solver_numbers) for penalty in penalties)
    k, best = min(enumerate(fits), key=lambda fit: np.abs(fit[1].left_out).sum())
    for _ in range(REPEATS if robust else 0):
        root = np.sqrt(_robust_weights(best.left_out, sample))[:, None]
        own_x, own_y = x * root, y * root
        products = own_x.T @ own_x, own_x.T @ own_y
        best = _solve(own_x, own_y, sample, *products, penalties[k], settings.solver_numbers)
        best = best._replace(left_out=best.left_out / root, variance=best.variance / root[:, 0] ** 2)
    scale = 1 / np.sqrt(penalties[k])
    normal = np.random.default_rng(0).normal(size=(len(scale), N_DRAWS))
    draws = scale[:, None] * solve_triangular(best.factor, normal, lower=True, trans=1, check_finite=False)
    rows = _outermost_rows(sample, best.variance, max(settings.solver_numbers // x.shape[1], 1))
    leverage = solve_triangular(best.factor, (x[rows] * root[rows] * scale).T, lower=True, check_finite=False).T
    far, far_variance = _left_out(leverage[None], ((y[rows] - x[rows] @ best.weights) * root[rows])[None])
    outermost = Outermost(rows, y[rows] - far[0] / root[rows], far_variance[0] / root[rows, 0] ** 2)
    return RidgeFit(best.weights, y - best.left_out, k, draws, best.variance, outermost)


class _Solution(NamedTuple):
    """Weights, the Cholesky factor, and residuals and variances of the rows in fits without their sample."""

    weights: np.ndarray
    factor: np.ndarray
    left_out: np.ndarray
    variance: np.ndarray


def _robust_weights(left_out: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Return the weight of each row (n,), with the mean one, from residuals without its sample (n, K)."""
    _, place = np.unique(sample, return_inverse=True)
    size = np.sqrt(np.bincount(place, (left_out**2).sum(1)) / np.bincount(place))
    usual = np.median(size)
    if not usual:  # most coefficients vanish
        return np.ones(len(sample))
    weights = np.minimum(1.0, usual / np.maximum(size, usual))[place]
    return weights / weights.mean()


def _solve(x, y, sample, gram, moment, penalty, solver_numbers: int) -> _Solution:
    scale = 1 / np.sqrt(penalty)
    factor = cholesky(gram * scale * scale[:, None] + np.eye(len(gram)))
    weights = scale[:, None] * cho_solve((factor, True), scale[:, None] * moment, check_finite=False)
    residual, left_out, variance = y - x @ weights, np.empty_like(y), np.empty(len(y))
    order = np.argsort(sample, kind="stable")
    _, first, count = np.unique(sample[order], return_index=True, return_counts=True)
    for size in np.unique(count):  # samples with equally many rows together
        rows = order[first[count == size][:, None] + np.arange(size)]
        n_parts = min(-(-rows.size * max(size, x.shape[1]) // solver_numbers), len(rows))
        for part in np.array_split(rows, n_parts):
            scaled = (x[part] * scale).reshape(-1, len(scale))
            # H = leverage leverage^T
            leverage = solve_triangular(factor, scaled.T, lower=True, check_finite=False).T.reshape(*part.shape, -1)
            left_out[part], variance[part] = _left_out(leverage, residual[part])
    return _Solution(weights, factor, left_out, variance)


def _outermost_rows(sample: np.ndarray, variance: np.ndarray, most: int) -> np.ndarray:
    """Return rows of the `OUTERMOST` share of the samples, those with the largest variances, at most so many."""
    names, place = np.unique(sample, return_inverse=True)
    largest = np.zeros(len(names))
    np.maximum.at(largest, place, variance)
    chosen = np.zeros(len(names), dtype=bool)
    chosen[np.argsort(-largest, kind="stable")[: int(OUTERMOST * len(names))]] = True
    rows = np.flatnonzero(chosen[place])
    return rows[np.argsort(-largest[place[rows]], kind="stable")][:most]


def _left_out(v: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `A r` and the diagonal of `A - 1` with `A = (1 - V V^T)^-1`: residuals and variances of a sample left out.

    By Woodbury's formula where samples have more rows than there are features.
    """
    size, n_features = v.shape[1:]
    if size <= n_features:
        inverse = np.linalg.inv((1 + 1e-12) * np.eye(size) - v @ v.mT)
        return inverse @ residual, np.diagonal(inverse, axis1=1, axis2=2) - 1
    inner = np.linalg.inv((1 + 1e-12) * np.eye(n_features) - v.mT @ v) @ v.mT
    return residual + v @ (inner @ residual), np.einsum("gsf,gfs->gs", v, inner)


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Return the lower factor of a matrix that is positive definite up to rounding, after a shift where it is not."""
    shift = 0.0
    while True:
        try:
            return np.tril(cho_factor(matrix + shift * np.eye(len(matrix)), lower=True, check_finite=False)[0])
        except LinAlgError:
            shift = max(10 * shift, 1e-12 * np.trace(matrix) / len(matrix))
