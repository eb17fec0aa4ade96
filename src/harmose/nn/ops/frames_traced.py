"""`frames` and `invariants` for `torch.compile`: no gradients written by hand, nothing written in place.

A compiler derives the gradients and fuses the operations between matrix products. Sums over the edges of an atom are
operators of their own: the compiler would sum element by element, PyTorch sums row by row.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from harmose.nn.ops.saturation import INVARIANT_BOUND, saturate

TAKE, SUM = "harmose::take_rows", "harmose::sum_rows"

torch.library.define(TAKE, "(Tensor x, Tensor index) -> Tensor")
torch.library.define(SUM, "(Tensor x, Tensor index, int n) -> Tensor")


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x (N, n): (P, n)."""
    return torch.ops.harmose.take_rows(x, index)


def sum_rows(x: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum rows of x (P, ..) by index: (n, ..), the transpose of `take_rows`."""
    return torch.ops.harmose.sum_rows(x, index, n)


@torch.library.impl(TAKE, "CompositeExplicitAutograd")
def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.index_select(0, index)


@torch.library.impl(SUM, "CompositeExplicitAutograd")
def _sum(x: Tensor, index: Tensor, n: int) -> Tensor:
    return x.new_zeros(n, x.shape[1]).index_add_(0, index, x.contiguous())


@torch.library.register_fake(TAKE)
def _like_taken(x: Tensor, index: Tensor) -> Tensor:
    return x.new_empty(index.shape[0], x.shape[1])


@torch.library.register_fake(SUM)
def _like_summed(x: Tensor, index: Tensor, n: int) -> Tensor:
    return x.new_empty(n, x.shape[1])


def _keep_taken(ctx, inputs: tuple, output: Tensor) -> None:
    ctx.index, ctx.n = inputs[1], inputs[0].shape[0]


def _keep_summed(ctx, inputs: tuple, output: Tensor) -> None:
    ctx.index = inputs[1]


def _of_taken(ctx, gradient: Tensor):
    return sum_rows(gradient, ctx.index, ctx.n), None


def _of_summed(ctx, gradient: Tensor):
    return take_rows(gradient, ctx.index), None, None


torch.library.register_autograd(TAKE, _of_taken, setup_context=_keep_taken)
torch.library.register_autograd(SUM, _of_summed, setup_context=_keep_summed)


def gather_in_frames(features: Tensor, rotation: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`frames.gather_in_frames`."""
    rows = features.flatten(1)
    both = [take_rows(rows, atom).unflatten(1, features.shape[1:]) for atom in (first, second)]
    return torch.bmm(rotation, torch.cat(both, -1))


def sum_over_edges(
    messages: Tensor, weighted: tuple[Tensor, Tensor], first: Tensor, second: Tensor, n_atoms: int
) -> Tensor:
    """`frames.sum_over_edges`."""
    (n_pairs, _, size), (_, n_rows, channels) = weighted[0].shape, messages.shape
    parts = zip(weighted, messages.split([n_pairs, n_pairs]), (first, second), strict=True)
    sums = [sum_rows(torch.bmm(r[:, :n_rows].mT, part).flatten(1), atom, n_atoms) for r, part, atom in parts]
    return (sums[0] + sums[1]).view(n_atoms, size, channels)


def reversed_weights(weights: Tensor, signs: Tensor) -> Tensor:
    """Weights (.., degrees 2 C, n) of the reversed edge for even halves; its own inverse and adjoint."""
    w = weights.unflatten(-2, (signs.shape[-1], 2, -1))
    return (w.flip(-3) * signs[..., None, None, None]).flatten(-4, -2)


def so2_convolution(
    proper: Tensor, pseudo: Tensor | None, m0_weight: Tensor, weight: Tensor, so2_signs: Tensor, m0_signs: Tensor
) -> tuple[Tensor, Tensor]:
    """`frames.so2_convolution`."""
    l_max, width = len(weight), weight.shape[2]
    n_proper = l_max * proper.shape[2]
    first, halves = _products(proper, weight[:, :n_proper], so2_signs)
    if pseudo is not None:
        _, pseudo_halves = _products(pseudo, weight[:, n_proper:], -so2_signs)
        halves = [(even - b, odd + a) for (even, odd), (a, b) in zip(halves, pseudo_halves, strict=True)]
    ahead = torch.stack([torch.stack([even[:, :width], odd[:, :width]], 1) for even, odd in halves])
    back = torch.stack([torch.stack([even[:, width:], -odd[:, width:]], 1) for even, odd in halves])
    scalars = [first @ w for w in (m0_weight, reversed_weights(m0_weight, m0_signs))]
    return torch.cat(scalars), torch.cat([ahead, back], 1)


def _products(x: Tensor, weight: Tensor, signs: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Rows of order 0, and both halves of every order times the weights of both directions (P, 2 n)."""
    l_max, width = len(weight), x.shape[2]
    weights = torch.cat([weight, reversed_weights(weight, signs)], 2)
    sizes = [(l_max + 1) * width, *((l_max + 1 - m) * width for m in range(1, l_max + 1) for _ in range(2))]
    first, *halves = x.flatten(1).split(sizes, 1)
    pairs = enumerate(zip(halves[::2], halves[1::2], strict=True))
    return first, [(even @ weights[m, m * width :], odd @ weights[m, m * width :]) for m, (even, odd) in pairs]


def messages_in_frames(m0: Tensor, pseudo_m0: Tensor, so2: Tensor, weight: Tensor) -> Tensor:
    """`frames.messages_in_frames`."""
    l_max, n_edges = len(weight), len(m0)
    channels = [x.shape[1] // (l_max + 1) for x in (m0, pseudo_m0)]
    parts = zip(weight.split([l_max * c for c in channels], 2), channels, strict=True)
    weights = torch.cat([w.unflatten(2, (l_max, c)) for w, c in parts], 3)
    first = [x.unflatten(1, (l_max + 1, c)) for x, c in zip((m0, pseudo_m0), channels, strict=True)]
    rows = [torch.cat(first, 2)]
    for m in range(l_max):
        y = so2[m].flatten(0, 1) @ weights[m, :, m:].flatten(1)
        proper, pseudo = y.view(n_edges, 2, l_max - m, sum(channels)).split(channels, 3)
        pseudo = torch.stack([pseudo[:, 1], -pseudo[:, 0]], 1)
        rows.append(torch.cat([proper, pseudo], 3).flatten(1, 2))
    return torch.cat(rows, 1)


def both_directions(in_frames: Tensor, m0_signs: Tensor, factors: Tensor, is_proper: bool) -> tuple[Tensor, Tensor]:
    """`frames.both_directions`; factors (M, 2 directions, 1, 2 halves, l_max, 1, 1)."""
    (n_pairs, _, width), l_max = in_frames.shape, len(factors)
    first, *orders = in_frames.split([l_max + 1, *(2 * (l_max + 1 - m) for m in range(1, l_max + 1))], 1)
    first = first.unflatten(2, (2, -1))
    out = []
    for m, rows in enumerate(orders):
        rows = rows.unflatten(1, (2, l_max - m)).unflatten(3, (2, -1))
        rows = rows if is_proper else rows.flip(1)
        out.append(pad(torch.stack([rows, rows.flip(3)]), (0, 0, 0, 0, m, 0)))
    so2 = torch.stack(out) * factors
    back = first.flip(2) * m0_signs[:, None, None]
    return torch.cat([first, back]).flatten(1), so2.view(l_max, 2 * n_pairs, 2, l_max * width)


def scaled_with_invariants(
    so2: Tensor, factors: Tensor, scalars: Tensor, mean: Tensor, scale: Tensor, bounded: bool
) -> tuple[Tensor, Tensor]:
    """`invariants.scaled_with_invariants`."""
    x = so2 * factors
    sizes = torch.log(1 + x.square().sum(2)).transpose(0, 1).flatten(1)
    invariants = (torch.cat([scalars, sizes], 1) - mean) * scale
    return x, saturate(invariants, invariants.square(), INVARIANT_BOUND) if bounded else invariants
