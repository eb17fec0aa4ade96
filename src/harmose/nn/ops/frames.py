"""From atoms into the frames of pairs, mixed there by the maps that symmetry allows, and back to the atoms.

A pair has one rotation for both of its directions: the frame of the reversed edge differs by signs (`reversal_signs`), which
are multiplied into weights instead of features. Rows of a pair's frame are sorted by order m, even halves before odd ones, so
that what a map of order m reads are neighbours in memory: nothing is copied on the way from the rotation to the product with
the weights, and components l < m, which do not exist, cost nothing.

The gradients are written down here as well: that of `gathered` is `summed` and the other way round. A compiler derives its
own, from `traced`.
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
    """rotation (P, S, S) of each pair, S = (l_max + 1)^2; `sending` the same to its first and to its second atom, times the weight
    that a message has; the two atoms (P,); how many atoms there are."""

    rotation: Tensor
    sending: tuple[Tensor, Tensor]
    reversal: Tensor
    first: Tensor
    second: Tensor
    n_atoms: int

    def unweighted(self) -> "PairFrames":
        """The same with all messages as they are."""
        return self._replace(sending=(self.rotation, self.rotation * self.reversal))


def pair_frames(rotation: Tensor, reversal: Tensor, weight: Tensor, *atoms) -> PairFrames:
    """Messages weighed by `weight` (P, 1, 1); reversal (S, 1): `so3.layout.reversal_signs`."""
    ahead = rotation * weight
    return PairFrames(rotation, (ahead, ahead * reversal), reversal, *atoms)


def gathered(features: Tensor, frames: PairFrames) -> Tensor:
    """Irreps (N, S, C) of both atoms of every pair in its frame: (P, S, 2 C), the first atom's before the second's."""
    if is_compiling():
        return traced.gathered(features, frames.rotation, frames.first, frames.second)
    return _Gather.apply(features, frames)  # type: ignore[return-value]


def summed(messages: Tensor, frames: PairFrames) -> Tensor:
    """Messages (2 P, rows, C) to the first and to the second atoms, each in its edge's frame: irreps of the atoms (N, S, C).

    Where there are fewer rows than S, the others are zero.
    """
    if is_compiling():
        return traced.summed(messages, frames.sending, frames.first, frames.second, frames.n_atoms)
    return _Sum.apply(messages, frames)  # type: ignore[return-value]


def _sum(messages: Sequence[Tensor], rotations: tuple[Tensor, Tensor], frames: PairFrames) -> Tensor:
    _, n_rows, channels = messages[0].shape
    size = frames.rotation.shape[2]
    out = messages[0].new_zeros(frames.n_atoms, size * channels)
    for atom, part, rotation in zip((frames.first, frames.second), messages, rotations, strict=True):
        out.index_add_(0, atom, torch.bmm(rotation[:, :n_rows].mT, part).flatten(1))
    return out.view(frames.n_atoms, size, channels)


class _Gather(Function):
    @staticmethod
    def forward(ctx, features: Tensor, frames: PairFrames) -> Tensor:
        ctx.frames = frames
        both = [features.index_select(0, frames.first), features.index_select(0, frames.second)]
        return torch.bmm(frames.rotation, torch.cat(both, -1))

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        frames = ctx.frames
        return _sum(gradient.chunk(2, -1), (frames.rotation, frames.rotation), frames), None


class _Sum(Function):
    @staticmethod
    def forward(ctx, messages: Tensor, frames: PairFrames) -> Tensor:
        ctx.frames, ctx.n_rows = frames, messages.shape[1]
        return _sum(messages.chunk(2), frames.sending, frames)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        frames, n_rows = ctx.frames, ctx.n_rows
        out = gradient.new_empty(2 * len(frames.first), n_rows, gradient.shape[2])
        for atom, part, rotation in zip((frames.first, frames.second), out.chunk(2), frames.sending, strict=True):
            torch.bmm(rotation[:, :n_rows], gradient.index_select(0, atom), out=part)
        return out, None


def order_signs(l_max: int) -> Tensor:
    """(-1)^(l + m), (l_max, l_max) for orders m = 1.. and degrees l = 1..: what reversing an edge does to the even half of a natural
    doublet; its odd half gets the opposite. An unnatural doublet has the opposites of both."""
    l = torch.arange(1, l_max + 1)
    return 1.0 - 2.0 * ((l + l[:, None]) % 2)


def axial_signs(l_max: int) -> Tensor:
    """(-1)^l, (l_max + 1,): the same at m = 0, natural or not."""
    return 1.0 - 2.0 * (torch.arange(l_max + 1) % 2)


class Signs(NamedTuple):
    """`order_signs` and `axial_signs`, where the features are."""

    order: Tensor
    axial: Tensor


def mixed(proper: Tensor, pseudo: Tensor | None, axial: Tensor, around: Tensor, signs: Signs) -> tuple[Tensor, Tensor]:
    """Linear maps of what both atoms of a pair look like in its frame, for its two directions.

    natural (P, S, 2 C), unnatural (P, S, 2 C') from `gathered`; axial ((l_max + 1) 2 C, n0) and around
    (M, l_max (2 C + 2 C'), n): weights, whose inputs are sorted by degree, then centre and neighbour, then channel. Returns
    scalars (2 P, n0) and doublets (M, 2 P, 2, n): the pairs, then their reversals.
    """
    if is_compiling():
        return traced.mixed(proper, pseudo, axial, around, signs.order, signs.axial)
    return _Mix.apply(proper, pseudo, axial, around, signs)  # type: ignore[return-value]


def _halves(x: Tensor, l_max: int) -> list[tuple[Tensor, Tensor]]:
    """Views (P, (l_max + 1 - m) 2 C) of even and odd halves of every order m = 1.. of (P, S, 2 C)."""
    width = x.shape[2]
    sizes = [(l_max + 1) * width, *((l_max + 1 - m) * width for m in range(1, l_max + 1) for _ in range(2))]
    parts = x.flatten(1).split(sizes, 1)
    return list(zip(parts[1::2], parts[2::2], strict=True))


class _Mix(Function):
    """Of reversed edges the odd halves are worked out with the opposite sign, so that both halves share weights."""

    @staticmethod
    def forward(ctx, proper: Tensor, pseudo: Tensor | None, axial: Tensor, around: Tensor, signs: Signs):
        (orders, _, width), n_pairs, l_max = around.shape, len(proper), len(signs.axial) - 1
        straight = around[:, : l_max * proper.shape[2]]
        straight, turned = torch.cat([straight, traced.reversed_weights(straight, signs.order)], 2), None
        out = proper.new_empty(orders, 2, n_pairs, 2 * width)
        for m, (x, w, y) in enumerate(zip(_halves(proper, l_max), straight, out, strict=True)):
            w = w[m * proper.shape[2] :]
            torch.mm(x[0], w, out=y[0])
            torch.mm(x[1], w, out=y[1])
        if pseudo is not None:
            turned = around[:, l_max * proper.shape[2] :]
            turned = torch.cat([turned, traced.reversed_weights(turned, -signs.order)], 2)
            for m, (x, w, y) in enumerate(zip(_halves(pseudo, l_max), turned, out, strict=True)):
                w = w[m * pseudo.shape[2] :]
                y[0].addmm_(x[1], w, alpha=-1)
                y[1].addmm_(x[0], w)
        out = out.view(orders, 2, n_pairs, 2, width)
        out[:, 1, :, 1].neg_()
        back, first = traced.reversed_weights(axial, signs.axial), proper.flatten(1)[:, : len(axial)]
        scalars = proper.new_empty(2, n_pairs, axial.shape[1])
        torch.mm(first, axial, out=scalars[0])
        torch.mm(first, back, out=scalars[1])
        ctx.save_for_backward(proper, pseudo, axial, back, straight, turned)
        ctx.signs = signs
        return scalars.flatten(0, 1), out.permute(0, 3, 2, 1, 4).reshape(orders, 2 * n_pairs, 2, width)

    @staticmethod
    def backward(ctx, of_scalars: Tensor, of_doublets: Tensor):  # type: ignore[override]
        proper, pseudo, axial, back, straight, turned = ctx.saved_tensors
        signs, n_pairs, l_max = ctx.signs, len(proper), len(ctx.signs.axial) - 1
        orders, _, _, width = of_doublets.shape
        g = of_doublets.view(orders, 2, n_pairs, 2, width).permute(0, 3, 2, 1, 4).contiguous()
        g[:, 1, :, 1].neg_()
        g = g.flatten(3)
        first, (ahead, reverse) = proper.flatten(1)[:, : len(axial)], of_scalars.unflatten(0, (2, n_pairs))
        of_axial = (first.T @ ahead).add_(traced.reversed_weights(first.T @ reverse, signs.axial))
        of_natural, of_straight = torch.empty_like(proper), torch.zeros_like(straight)
        of_first = of_natural.flatten(1)[:, : len(axial)]
        torch.mm(ahead, axial.T, out=of_first)
        of_first.addmm_(reverse, back.T)
        parts = zip(_halves(proper, l_max), _halves(of_natural, l_max), straight, of_straight, g, strict=True)
        for m, (x, of_x, w, of_w, y) in enumerate(parts):
            w, of_w = w[m * proper.shape[2] :].T, of_w[m * proper.shape[2] :]
            torch.mm(y[0], w, out=of_x[0])
            torch.mm(y[1], w, out=of_x[1])
            torch.mm(x[0].T, y[0], out=of_w)
            of_w.addmm_(x[1].T, y[1])
        of_around = [_of_one_direction(of_straight, signs.order)]
        of_unnatural = None
        if pseudo is not None:
            of_unnatural, of_turned = torch.zeros_like(pseudo), torch.zeros_like(turned)
            parts = zip(_halves(pseudo, l_max), _halves(of_unnatural, l_max), turned, of_turned, g, strict=True)
            for m, (x, of_x, w, of_w, y) in enumerate(parts):
                w, of_w = w[m * pseudo.shape[2] :].T, of_w[m * pseudo.shape[2] :]
                of_x[1].addmm_(y[0], w, alpha=-1)
                torch.mm(y[1], w, out=of_x[0])
                torch.mm(x[0].T, y[1], out=of_w)
                of_w.addmm_(x[1].T, y[0], alpha=-1)
            of_around.append(_of_one_direction(of_turned, -signs.order))
        return of_natural, of_unnatural, of_axial, torch.cat(of_around, 1), None


def _of_one_direction(gradient: Tensor, signs: Tensor) -> Tensor:
    ahead, back = gradient.chunk(2, -1)
    return ahead + traced.reversed_weights(back, signs)


def messages(axial: Tensor, chiral: Tensor, so2: Tensor, around: Tensor) -> Tensor:
    """Features of edges as messages in their frames, (E, S, C + C'), natural before unnatural channels.

    axial (E, (l_max + 1) C) and chiral (E, (l_max + 1) C') at m = 0; doublets (M, E, 2, n) are mapped by `around`
    (M, n, l_max (C + C')), whose outputs are sorted by parity, degree and channel.
    """
    if is_compiling():
        return traced.messages(axial, chiral, so2, around)
    return _Write.apply(axial, chiral, so2, around)  # type: ignore[return-value]


def _by_degree(around: Tensor, proper: int, pseudo: int) -> Tensor:
    """Columns of both parities side by side for each degree: (M, n, l_max, C + C')."""
    l_max = len(around)
    return torch.cat([x.unflatten(2, (l_max, -1)) for x in around.split([l_max * proper, l_max * pseudo], 2)], 3)


def _places(y: Tensor, l_max: int, channels: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Views of a message's rows of every order: natural (E, 2, l_max + 1 - m, C), unnatural even and odd (E, .., C')."""
    out = []
    for rows in y.split([l_max + 1, *(2 * (l_max + 1 - m) for m in range(1, l_max + 1))], 1)[1:]:
        rows = rows.unflatten(1, (2, rows.shape[1] // 2))
        out.append((rows[..., :channels], *rows[..., channels:].unbind(1)))
    return out


class _Write(Function):
    """An unnatural doublet's even half comes from the odd row of its order and its odd half, negated, from the even row."""

    @staticmethod
    def forward(ctx, axial: Tensor, chiral: Tensor, so2: Tensor, around: Tensor) -> Tensor:
        l_max, n_edges = len(around), len(axial)
        proper, pseudo = (x.shape[1] // (l_max + 1) for x in (axial, chiral))
        weights = _by_degree(around, proper, pseudo)
        ctx.save_for_backward(so2, weights)
        ctx.channels = proper, pseudo
        y = axial.new_empty(n_edges, (l_max + 1) ** 2, proper + pseudo)
        y[:, : l_max + 1, :proper] = axial.unflatten(1, (l_max + 1, proper))
        y[:, : l_max + 1, proper:] = chiral.unflatten(1, (l_max + 1, pseudo))
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
        of_doublets, of_weights = torch.empty_like(so2), torch.zeros_like(weights)
        parts = zip(so2.flatten(1, 2), of_doublets.flatten(1, 2), weights, of_weights, strict=True)
        for m, ((x, of_x, w, of_w), (here, even, odd)) in enumerate(
            zip(parts, _places(gradient, l_max, proper), strict=True)
        ):
            g = gradient.new_empty(n_edges, 2, l_max - m, proper + pseudo)
            g[..., :proper] = here
            turned_even, turned_odd = g[..., proper:].unbind(1)
            turned_odd.copy_(even)
            torch.neg(odd, out=turned_even)
            g = g.view(2 * n_edges, (l_max - m) * (proper + pseudo))
            torch.mm(g, w[:, m:].flatten(1).T, out=of_x)
            torch.mm(x.T, g, out=of_w.flatten(1)[:, m * (proper + pseudo) :])
        first = gradient[:, : l_max + 1]
        of_around = torch.cat([x.flatten(2) for x in of_weights.split([proper, pseudo], 3)], 2)
        return first[..., :proper].flatten(1), first[..., proper:].flatten(1), of_doublets, of_around


def directed(seen: Tensor, signs: Signs, is_proper: bool) -> tuple[Tensor, Tensor]:
    """What both atoms look like (P, S, 2 C), from `gathered`, for each direction of a pair: m = 0 part (2 P, (l_max + 1) 2 C) and
    doublets (M, 2 P, 2, l_max 2 C), sorted by degree, then centre and neighbour; zero where l < m."""
    if is_compiling():
        return traced.directed(seen, signs.axial, signs_of_rows(signs, is_proper), is_proper)
    return _Direct.apply(seen, signs, is_proper)  # type: ignore[return-value]


def _rows(x: Tensor, l_max: int, m: int) -> Tensor:
    """A view of the rows of order m: (P, 2 halves, l_max + 1 - m, 2, C)."""
    start, stop = order_rows(l_max, m)
    return x[:, start:stop].unflatten(2, (2, -1)).unflatten(1, (2, -1))


def signs_of_rows(signs: Signs, is_proper: bool) -> Tensor:
    """For doublets (M, 2 directions, P, 2 halves, l_max, 2, C) made of the rows of a pair's frame."""
    one, back = torch.ones_like(signs.order), signs.order
    halves = [one, one, back, -back] if is_proper else [-one, one, back, back]
    return torch.stack(halves, 1).unflatten(1, (2, 2))[:, :, None, :, :, None, None]


class _Direct(Function):
    @staticmethod
    def forward(ctx, seen: Tensor, signs: Signs, is_proper: bool):
        (n_pairs, _, width), l_max = seen.shape, len(signs.axial) - 1
        ctx.signs, ctx.is_proper, ctx.shape = signs, is_proper, seen.shape
        first = seen[:, : l_max + 1].unflatten(2, (2, -1))
        back = first.flip(2) * signs.axial[:, None, None]
        out = seen.new_zeros(l_max, 2, n_pairs, 2, l_max, 2, width // 2)
        for m in range(1, l_max + 1):
            rows = _rows(seen, l_max, m)
            rows = rows if is_proper else rows.flip(1)
            out[m - 1, 0, :, :, m - 1 :] = rows
            out[m - 1, 1, :, :, m - 1 :] = rows.flip(3)
        out *= signs_of_rows(signs, is_proper)
        return torch.cat([first, back]).flatten(1), out.view(l_max, 2 * n_pairs, 2, l_max * width)

    @staticmethod
    def backward(ctx, of_axial: Tensor, of_doublets: Tensor):  # type: ignore[override]
        signs, l_max = ctx.signs, len(ctx.signs.axial) - 1
        out = of_axial.new_empty(ctx.shape)
        ahead, back = of_axial.view(2, len(out), l_max + 1, 2, ctx.shape[2] // 2)
        out[:, : l_max + 1] = (ahead + back.flip(2) * signs.axial[:, None, None]).flatten(2)
        g = of_doublets.view(l_max, 2, len(out), 2, l_max, 2, ctx.shape[2] // 2) * signs_of_rows(signs, ctx.is_proper)
        for m in range(1, l_max + 1):
            ahead, back = g[m - 1, :, :, :, m - 1 :]
            rows = ahead + back.flip(3)
            _rows(out, l_max, m).copy_(rows if ctx.is_proper else rows.flip(1))
        return out, None, None
