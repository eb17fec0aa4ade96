"""Stage 2: a graph Transformer whose non-linear maps know no symmetry, in the frames of the edges, correcting stage 1.

Atoms attend over their neighbourhoods: attention weights come from the invariants of stage 1's edge features and its
baseline coefficients, values are covariant messages. Each edge then gathers, in its own frame, what its two atoms have
attended to, its own features and stage 1's coefficients, and hands all components alike to plain perceptrons.

A frame has the edge as its axis; its turn about the edge, and its handedness, are free. In symmetry mode `learned` they are
drawn at random for every edge while training, which is the part of a random rotation of the sample that a frame does not
already undo, and a prediction averages over evenly spaced turns and both mirror images. `FreeMap` is the only place that
depends on this choice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harmose.batch import GraphBatch
from harmose.nn.encoder import AtomFeatures, DirectedEdges, EncoderSettings, Messages, of_both_atoms
from harmose.nn.heads import Heads
from harmose.nn.layers import Rescale, Standardize, perceptron
from harmose.nn.so2 import DoubletLinear, EdgeFeatures
from harmose.targets import Coefficients, TargetSpace


@dataclass(frozen=True)
class RefinerSettings:
    """Widths of stage 2. `turns` is how many azimuths a prediction averages over, each with its mirror image."""

    heads: int = 4
    channels: int = 16
    unnatural_channels: int = 8
    scalars: int = 64
    doublets: int = 32
    pseudoscalars: int = 8
    hidden: int = 256
    layers: int = 2
    turns: int = 4

    @property
    def messages(self) -> EncoderSettings:
        """The widths that the messages of stage 2 share with those of stage 1."""
        return EncoderSettings(
            self.channels, self.unnatural_channels, self.scalars, self.doublets, self.pseudoscalars, self.hidden
        )


class Refiner(nn.Module):
    """Stage-1 features and coefficients -> correction of the coefficients (normalised)."""

    def __init__(self, space: TargetSpace, settings: RefinerSettings, encoder: EncoderSettings) -> None:
        super().__init__()
        s, e, l_max, n_kinds = settings, encoder, space.l_max, len(space.elements) ** 2
        self.groups, self.l_max = space.groups, l_max
        self.coefficients = nn.ModuleList(CoefficientReader(space, g, s) for g in space.groups)
        self.attention = Attention(s, e, l_max, n_kinds)
        atoms = 2 * (s.channels + s.unnatural_channels)
        scalars = e.scalars + s.scalars + 2 * s.channels * (l_max + 1)
        pseudoscalars = e.pseudoscalars + s.pseudoscalars + 2 * s.unnatural_channels * (l_max + 1)
        doublets = e.doublets + s.doublets + l_max * atoms
        self.standardize = Standardize(n_kinds, scalars)
        self.rescale = Rescale(l_max, 1, 1, doublets)
        self.free = FreeMap(s, l_max, n_kinds, scalars, pseudoscalars, doublets)
        self.messages = Messages(s.messages, l_max)
        self.heads = Heads(space, s.channels, s.unnatural_channels, s.scalars, s.pseudoscalars, s.doublets, gain=0.0)

    def forward(
        self,
        batch: GraphBatch,
        edges: EdgeFeatures,
        graph: DirectedEdges,
        baseline: Coefficients,
        generator: torch.Generator | None = None,
    ) -> Coefficients:
        """Covariant features in, covariant correction out; `generator` draws the turns while training."""
        read = self._read(baseline)
        seen = EdgeFeatures(*(torch.cat(parts, -1) for parts in zip(edges, read, strict=True)))
        context = self.attention(seen, graph, batch.n_atoms)
        axial, around = of_both_atoms(context.natural, graph.natural, graph, self.l_max)
        chiral, mirrored = of_both_atoms(context.unnatural, graph.unnatural, graph, self.l_max)
        gathered = EdgeFeatures(
            self.standardize(torch.cat([seen.scalars, axial], 1), graph.kind),
            torch.cat([seen.pseudoscalars, chiral], 1),
            self.rescale(torch.cat([seen.doublets, around, mirrored], -1)),
        )
        refined = self.free(gathered, graph.kind, generator)
        atoms = self.messages(refined, graph, batch.n_atoms)
        return self.heads(atoms.natural, atoms.unnatural, refined, batch)

    def _read(self, baseline: Coefficients) -> EdgeFeatures:
        """Stage 1's coefficients of every directed edge as features: all pairs ahead, then all reversed."""
        parts = [reader(baseline.pairs[g]) for g, reader in zip(self.groups, self.coefficients, strict=True)]
        return _end_to_end([ahead for ahead, _ in parts] + [back for _, back in parts])


def _end_to_end(parts: list[EdgeFeatures]) -> EdgeFeatures:
    """Features of the edges of all parts, one part after the other."""
    scalars, pseudoscalars, doublets = zip(*parts, strict=True)
    return EdgeFeatures(torch.cat(scalars), torch.cat(pseudoscalars), torch.cat(doublets, 1))


class CoefficientReader(nn.Module):
    """Coefficients (P, S, K) of one group -> edge features of the pairs and of their reversals."""

    column: Tensor
    sign: Tensor

    def __init__(self, space: TargetSpace, group: tuple[int, int], settings: RefinerSettings) -> None:
        super().__init__()
        s, layout = settings, space.pair_layout(group)
        self.n_natural = layout.n_natural
        n_unnatural = layout.n_irreps - layout.n_natural
        self.natural = nn.ModuleList(nn.Linear(layout.n_natural, s.scalars) for _ in range(2))
        self.unnatural = nn.ModuleList(nn.Linear(n_unnatural, s.pseudoscalars, bias=False) for _ in range(2))
        self.around = nn.ModuleList(DoubletLinear(space.l_max, layout.n_irreps, s.doublets) for _ in range(2))
        column, sign = layout.reversal
        if group[0] == group[1]:
            self.natural[1], self.unnatural[1], self.around[1] = self.natural[0], self.unnatural[0], self.around[0]
        else:
            column = range(layout.n_irreps)
        self.register_buffer("column", torch.argsort(torch.as_tensor(list(column))), persistent=False)
        self.register_buffer("sign", torch.as_tensor(sign, dtype=torch.float32), persistent=False)

    def forward(self, coefficients: Tensor) -> tuple[EdgeFeatures, EdgeFeatures]:
        back = (coefficients * self.sign)[..., self.column]
        return self._features(coefficients, 0), self._features(back, 1)

    def _features(self, coefficients: Tensor, direction: int) -> EdgeFeatures:
        n_pairs, n_slots, width = coefficients.shape
        axial = coefficients[:, 0]
        around = coefficients[:, 1:].reshape(n_pairs, n_slots // 2, 2, width).transpose(0, 1)
        return EdgeFeatures(
            self.natural[direction](axial[:, : self.n_natural]),
            self.unnatural[direction](axial[:, self.n_natural :]),
            self.around[direction](around),
        )


class Attention(nn.Module):
    """Multi-head attention of atoms over their edges: invariant weights, covariant values.

    `context_i = sum_j a^h_ij v^h_ij`, `a^h_i. = softmax_j(w^h(invariants of i-j))`, smooth at the cutoff through the envelope.
    """

    head: Tensor

    def __init__(self, settings: RefinerSettings, encoder: EncoderSettings, l_max: int, n_kinds: int) -> None:
        super().__init__()
        s, e = settings, encoder
        n_scalars, n_doublets = e.scalars + s.scalars, e.doublets + s.doublets
        self.invariants = Standardize(n_kinds, n_scalars + l_max * n_doublets)
        self.rescale = Rescale(l_max, 1, 1, n_doublets)
        self.weights = perceptron(n_scalars + l_max * n_doublets, s.scalars, s.heads)
        widths = EncoderSettings(
            s.channels, s.unnatural_channels, n_scalars, n_doublets, e.pseudoscalars + s.pseudoscalars
        )
        self.values = Messages(widths, l_max)
        heads = torch.cat([torch.arange(s.channels) % s.heads, torch.arange(s.unnatural_channels) % s.heads])
        self.register_buffer("head", heads, persistent=False)

    def forward(self, edges: EdgeFeatures, graph: DirectedEdges, n_atoms: int) -> AtomFeatures:
        doublets = self.rescale(edges.doublets)
        around = torch.log1p(doublets.square().sum(2)).transpose(0, 1).flatten(1)
        logits = self.weights(self.invariants(torch.cat([edges.scalars, around], 1), graph.kind))
        # A shift common to an atom's edges leaves the softmax unchanged and keeps the exponentials finite.
        centre = graph.centre[:, None].expand_as(logits)
        top = logits.new_full((n_atoms, logits.shape[1]), -torch.inf).scatter_reduce(0, centre, logits.detach(), "amax")
        raw = torch.exp(logits - top.index_select(0, graph.centre)) * graph.envelope[:, :, 0] + 1e-30
        total = raw.new_zeros(n_atoms, raw.shape[1]).index_add(0, graph.centre, raw)
        share = raw / total.index_select(0, graph.centre)
        return self.values(edges._replace(doublets=doublets), graph, n_atoms, share[:, None, self.head])


class FreeMap(nn.Module):
    """Perceptrons on all components of an edge's features, in frames turned at random or averaged over turns.

    With turn `a` and mirror `p = +-1`: doublets `x_m -> e^{i m a} x_m`, then conjugated where p = -1, pseudoscalars times p;
    the output is turned back. Averaged over the whole of O(2) the map would be exactly equivariant.
    """

    order: Tensor

    def __init__(
        self, settings: RefinerSettings, l_max: int, n_kinds: int, scalars: int, pseudoscalars: int, doublets: int
    ) -> None:
        super().__init__()
        s, self.l_max, self.turns = settings, l_max, settings.turns
        self.compress = DoubletLinear(l_max, doublets, s.doublets)
        self.rescale = Rescale(l_max, 1, 1, s.doublets)
        self.chiral = Rescale(pseudoscalars)
        self.read = nn.Linear(scalars + pseudoscalars + 2 * l_max * s.doublets, s.hidden)
        self.kind = nn.Embedding(n_kinds, s.hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(s.hidden), nn.Linear(s.hidden, s.hidden), nn.SiLU(), nn.Linear(s.hidden, s.hidden)
            )
            for _ in range(s.layers)
        )
        self.sizes = [s.scalars, s.pseudoscalars, 2 * l_max * s.doublets]
        self.write = nn.Linear(s.hidden, sum(self.sizes))
        self.register_buffer("order", torch.arange(1, l_max + 1.0), persistent=False)

    def forward(self, edges: EdgeFeatures, kind: Tensor, generator: torch.Generator | None) -> EdgeFeatures:
        doublets = self.rescale(self.compress(edges.doublets))
        edges = EdgeFeatures(edges.scalars, self.chiral(edges.pseudoscalars), doublets)
        n, like = len(kind), edges.scalars
        if self.training:
            turn = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype) * 2 * torch.pi
            mirror = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype).round() * 2 - 1
            return self._turned(edges, kind, turn, mirror)
        images = 2 * self.turns
        turn = torch.arange(images, device=like.device, dtype=like.dtype) // 2 * (2 * torch.pi / self.turns)
        mirror = 1 - 2 * (torch.arange(images, device=like.device, dtype=like.dtype) % 2)
        many = EdgeFeatures(
            edges.scalars.repeat(images, 1), edges.pseudoscalars.repeat(images, 1), doublets.repeat(1, images, 1, 1)
        )
        turned = self._turned(many, kind.repeat(images), turn.repeat_interleave(n), mirror.repeat_interleave(n))
        return EdgeFeatures(
            turned.scalars.unflatten(0, (images, n)).mean(0),
            turned.pseudoscalars.unflatten(0, (images, n)).mean(0),
            turned.doublets.unflatten(1, (images, n)).mean(1),
        )

    def _turned(self, edges: EdgeFeatures, kind: Tensor, turn: Tensor, mirror: Tensor) -> EdgeFeatures:
        cos, sin = torch.cos(self.order[:, None] * turn)[..., None], torch.sin(self.order[:, None] * turn)[..., None]
        even, odd, flip = edges.doublets[:, :, 0], edges.doublets[:, :, 1], mirror[:, None]
        there = torch.stack([cos * even - sin * odd, (sin * even + cos * odd) * flip], 2)
        flat = there.transpose(0, 1).flatten(1)
        x = self.read(torch.cat([edges.scalars, edges.pseudoscalars * flip, flat], 1)) + self.kind(kind)
        x = nn.functional.silu(x)
        for layer in self.layers:
            x = x + layer(x)
        scalars, pseudoscalars, flat = self.write(x).split(self.sizes, 1)
        back = flat.unflatten(1, (self.l_max, 2, -1)).transpose(0, 1)
        even, odd = back[:, :, 0], back[:, :, 1] * flip
        return EdgeFeatures(
            scalars, pseudoscalars * flip, torch.stack([cos * even + sin * odd, cos * odd - sin * even], 2)
        )
