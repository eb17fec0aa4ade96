"""Corrections: regressions of what a model leaves of further samples, such as geometries of one new molecule.

    f(x) + w(v) c(x),    w = T^2 / (S^2 + T^2) / (1 + (v / cutoff)^4),    S^2(v) = s^2 (1 + growth v)^power

c is a kernel regression of the residuals of f, v the variance of its prediction, s its error where v is small, and T the error
of f on the samples, the same everywhere (`fading`). Near the samples w is close to 1. Where v is much larger than for any of
them, nothing is known about the residuals, and w goes to zero: other molecules keep the predictions of f. The standard deviation
of the sum is that of f times

    sqrt(w^2 S^2 + (1 - w)^2 T^2) / T
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from harmose.kernel_regression.fading import Fade

BlockValues = tuple[Tensor, np.ndarray, np.ndarray]
"""Coefficients of some blocks in eV, and weights and standard deviations of the regression (n,)."""


def corrected(
    before: BlockValues, own: BlockValues, kind: np.ndarray, fades: Mapping[int, Fade], rows: np.ndarray | None = None
) -> BlockValues:
    """Add a correction to some values of a regression.

    Args:
        before: values of the regression, weights and standard deviations of n blocks.
        own: those of the correction, faded, for m of the blocks; standard deviations in units of s.
        kind: species or pair type of the m blocks (m,).
        fades: by species or pair type, how the correction fades; it leaves kinds that it has none for.
        rows: rows of the m blocks among the n; default: all.

    Returns:
        Values, weights and standard deviations of the sum, for n blocks.
    """
    rows = np.arange(len(kind)) if rows is None else rows
    values, weights, std = before[0].clone(), before[1].copy(), before[2].copy()
    values[torch.as_tensor(rows)] += own[0]
    correction = own[1], relative_std(own[2], kind, fades)
    weights[rows], std[rows] = summed_fades((weights[rows], std[rows]), correction)
    return values, weights, std


def summed_fades(
    before: tuple[np.ndarray, np.ndarray], correction: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and standard deviations of a regression with a correction, from those of both (n,).

    Standard deviations of the correction are relative to the error before it.
    """
    return before[0] + (1 - before[0]) * correction[0], before[1] * correction[1]


def relative_std(std: np.ndarray, kind: np.ndarray, fades: Mapping[int, Fade]) -> np.ndarray:
    """Return standard deviations (n,), given in units of s, in units of the error before the correction; 1 for unknown kinds."""
    out = np.ones(len(kind))
    for k, fade in fades.items():
        rows = kind == k
        out[rows] = std[rows] / np.sqrt(fade.gain)
    return out
