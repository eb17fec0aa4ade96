"""One regression of the fit: linear terms and a kernel's together, with the best of some variances."""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_triangular

from harmose.kernel_regression import limits
from harmose.kernel_regression.ridge import Fit, cholesky, ridge
from harmose.kernel_regression.training import Hyperparameters

RIDGES = (1e-12, 1e-10, 1e-8, 1e-6)
"""Candidates for pairs alone, relative to the size of the features."""
JITTER = 1e-10
"""Of the kernel between references, against rounding."""


def regress(
    x: np.ndarray,
    blocks: tuple[np.ndarray, np.ndarray] | None,
    y: np.ndarray,
    sample: np.ndarray,
    variances: Sequence[Hyperparameters],
) -> tuple[Fit, np.ndarray, np.ndarray, Hyperparameters]:
    """Linear and kernel terms together: the fit, weights of the linear features and of the references, best variances."""
    n_linear = x.shape[1]
    linear = np.full(n_linear, max(np.einsum("nf,nf->", x, x) / len(x), 1e-300) if n_linear else 1.0)
    if blocks is None:
        fit = ridge(x, y, sample, [ridge * linear * len(x) for ridge in RIDGES])
        return fit, fit.weights, np.zeros((0, y.shape[1])), variances[0]
    factor = cholesky(blocks[1] + JITTER * np.eye(len(blocks[1])))
    both = np.empty((len(x), n_linear + len(factor)))
    both[:, :n_linear] = x
    for rows in np.array_split(np.arange(len(x)), -(-both.size // limits.KEPT)):
        both[rows, n_linear:] = solve_triangular(factor, blocks[0][rows].T, lower=True, check_finite=False).T
    penalties = [noise * np.concatenate([linear / size, np.ones(len(factor))]) for noise, size in variances]
    fit = ridge(both, y, sample, penalties)
    weights = solve_triangular(factor, fit.weights[n_linear:], lower=True, trans=1, check_finite=False)
    return fit, fit.weights[:n_linear], weights, variances[fit.best]
