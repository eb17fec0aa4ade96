"""SO(2) convolutions: rotate atom features into the frames of pairs, mix them by maps that O(3) allows, and back.

Passaro and Zitnick, arXiv:2302.03655 (eSCN): in the frame of an edge a tensor product with spherical harmonics becomes
one matrix for each order m. A pair has one rotation for both of its directions: the frame of the reversed edge differs
by signs (`reversal_signs`), which multiply weights instead of features. The rows of a frame are sorted by order m,
even halves before odd halves: the components of one order are neighbours in memory, nothing is copied between the
rotation and the product with the weights, and components l < m, which do not exist, cost nothing.

Gradients are written by hand; those of `gather_in_frames` and `sum_over_edges` are each other. A compiler derives its own
from the same functions in `frames_traced`. Both are kept: derived gradients make a step without a compiler up to a tenth
slower, and operators of `torch.library`, which a compiler cannot fuse, make a compiled step 10 to 20 % slower.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from harmose.nn.ops import frames_traced as traced
from harmose.representation.layout import order_rows


class PairFrames(NamedTuple):
    """Rotations into the frames of pairs of atoms, S = (l_max + 1)^2.

    rotation (P, S, S); weighted: rotations of both directions times the weight of a message; row_signs (S, 1): ratio
    of the two directions' rotations; first, second (P,): the atoms.
    """

    rotation: Tensor
    weighted: tuple[Tensor, Tensor]
    row_signs: Tensor
    first: Tensor
    second: Tensor
    n_atoms: int

    def unweighted(self) -> "PairFrames":
        """Return the same frames with all weights one."""
        return self._replace(weighted=(self.rotation, self.rotation * self.row_signs))


def pair_frames(rotation: Tensor, row_signs: Tensor, weight: Tensor, *atoms) -> PairFrames:
    """`weight` (P, 1, 1): weights of messages; row_signs (S, 1): `representation.layout.reversal_signs`."""
    ahead = rotation * weight
    return PairFrames(rotation, (ahead, ahead * row_signs), row_signs, *atoms)


def gather_in_frames(features: Tensor, frames: PairFrames) -> Tensor:
    """Rotate irreps (N, S, C) of both atoms of every pair into its frame: (P, S, 2 C), the first atom first."""
    if is_compiling():
        return traced.gather_in_frames(features, frames.rotation, frames.first, frames.second)
    return _GatherInFrames.apply(features, frames)  # type: ignore[return-value]


def sum_over_edges(messages: Tensor, frames: PairFrames) -> Tensor:
    """Rotate messages (2 P, rows, C) from the frames of edges, and sum them for each atom: (N, S, C).

    The first P messages go to the first atoms of the pairs, the others to the second atoms. Missing rows count as zero.
    """
    if is_compiling():
        return traced.sum_over_edges(messages, frames.weighted, frames.first, frames.second, frames.n_atoms)
    return _SumOverEdges.apply(messages, frames)  # type: ignore[return-value]


def _sum(messages: Sequence[Tensor], rotations: tuple[Tensor, Tensor], frames: PairFrames) -> Tensor:
    _, n_rows, channels = messages[0].shape
    size = frames.rotation.shape[2]
    out = messages[0].new_zeros(frames.n_atoms, size * channels)
    for atom, part, rotation in zip((frames.first, frames.second), messages, rotations, strict=True):
        out.index_add_(0, atom, torch.bmm(rotation[:, :n_rows].mT, part).flatten(1))
    return out.view(frames.n_atoms, size, channels)


class _GatherInFrames(Function):
    @staticmethod
    def forward(ctx, features: Tensor, frames: PairFrames) -> Tensor:
        ctx.frames = frames
        both = [features.index_select(0, frames.first), features.index_select(0, frames.second)]
        return torch.bmm(frames.rotation, torch.cat(both, -1))

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        frames = ctx.frames
        return _sum(gradient.chunk(2, -1), (frames.rotation, frames.rotation), frames), None


class _SumOverEdges(Function):
    @staticmethod
    def forward(ctx, messages: Tensor, frames: PairFrames) -> Tensor:
        ctx.frames, ctx.n_rows = frames, messages.shape[1]
        return _sum(messages.chunk(2), frames.weighted, frames)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        frames, n_rows = ctx.frames, ctx.n_rows
        out = gradient.new_empty(2 * len(frames.first), n_rows, gradient.shape[2])
        for atom, part, rotation in zip((frames.first, frames.second), out.chunk(2), frames.weighted, strict=True):
            torch.bmm(rotation[:, :n_rows], gradient.index_select(0, atom), out=part)
        return out, None


def so2_signs(l_max: int) -> Tensor:
    """(-1)^(l + m) for orders m = 1.. and degrees l = 1.., (l_max, l_max).

    Sign of the even half of a proper feature under reversal of the edge. The odd half has the opposite sign; a pseudo
    feature has the opposites of both.
    """
    l = torch.arange(1, l_max + 1)
    return 1.0 - 2.0 * ((l + l[:, None]) % 2)


def m0_signs(l_max: int) -> Tensor:
    """(-1)^l, (l_max + 1,): the same at m = 0, for either parity."""
    return 1.0 - 2.0 * (torch.arange(l_max + 1) % 2)


class ReversalSigns(NamedTuple):
    """`so2_signs` and `m0_signs`, on the device of the features."""

    so2: Tensor
    m0: Tensor


def so2_convolution(
    proper: Tensor, pseudo: Tensor | None, m0_weight: Tensor, weight: Tensor, signs: ReversalSigns
) -> tuple[Tensor, Tensor]:
    """Linear maps of both atoms' features in the frame of a pair, for both of its directions.

    proper (P, S, 2 C), pseudo (P, S, 2 C') from `gather_in_frames`; m0_weight ((l_max + 1) 2 C, n0) and weight (M,
    l_max (2 C + 2 C'), n), whose inputs are sorted by degree, then centre and neighbour, then channel. Returns scalars
    (2 P, n0) and SO(2) features (M, 2 P, 2, n): all pairs, then all reversed pairs.
    """
    if is_compiling():
        return traced.so2_convolution(proper, pseudo, m0_weight, weight, signs.so2, signs.m0)
    return _Convolution.apply(proper, pseudo, m0_weight, weight, signs)  # type: ignore[return-value]


def _halves(x: Tensor, l_max: int) -> list[tuple[Tensor, Tensor]]:
    """Views (P, (l_max + 1 - m) 2 C) of even and odd halves of every order m = 1.. of (P, S, 2 C)."""
    width = x.shape[2]
    sizes = [(l_max + 1) * width, *((l_max + 1 - m) * width for m in range(1, l_max + 1) for _ in range(2))]
    parts = x.flatten(1).split(sizes, 1)
    return list(zip(parts[1::2], parts[2::2], strict=True))


class _Convolution(Function):
    """The odd halves of reversed edges are computed with the opposite sign, so that both halves share weights."""

    @staticmethod
    def forward(ctx, proper: Tensor, pseudo: Tensor | None, m0_weight: Tensor, weight: Tensor, signs: ReversalSigns):
        (orders, _, width), n_pairs, l_max = weight.shape, len(proper), len(signs.m0) - 1
        proper_weight = weight[:, : l_max * proper.shape[2]]
        proper_weight = torch.cat([proper_weight, traced.reversed_weights(proper_weight, signs.so2)], 2)
        pseudo_weight = None
        out = proper.new_empty(orders, 2, n_pairs, 2 * width)
        for m, (x, w, y) in enumerate(zip(_halves(proper, l_max), proper_weight, out, strict=True)):
            w = w[m * proper.shape[2] :]
            torch.mm(x[0], w, out=y[0])
            torch.mm(x[1], w, out=y[1])
        if pseudo is not None:
            pseudo_weight = weight[:, l_max * proper.shape[2] :]
            pseudo_weight = torch.cat([pseudo_weight, traced.reversed_weights(pseudo_weight, -signs.so2)], 2)
            for m, (x, w, y) in enumerate(zip(_halves(pseudo, l_max), pseudo_weight, out, strict=True)):
                w = w[m * pseudo.shape[2] :]
                y[0].addmm_(x[1], w, alpha=-1)
                y[1].addmm_(x[0], w)
        out = out.view(orders, 2, n_pairs, 2, width)
        out[:, 1, :, 1].neg_()
        back, first = traced.reversed_weights(m0_weight, signs.m0), proper.flatten(1)[:, : len(m0_weight)]
        scalars = proper.new_empty(2, n_pairs, m0_weight.shape[1])
        torch.mm(first, m0_weight, out=scalars[0])
        torch.mm(first, back, out=scalars[1])
        ctx.save_for_backward(proper, pseudo, m0_weight, back, proper_weight, pseudo_weight)
        ctx.signs = signs
        return scalars.flatten(0, 1), out.permute(0, 3, 2, 1, 4).reshape(orders, 2 * n_pairs, 2, width)

    @staticmethod
    def backward(ctx, grad_scalars: Tensor, grad_so2: Tensor):  # type: ignore[override]
        proper, pseudo, m0_weight, back, proper_weight, pseudo_weight = ctx.saved_tensors
        signs, n_pairs, l_max = ctx.signs, len(proper), len(ctx.signs.m0) - 1
        orders, _, _, width = grad_so2.shape
        g = grad_so2.view(orders, 2, n_pairs, 2, width).permute(0, 3, 2, 1, 4).contiguous()
        g[:, 1, :, 1].neg_()
        g = g.flatten(3)
        first, (ahead, reverse) = proper.flatten(1)[:, : len(m0_weight)], grad_scalars.unflatten(0, (2, n_pairs))
        grad_m0_weight = (first.T @ ahead).add_(traced.reversed_weights(first.T @ reverse, signs.m0))
        grad_proper, grad_proper_weight = torch.empty_like(proper), torch.zeros_like(proper_weight)
        grad_first = grad_proper.flatten(1)[:, : len(m0_weight)]
        torch.mm(ahead, m0_weight.T, out=grad_first)
        grad_first.addmm_(reverse, back.T)
        parts = zip(
            _halves(proper, l_max), _halves(grad_proper, l_max), proper_weight, grad_proper_weight, g, strict=True
        )
        for m, (x, grad_x, w, grad_w, y) in enumerate(parts):
            w, grad_w = w[m * proper.shape[2] :].T, grad_w[m * proper.shape[2] :]
            torch.mm(y[0], w, out=grad_x[0])
            torch.mm(y[1], w, out=grad_x[1])
            torch.mm(x[0].T, y[0], out=grad_w)
            grad_w.addmm_(x[1].T, y[1])
        grad_weight = [_add_reversed(grad_proper_weight, signs.so2)]
        grad_pseudo = None
        if pseudo is not None:
            grad_pseudo, grad_pseudo_weight = torch.zeros_like(pseudo), torch.zeros_like(pseudo_weight)
            parts = zip(
                _halves(pseudo, l_max), _halves(grad_pseudo, l_max), pseudo_weight, grad_pseudo_weight, g, strict=True
            )
            for m, (x, grad_x, w, grad_w, y) in enumerate(parts):
                w, grad_w = w[m * pseudo.shape[2] :].T, grad_w[m * pseudo.shape[2] :]
                grad_x[1].addmm_(y[0], w, alpha=-1)
                torch.mm(y[1], w, out=grad_x[0])
                torch.mm(x[0].T, y[1], out=grad_w)
                grad_w.addmm_(x[1].T, y[0], alpha=-1)
            grad_weight.append(_add_reversed(grad_pseudo_weight, -signs.so2))
        return grad_proper, grad_pseudo, grad_m0_weight, torch.cat(grad_weight, 1), None


def _add_reversed(gradient: Tensor, signs: Tensor) -> Tensor:
    ahead, back = gradient.chunk(2, -1)
    return ahead + traced.reversed_weights(back, signs)


def messages_in_frames(m0: Tensor, pseudo_m0: Tensor, so2: Tensor, weight: Tensor) -> Tensor:
    """Messages as irreps in the frames of edges: (E, S, C + C'), proper before pseudo channels.

    m0 (E, (l_max + 1) C) and pseudo_m0 (E, (l_max + 1) C') are the rows m = 0; the others are products of so2 (M, E,
    2, n) and weight (M, n, l_max (C + C')), whose outputs are sorted by parity, degree and channel.
    """
    if is_compiling():
        return traced.messages_in_frames(m0, pseudo_m0, so2, weight)
    return _MessagesInFrames.apply(m0, pseudo_m0, so2, weight)  # type: ignore[return-value]


def _by_degree(weight: Tensor, proper: int, pseudo: int) -> Tensor:
    """Weights sorted by degree, then parity and channel: (M, n, l_max, C + C')."""
    l_max = len(weight)
    return torch.cat([x.unflatten(2, (l_max, -1)) for x in weight.split([l_max * proper, l_max * pseudo], 2)], 3)


def _places(y: Tensor, l_max: int, channels: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Views of a message's rows of every order: proper (E, 2, l_max + 1 - m, C), pseudo even and odd (E, .., C')."""
    out = []
    for rows in y.split([l_max + 1, *(2 * (l_max + 1 - m) for m in range(1, l_max + 1))], 1)[1:]:
        rows = rows.unflatten(1, (2, rows.shape[1] // 2))
        out.append((rows[..., :channels], *rows[..., channels:].unbind(1)))
    return out


class _MessagesInFrames(Function):
    """The even half of a pseudo feature goes to the odd row of its order, negated; its odd half to the even row."""

    @staticmethod
    def forward(ctx, m0: Tensor, pseudo_m0: Tensor, so2: Tensor, weight: Tensor) -> Tensor:
        l_max, n_edges = len(weight), len(m0)
        proper, pseudo = (x.shape[1] // (l_max + 1) for x in (m0, pseudo_m0))
        weights = _by_degree(weight, proper, pseudo)
        ctx.save_for_backward(so2, weights)
        ctx.channels = proper, pseudo
        y = m0.new_empty(n_edges, (l_max + 1) ** 2, proper + pseudo)
        y[:, : l_max + 1, :proper] = m0.unflatten(1, (l_max + 1, proper))
        y[:, : l_max + 1, proper:] = pseudo_m0.unflatten(1, (l_max + 1, pseudo))
        places = _places(y, l_max, proper)
        for m, (x, w, (here, even, odd)) in enumerate(zip(so2.flatten(1, 2), weights, places, strict=True)):
            written = (x @ w[:, m:].flatten(1)).view(n_edges, 2, l_max - m, proper + pseudo)
            here.copy_(written[..., :proper])
            turned_even, turned_odd = written[..., proper:].unbind(1)
            even.copy_(turned_odd)
            torch.neg(turned_even, out=odd)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        so2, weights = ctx.saved_tensors
        (l_max, n_edges), (proper, pseudo) = so2.shape[:2], ctx.channels
        grad_so2, grad_weights = torch.empty_like(so2), torch.zeros_like(weights)
        parts = zip(so2.flatten(1, 2), grad_so2.flatten(1, 2), weights, grad_weights, strict=True)
        for m, ((x, grad_x, w, grad_w), (here, even, odd)) in enumerate(
            zip(parts, _places(gradient, l_max, proper), strict=True)
        ):
            g = gradient.new_empty(n_edges, 2, l_max - m, proper + pseudo)
            g[..., :proper] = here
            turned_even, turned_odd = g[..., proper:].unbind(1)
            turned_odd.copy_(even)
            torch.neg(odd, out=turned_even)
            g = g.view(2 * n_edges, (l_max - m) * (proper + pseudo))
            torch.mm(g, w[:, m:].flatten(1).T, out=grad_x)
            torch.mm(x.T, g, out=grad_w.flatten(1)[:, m * (proper + pseudo) :])
        first = gradient[:, : l_max + 1]
        grad_weight = torch.cat([x.flatten(2) for x in grad_weights.split([proper, pseudo], 3)], 2)
        return first[..., :proper].flatten(1), first[..., proper:].flatten(1), grad_so2, grad_weight


def both_directions(in_frames: Tensor, signs: ReversalSigns, is_proper: bool) -> tuple[Tensor, Tensor]:
    """Features of both atoms in the frames of both directions of a pair, from (P, S, 2 C) of `gather_in_frames`.

    Returns the part m = 0 (2 P, (l_max + 1) 2 C) and SO(2) features (M, 2 P, 2, l_max 2 C), sorted by degree, then
    centre and neighbour; zero where l < m.
    """
    if is_compiling():
        return traced.both_directions(in_frames, signs.m0, signs_of_rows(signs, is_proper), is_proper)
    return _BothDirections.apply(in_frames, signs, is_proper)  # type: ignore[return-value]


def _rows(x: Tensor, l_max: int, m: int) -> Tensor:
    """A view of the rows of order m: (P, 2 halves, l_max + 1 - m, 2, C)."""
    start, stop = order_rows(l_max, m)
    return x[:, start:stop].unflatten(2, (2, -1)).unflatten(1, (2, -1))


def signs_of_rows(signs: ReversalSigns, is_proper: bool) -> Tensor:
    """Signs that turn the rows of a pair's frame into SO(2) features (M, 2 directions, P, 2 halves, l_max, 2, C)."""
    one, back = torch.ones_like(signs.so2), signs.so2
    halves = [one, one, back, -back] if is_proper else [-one, one, back, back]
    return torch.stack(halves, 1).unflatten(1, (2, 2))[:, :, None, :, :, None, None]


class _BothDirections(Function):
    @staticmethod
    def forward(ctx, in_frames: Tensor, signs: ReversalSigns, is_proper: bool):
        (n_pairs, _, width), l_max = in_frames.shape, len(signs.m0) - 1
        ctx.signs, ctx.is_proper, ctx.shape = signs, is_proper, in_frames.shape
        first = in_frames[:, : l_max + 1].unflatten(2, (2, -1))
        back = first.flip(2) * signs.m0[:, None, None]
        out = in_frames.new_zeros(l_max, 2, n_pairs, 2, l_max, 2, width // 2)
        for m in range(1, l_max + 1):
            rows = _rows(in_frames, l_max, m)
            rows = rows if is_proper else rows.flip(1)
            out[m - 1, 0, :, :, m - 1 :] = rows
            out[m - 1, 1, :, :, m - 1 :] = rows.flip(3)
        out *= signs_of_rows(signs, is_proper)
        return torch.cat([first, back]).flatten(1), out.view(l_max, 2 * n_pairs, 2, l_max * width)

    @staticmethod
    def backward(ctx, grad_m0: Tensor, grad_so2: Tensor):  # type: ignore[override]
        signs, l_max = ctx.signs, len(ctx.signs.m0) - 1
        out = grad_m0.new_empty(ctx.shape)
        ahead, back = grad_m0.view(2, len(out), l_max + 1, 2, ctx.shape[2] // 2)
        out[:, : l_max + 1] = (ahead + back.flip(2) * signs.m0[:, None, None]).flatten(2)
        g = grad_so2.view(l_max, 2, len(out), 2, l_max, 2, ctx.shape[2] // 2) * signs_of_rows(signs, ctx.is_proper)
        for m in range(1, l_max + 1):
            ahead, back = g[m - 1, :, :, :, m - 1 :]
            rows = ahead + back.flip(3)
            _rows(out, l_max, m).copy_(rows if ctx.is_proper else rows.flip(1))
        return out, None, None
