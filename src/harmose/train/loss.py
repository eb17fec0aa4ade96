"""The loss: norms of irreps, in physical units.

    loss = 1/n sum over blocks b, irreps k of  w_b sqrt(2 L_k + 1) |s_bk (x_bk - t_bk)|

x, t: predicted and target coefficients of irrep k (2 L_k + 1 numbers), normalised; s: their scales in eV; w = 2 for an
off-site block, which stands for its reverse as well, and 1 on site; n: number of matrix elements. By Cauchy's inequality
sqrt(2L + 1) times the 2-norm bounds the 1-norm, so that the loss follows the mean absolute error of H, whereas every
frame in which the irrep is written gives the same number. In micro-Hartree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harmose.data.dataset import TrainingBatch
from harmose.targets import Coefficients, TargetSpace
from harmose.units import MICRO_HARTREE

EPSILON = 1e-12
"""eV^2 under each root: an error of 1e-6 eV is where the norm stops to pull."""


@dataclass(frozen=True)
class DegreeWeights:
    """sqrt(2L + 1) of every irrep: pairs[group] (K,), onsite[signature] (l_max + 1, K) with 0 where there is none.

    degrees (l_max + 1, (l_max + 1)^2): 1 where the row (l, m) belongs to the degree.
    """

    pairs: Mapping[tuple[int, int], Tensor]
    onsite: Mapping[int, Tensor]
    degrees: Tensor


def degree_weights(space: TargetSpace, device: torch.device | str = "cpu") -> DegreeWeights:
    """The constants of `block_loss` for a target space."""
    l = torch.arange(space.l_max + 1)
    degrees = torch.eye(space.l_max + 1, device=device)[:, torch.repeat_interleave(l, 2 * l + 1)]
    pairs, onsite = {}, {}
    for group in space.groups:
        pairs[group] = torch.as_tensor(2 * space.pair_layout(group).degree + 1, device=device).float().sqrt()
    for s in range(len(space.signatures)):
        mask = torch.as_tensor(space.onsite_layout(s).mask, device=device).float()
        onsite[s] = (degrees @ mask).sqrt()
    return DegreeWeights(pairs, onsite, degrees)


def block_loss(weights: DegreeWeights, predicted: Coefficients, batch: TrainingBatch) -> Tensor:
    """The loss of this module's equation, a scalar in micro-Hartree."""
    total = batch.graph.distance.new_zeros(())
    for group, x in predicted.pairs.items():
        if len(x):
            squares = ((x - batch.targets.pairs[group]) * batch.scales.pairs[group]).square().sum(1)
            total = total + 2 * ((squares + EPSILON).sqrt() @ weights.pairs[group]).sum()
    for s, x in predicted.onsite.items():
        if len(x):
            squares = ((x - batch.targets.onsite[s]) * batch.scales.onsite[s]).square()
            norms = (weights.degrees @ squares + EPSILON).sqrt()
            total = total + (norms * weights.onsite[s]).sum()
    return total / (batch.n_elements * MICRO_HARTREE)
