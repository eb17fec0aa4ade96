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

from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients, map_coefficients
from harmose.train.dataset import TrainingBatch
from harmose.units import MICRO_HARTREE

EPSILON = 1e-12
"""eV^2, added under each root: gradients vanish below errors of 1e-6 eV."""


@dataclass(frozen=True)
class DegreeWeights:
    """sqrt(2L + 1) of every irrep: pairs[group] (K,), onsite[shell_type] (l_max + 1, K) with 0 where there is none.

    degrees (l_max + 1, (l_max + 1)^2): 1 where the row (l, m) belongs to the degree.
    """

    pairs: Mapping[tuple[int, int], Tensor]
    onsite: Mapping[int, Tensor]
    degrees: Tensor


def degree_weights(space: BlockIrreps, device: torch.device | str = "cpu") -> DegreeWeights:
    """Return the weights of `block_loss` for the irreps of a set of blocks."""
    l = torch.arange(space.l_max + 1)
    degrees = torch.eye(space.l_max + 1, device=device)[:, torch.repeat_interleave(l, 2 * l + 1)]
    pairs, onsite = {}, {}
    for group in space.groups:
        pairs[group] = torch.as_tensor(2 * space.pair_layout(group).degree + 1, device=device).float().sqrt()
    for s in range(len(space.shell_types)):
        mask = torch.as_tensor(space.onsite_layout(s).mask, device=device).float()
        onsite[s] = (degrees @ mask).sqrt()
    return DegreeWeights(pairs, onsite, degrees)


def block_loss(weights: DegreeWeights, predicted: Coefficients, batch: TrainingBatch) -> Tensor:
    """Return the loss of this module's equation, a scalar in micro-Hartree."""
    return norms_of_blocks(weights, physical_errors(predicted, batch), batch.n_elements)


def physical_errors(predicted: Coefficients, batch: TrainingBatch) -> Coefficients:
    """Return s (x - t), the error of H in eV."""
    return map_coefficients(lambda x, t, s: (x - t) * s, predicted, batch.targets, batch.scales)


def norms_of_blocks(weights: DegreeWeights, errors: Coefficients, n_elements: int) -> Tensor:
    """Return the loss in micro-Hartree of errors in eV."""
    total = weights.degrees.new_zeros(())
    for group, e in errors.pairs.items():
        if len(e):
            norms = (e.square().sum(1) + EPSILON).sqrt()
            total = total + 2 * (norms @ weights.pairs[group]).sum()
    for s, e in errors.onsite.items():
        if len(e):
            norms = (weights.degrees @ e.square() + EPSILON).sqrt()
            total = total + (norms * weights.onsite[s]).sum()
    return total / (n_elements * MICRO_HARTREE)


def shift_free(errors: Coefficients, batch: GraphBatch) -> Coefficients:
    """Subtract from the errors of each sample the c S that is nearest to them: H and H + c S describe the same physics.

    c = <S, dH> / <S, S> over all elements (least squares). Gradients flow through c, so that the subtraction is a projection:
    neither the loss nor its gradient has a component along S.
    """
    overlap = batch.operators["overlap"]
    of_pairs = {g: batch.sample[batch.first[batch.pair_slice(k)]] for k, g in enumerate(errors.pairs)}
    of_atoms = {s: batch.sample[batch.atom_slice(s)] for s in errors.onsite}
    along = batch.distance.new_zeros(2, batch.n_samples)
    for g, e in errors.pairs.items():
        along = along.index_add(1, of_pairs[g], 2 * _products(overlap.pairs[g], e))
    for s, e in errors.onsite.items():
        along = along.index_add(1, of_atoms[s], _products(overlap.onsite[s], e))
    c = along[0] / along[1]
    return Coefficients(
        {g: e - c[of_pairs[g]][:, None, None] * overlap.pairs[g] for g, e in errors.pairs.items()},
        {s: e - c[of_atoms[s]][:, None, None] * overlap.onsite[s] for s, e in errors.onsite.items()},
    )


def _products(s: Tensor, e: Tensor) -> Tensor:
    """Return <S, dH> and <S, S> of each block (2, N)."""
    return torch.stack([(s * e).sum((1, 2)), s.square().sum((1, 2))])
