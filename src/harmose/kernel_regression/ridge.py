"""Ridge regression that knows what it would have said of each sample without having seen it.

    w = argmin sum (y - X w)^2 + noise * w^T P w

With the leverages `H = X (X^T X + noise P)^-1 X^T` of a sample's rows g, its residual when it is left out of the fit is
`(1 - H_gg)^-1 (y - X w)_g`, exactly (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, eq. 7.64).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular

AT_ONCE = 10**7
"""Numbers of the matrices of samples that are left out together."""


@dataclass(frozen=True)
class Fit:
    """weights (features, K); left_out (rows, K): predictions of each sample by a fit to all others; best: which penalty."""

    weights: np.ndarray
    left_out: np.ndarray
    best: int


def ridge(x: np.ndarray, y: np.ndarray, sample: np.ndarray, penalties: Sequence[np.ndarray]) -> Fit:
    """The fit to rows x (n, features), y (n, K) of the samples (n,) with the best of `penalties`, noise * diagonal of P.

    Best: the smallest sum of absolute errors of samples left out.
    """
    gram, moment = x.T @ x, x.T @ y
    best, smallest, number = None, np.inf, 0
    for k, penalty in enumerate(penalties):
        weights, left_out = _solve(x, y, sample, gram, moment, penalty)
        error = np.abs(y - left_out).sum()
        if best is None or error < smallest:
            best, smallest, number = (weights, left_out), error, k
    assert best is not None
    return Fit(*best, number)


def _solve(x, y, sample, gram, moment, penalty) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and predictions of samples left out."""
    scale = 1 / np.sqrt(penalty)
    factor = cholesky(gram * scale * scale[:, None] + np.eye(len(gram)))
    weights = scale[:, None] * cho_solve((factor, True), scale[:, None] * moment, check_finite=False)
    residual, left_out, order = y - x @ weights, np.empty_like(y), np.argsort(sample, kind="stable")
    _, first, count = np.unique(sample[order], return_index=True, return_counts=True)
    for size in np.unique(count):  # samples with equally many rows together
        rows = order[first[count == size][:, None] + np.arange(size)]
        for part in np.array_split(rows, min(-(-rows.size * max(size, x.shape[1]) // AT_ONCE), len(rows))):
            scaled = (x[part] * scale).reshape(-1, len(scale))
            # H = leverage leverage^T
            leverage = solve_triangular(factor, scaled.T, lower=True, check_finite=False).T.reshape(*part.shape, -1)
            left_out[part] = y[part] - _unseen(leverage, residual[part])
    return weights, left_out


def _unseen(v: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """`(1 - V V^T)^-1 r`, or the same in features (Woodbury) where samples have more rows than there are."""
    size, n_features = v.shape[1:]
    if size <= n_features:
        return np.linalg.solve((1 + 1e-12) * np.eye(size) - v @ v.mT, residual)
    return residual + v @ np.linalg.solve((1 + 1e-12) * np.eye(n_features) - v.mT @ v, v.mT @ residual)


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower factor of a matrix that is positive definite but for rounding, which is made up for on its diagonal."""
    shift = 0.0
    while True:
        try:
            return np.tril(cho_factor(matrix + shift * np.eye(len(matrix)), lower=True, check_finite=False)[0])
        except LinAlgError:
            shift = max(10 * shift, 1e-12 * np.trace(matrix) / len(matrix))
