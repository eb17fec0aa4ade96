"""Smooth bounds of a network: of its outputs, and of the invariants that its perceptrons read.

A vector x of an irrep becomes

    x / sqrt(1 + |x|^2 / bound^2)

which is x where |x| is small against the bound and never longer than the bound. |x| is the norm over the components of
the irrep, which no rotation changes, so that the map is equivariant, and smooth. Outputs are normalized to the residual that
the network was trained on (`representation.normalizer`): they are of size one in training, and far from it, where a perceptron
extrapolates, a few times as large and no more.
"""

import torch
from torch import Tensor

from harmose.representation.block_irreps import Coefficients

OUTPUT_BOUND = 3.0
"""Largest norm of an irrep, in units of the residual's root mean square."""
INVARIANT_BOUND = 10.0
"""Largest standardized invariant, in standard deviations of the training set."""


class Bounded:
    """A module whose values can be bounded; `TwoStage` sets `bounded` from its settings."""

    bounded: bool = True


def saturate(x: Tensor, square: Tensor, bound: float) -> Tensor:
    """x / sqrt(1 + square / bound^2)."""
    return x * torch.rsqrt(1 + square / bound**2)


def saturate_pairs(x: Tensor) -> Tensor:
    """Bound coefficients in edge frames (P, S, K): the norm of a column."""
    return saturate(x, x.square().sum(1, keepdim=True), OUTPUT_BOUND)


def saturate_onsite(x: Tensor) -> Tensor:
    """Bound coefficients in the global frame (N, (l_max+1)^2, K): the norm of the 2l + 1 components of each degree and column."""
    n = round(x.shape[1] ** 0.5)
    sizes = [2 * degree + 1 for degree in range(n)]
    norms = [part.square().sum(1, keepdim=True).expand_as(part) for part in x.split(sizes, 1)]
    return saturate(x, torch.cat(norms, 1), OUTPUT_BOUND)


def times(c: Coefficients, pairs: dict[tuple[int, int], Tensor], onsite: dict[int, Tensor]) -> Coefficients:
    """Multiply each block by a number: of each pair (P_group,), and of each atom (N_type,)."""
    return Coefficients(
        {g: x * pairs[g].to(x)[:, None, None] for g, x in c.pairs.items()},
        {s: x * onsite[s].to(x)[:, None, None] for s, x in c.onsite.items()},
    )
