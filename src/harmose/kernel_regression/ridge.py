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
        robust: weights of the samples.
    """

    weights: np.ndarray
    leave_one_out: np.ndarray
    best: int
    draws: np.ndarray
    variance: np.ndarray
    outermost: "Outermost"
    robust: "RobustWeights"


class Outermost(NamedTuple):
    """Rows (n,) of the samples with the largest variances; predictions (n, K) and variances (n,) without these samples."""

    rows: np.ndarray
    predicted: np.ndarray
    variance: np.ndarray


NOTHING = Outermost(np.zeros(0, dtype=int), np.zeros((0, 0)), np.zeros(0))
"""No outermost rows."""


class RobustWeights(NamedTuple):
    """The weights min(1, usual / r) / mean of the rows of a sample whose residual is r; by default all weights are one."""

    usual: float = np.inf
    mean: float = 1.0

    def __call__(self, residual: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """Return the weight of each row (n,) from residuals (n, K) of the samples (n,)."""
        if not np.isfinite(self.usual):
            return np.ones(len(sample))
        _, place = np.unique(sample, return_inverse=True)
        return np.minimum(1.0, self.usual / np.maximum(_sizes(residual, place), self.usual))[place] / self.mean


@dataclass(frozen=True)
class FeatureSpace:
    """Features of a fit: linear ones, and kernels with sparse points times L^-T, K_mm = L L^T.

    Attributes:
        n_linear: number F of linear features.
        factor: L (R, R), without rows where there is no kernel.
    """

    n_linear: int
    factor: np.ndarray

    @property
    def size(self) -> int:
        """Number of all features."""
        return self.n_linear + len(self.factor)

    def features(self, x: np.ndarray, kernel: np.ndarray | None, at_once: int) -> np.ndarray:
        """Return the features (n, F + R) of rows with linear features (n, F) and kernels (n, R); `at_once`: numbers."""
        if kernel is None:
            return x
        out = np.empty((len(x), self.size))
        out[:, : self.n_linear] = x
        for rows in np.array_split(np.arange(len(x)), max(-(-out.size // at_once), 1)):
            solved = solve_triangular(self.factor, kernel[rows].T, lower=True, check_finite=False)
            out[rows, self.n_linear :] = solved.T
        return out

    def split(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights of features (F + R, K) as weights of the linear ones (F, K) and of the sparse points (R, K)."""
        linear, rest = np.split(weights, [self.n_linear])
        if not len(self.factor):
            return linear, rest
        return linear, solve_triangular(self.factor, rest, lower=True, trans=1, check_finite=False)


@dataclass(frozen=True)
class KernelFit:
    """Result of `fit_kernel`.

    Attributes:
        space: the features.
        penalty: noise * diagonal of P that was chosen (F + R,).
        weights: of the features (F + R, K).
        draws: draws of the posterior (F + R, N_DRAWS).
        leave_one_out: prediction of each sample by a fit to all others (rows, K).
        best: hyperparameters that were chosen.
        variance: variance of each row in a fit to all other samples (rows,), in units of the noise's.
        outermost, robust: as in `RidgeFit`.
    """

    space: FeatureSpace
    penalty: np.ndarray
    weights: np.ndarray
    draws: np.ndarray
    leave_one_out: np.ndarray
    best: Hyperparameters
    variance: np.ndarray
    outermost: Outermost
    robust: RobustWeights

    @property
    def columns(self) -> np.ndarray:
        """Draws and weights side by side (F + R, N_DRAWS + K)."""
        return np.concatenate([self.draws, self.weights], 1)

    @property
    def linear(self) -> np.ndarray:
        """Weights of the linear features (F, K)."""
        return self.space.split(self.weights)[0]

    @property
    def kernel(self) -> np.ndarray:
        """Weights of the sparse points (R, K)."""
        return self.space.split(self.weights)[1]


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
        space, best = FeatureSpace(n_linear, np.zeros((0, 0))), [grid[0]] * len(relative_penalties)
        penalties = [penalty * size * len(x) for penalty in relative_penalties]
    else:
        space, best = FeatureSpace(n_linear, cholesky(kernels[1] + JITTER * np.eye(len(kernels[1])))), grid
        ones = np.ones(len(space.factor))
        penalties = [noise * np.concatenate([size / variance, ones]) for noise, variance in grid]
    features = space.features(x, None if kernels is None else kernels[0], settings.kernel_numbers)
    fit = ridge(features, y, sample, penalties, settings, robust)
    about = fit.leave_one_out, best[fit.best], fit.variance, fit.outermost, fit.robust
    return KernelFit(space, penalties[fit.best], fit.weights, fit.draws, *about)


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
    gram, moment, root, robust_weights = x.T @ x, x.T @ y, np.ones((len(y), 1)), RobustWeights()
    fits = (_solve(x, y, sample, gram, moment, penalty, settings.solver_numbers) for penalty in penalties)
    k, best = min(enumerate(fits), key=lambda fit: np.abs(fit[1].left_out).sum())
    for _ in range(REPEATS if robust else 0):
        robust_weights = _robust_weights(best.left_out, sample)
        root = np.sqrt(robust_weights(best.left_out, sample))[:, None]
        own_x, own_y = x * root, y * root
        products = own_x.T @ own_x, own_x.T @ own_y
        best = _solve(own_x, own_y, sample, *products, penalties[k], settings.solver_numbers)
        best = best._replace(left_out=best.left_out / root, variance=best.variance / root[:, 0] ** 2)
    rows = _outermost_rows(sample, best.variance, max(settings.solver_numbers // x.shape[1], 1))
    leverage = best.solution.leverage(x[rows] * root[rows])
    far, far_variance = _left_out(leverage[None], ((y[rows] - x[rows] @ best.solution.weights) * root[rows])[None])
    outermost = Outermost(rows, y[rows] - far[0] / root[rows], far_variance[0] / root[rows, 0] ** 2)
    weights, draws = best.solution.weights, best.solution.draws()
    return RidgeFit(weights, y - best.left_out, k, draws, best.variance, outermost, robust_weights)


@dataclass(frozen=True)
class Solution:
    """Solution of the normal equations.

    Attributes:
        weights: (F, K).
        factor: L (F, F) of `L L^T = scale X^T X scale + 1`.
        scale: (F,), one over the root of noise * P.
    """

    weights: np.ndarray
    factor: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(gram: np.ndarray, moment: np.ndarray, penalty: np.ndarray) -> "Solution":
        """Solve the normal equations with X^T X (F, F), X^T y (F, K) and the penalty noise * P (F,)."""
        scale = 1 / np.sqrt(penalty)
        factor = cholesky(gram * scale * scale[:, None] + np.eye(len(gram)))
        weights = scale[:, None] * cho_solve((factor, True), scale[:, None] * moment, check_finite=False)
        return Solution(weights, factor, scale)

    def leverage(self, x: np.ndarray) -> np.ndarray:
        """Return V (n, F) of rows (n, F), so that the leverages are H = V V^T."""
        return solve_triangular(self.factor, (x * self.scale).T, lower=True, check_finite=False).T

    def draws(self) -> np.ndarray:
        """Return draws of the posterior (F, N_DRAWS)."""
        normal = np.random.default_rng(0).normal(size=(len(self.scale), N_DRAWS))
        return self.scale[:, None] * solve_triangular(self.factor, normal, lower=True, trans=1, check_finite=False)

    def left_out(
        self, x: np.ndarray, y: np.ndarray, sample: np.ndarray, solver_numbers: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return residuals (n, K) and variances (n,) of rows that the solution was fitted to, without their own sample.

        `x` (n, F), `y` (n, K), `sample` (n,): all rows of these samples.
        """
        residual, left_out, variance = y - x @ self.weights, np.empty_like(y), np.empty(len(y))
        order = np.argsort(sample, kind="stable")
        _, first, count = np.unique(sample[order], return_index=True, return_counts=True)
        for size in np.unique(count):  # samples with equally many rows together
            rows = order[first[count == size][:, None] + np.arange(size)]
            n_parts = min(-(-rows.size * max(size, x.shape[1]) // solver_numbers), len(rows))
            for part in np.array_split(rows, n_parts):
                leverage = self.leverage(x[part].reshape(-1, x.shape[1])).reshape(*part.shape, -1)
                left_out[part], variance[part] = _left_out(leverage, residual[part])
        return left_out, variance


class _Fitted(NamedTuple):
    """A solution, and residuals and variances of its rows without their sample."""

    solution: Solution
    left_out: np.ndarray
    variance: np.ndarray


def _robust_weights(left_out: np.ndarray, sample: np.ndarray) -> RobustWeights:
    """Return the weights, with the mean one, from residuals of rows without their sample (n, K)."""
    _, place = np.unique(sample, return_inverse=True)
    usual = float(np.median(_sizes(left_out, place)))
    if not usual:  # most coefficients vanish
        return RobustWeights()
    return RobustWeights(usual, float(RobustWeights(usual)(left_out, sample).mean()))


def _sizes(residual: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the root of the mean square of each sample's residuals, from those of its rows (n, K)."""
    return np.sqrt(np.bincount(place, (residual**2).sum(1)) / np.bincount(place))


def _solve(x, y, sample, gram, moment, penalty, solver_numbers: int) -> _Fitted:
    solution = Solution.of(gram, moment, penalty)
    return _Fitted(solution, *solution.left_out(x, y, sample, solver_numbers))


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
