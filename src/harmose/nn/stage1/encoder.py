"""Stage 1's encoder: messages between atoms in edge frames, strictly O(3)-equivariant, in rounds (`rounds`).

Each block brings the features of both atoms into the frame of their edge, mixes them there with the edge's own features
(linear, then a gate that sees every invariant of the frame), and sends the result back to the first atom.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harmose.nn.ops.frames import (
    PairFrames,
    Signs,
    axial_signs,
    directed,
    gathered,
    messages,
    mixed,
    order_signs,
    pair_frames,
    summed,
)
from harmose.nn.ops.invariants import scaled_with_invariants
from harmose.nn.ops.layers import IrrepsLinear, RadialFeatures, Rescale, Standardize, cutoff_envelope, of_kind
from harmose.nn.ops.message_passing import Round, run
from harmose.nn.ops.so2 import EdgeFeatures, SO2Linear, so2_log_norms
from harmose.representation.batch import GraphBatch
from harmose.representation.layout import reversal_signs


@dataclass(frozen=True)
class Stage1Settings:
    """Widths of stage 1: irreps channels of an atom, and scalars, doublets, pseudoscalars, hidden width of an edge."""

    channels: int = 16
    pseudo_channels: int = 8
    scalars: int = 64
    so2_channels: int = 32
    pseudoscalars: int = 8
    hidden: int = 64
    radial: int = 32
    layers: int = 2


class DirectedEdges(NamedTuple):
    """Both directions of every pair, the pairs first and then their reversals: centre, neighbour (E,), frames, envelope,
    kind, and the scalars (E, n0) that an edge knows from its two elements and its length.
    """

    centre: Tensor
    neighbour: Tensor
    frames: PairFrames
    signs: Signs
    envelope: Tensor
    kind: Tensor
    scalars: Tensor
    n_atoms: int


class AtomFeatures(NamedTuple):
    """Irreps of the atoms: natural (N, (l_max+1)^2, C), unnatural (N, (l_max+1)^2, C')."""

    proper: Tensor
    pseudo: Tensor


class EdgeBlock(nn.Module):
    """Atoms and edge features in, updated edge features out. The first block meets no unnatural or doublet features yet."""

    def __init__(self, settings: Stage1Settings, n_kinds: int, l_max: int, first: bool) -> None:
        super().__init__()
        s, self.l_max, self.first = settings, l_max, first
        n_so2 = l_max * s.so2_channels
        channels = 2 * (s.channels if first else s.channels + s.pseudo_channels)
        self.scalars = nn.Linear(s.scalars + 2 * s.channels * (l_max + 1), s.scalars)
        self.around = SO2Linear(l_max, l_max * channels + (0 if first else s.so2_channels), s.so2_channels)
        self.rescale = Rescale(l_max, 1, 1, s.so2_channels)
        self.standardize = Standardize(n_kinds, s.scalars + n_so2)
        self.kind = nn.Embedding(n_kinds, s.hidden)
        self.gate_in = nn.Linear(s.scalars + n_so2, s.hidden)
        self.gate_out = nn.Linear(s.hidden, s.scalars + n_so2 + s.pseudoscalars)
        self.out = SO2Linear(l_max, s.so2_channels, s.so2_channels + 2 * s.pseudoscalars)
        self.cross = nn.Linear(l_max * s.pseudoscalars, s.pseudoscalars, bias=False)
        self.sizes = [s.scalars, n_so2, s.pseudoscalars]
        self.n_axial, self.n_around = 2 * s.channels * (l_max + 1), l_max * channels

    def forward(self, atoms: AtomFeatures, edges: EdgeFeatures, radial: tuple[Tensor, Tensor], graph: DirectedEdges):
        seen, n = [gathered(x, graph.frames) for x in (atoms if not self.first else atoms[:1])], self.n_axial
        pseudo = None if self.first else seen[1]
        weight, rows = self.around.weight, self.n_around
        axial, around = mixed(seen[0], pseudo, self.scalars.weight[:, :n].T, weight[:, :rows], graph.signs)
        if not self.first:
            own = edges.so2.flatten(1, 2)
            around = torch.baddbmm(around.flatten(1, 2), own, weight[:, rows:]).view(around.shape)
        own = nn.functional.linear(edges.scalars, self.scalars.weight[:, n:], self.scalars.bias)
        scalars = (axial + own) * radial[0]
        if self.rescale.calibrating:  # they take their statistics from what they meet
            seen = self.rescale(around * radial[1])
            self.standardize(torch.cat([scalars, so2_log_norms(seen)], 1), graph.kind)
        factors = radial[1] * self.rescale.scale
        mean, scale = of_kind(self.standardize.mean, graph.kind), self.standardize.scale
        so2, invariants = scaled_with_invariants(around, factors, scalars, mean, scale)
        orders, n_edges, _, width = so2.shape
        hidden = nn.functional.silu(self.gate_in(invariants) + of_kind(self.kind.weight, graph.kind))
        update, turn, chiral = self.gate_out(hidden).split(self.sizes, 1)
        gated = self.out(so2 * turn.view(n_edges, orders, 1, width).transpose(0, 1))
        change, left, right = gated.split([width, self.sizes[2], self.sizes[2]], -1)
        cross = left[:, :, 0] * right[:, :, 1] - left[:, :, 1] * right[:, :, 0]
        pseudoscalars = self.cross(cross.transpose(0, 1).flatten(1)) * chiral
        if self.first:
            return EdgeFeatures(edges.scalars + update, pseudoscalars, change)
        return EdgeFeatures(edges.scalars + update, edges.pseudoscalars + pseudoscalars, edges.so2 + change)


def of_both_atoms(features: Tensor, graph: DirectedEdges, is_proper: bool) -> tuple[Tensor, Tensor]:
    """Features of the centre and the neighbour of every edge, side by side, in the edge's frame: m = 0 part (E, (l_max+1) 2 C),
    doublets (M, E, 2, l_max 2 C)."""
    return directed(gathered(features, graph.frames), graph.signs, is_proper)


class Messages(nn.Module):
    """Edge features -> irreps of the centre atoms, natural and unnatural, summed over neighbours."""

    def __init__(self, settings: Stage1Settings, l_max: int) -> None:
        super().__init__()
        s, self.l_max = settings, l_max
        self.axial = nn.Linear(s.scalars, (l_max + 1) * s.channels)
        self.chiral = nn.Linear(s.pseudoscalars, (l_max + 1) * s.pseudo_channels, bias=False)
        self.around = SO2Linear(l_max, s.so2_channels, l_max * (s.channels + s.pseudo_channels))
        self.sizes = [l_max * s.channels, l_max * s.pseudo_channels]
        self.channels = [s.channels, s.pseudo_channels]
        self.rescale = Rescale(s.channels + s.pseudo_channels)

    def sums(self, edges: EdgeFeatures, graph: DirectedEdges, weights: Tensor | None = None) -> Tensor:
        """(N, (l_max+1)^2, C + C'); `weights` (E, 1, C + C') replace the envelope: attention has it inside."""
        y = messages(self.axial(edges.scalars), self.chiral(edges.pseudoscalars), edges.so2, self.around.weight)
        if weights is None:
            return summed(y, graph.frames)
        return summed(y * weights, graph.frames.unweighted())

    def received(self, sums: Tensor) -> AtomFeatures:
        """What the atoms make of the sums over all their neighbours."""
        return AtomFeatures(*self.rescale(sums).split(self.channels, -1))


class Encoder(nn.Module):
    """Structure -> irreps of atoms, and edge features of both directions of every pair."""

    reversal: Tensor
    order_signs: Tensor
    axial_signs: Tensor

    def __init__(self, settings: Stage1Settings, n_species: int, l_max: int, inputs: bool = False) -> None:
        super().__init__()
        s, self.l_max, self.n_species, self.settings = settings, l_max, n_species, settings
        self.features = RadialFeatures(s.radial)
        self.species = nn.Embedding(n_species * n_species, s.scalars)
        self.embed = nn.Linear(s.radial, s.scalars)
        self.mix_pair = nn.Linear(s.scalars, s.scalars)
        self.density = nn.Linear(s.scalars, (l_max + 1) * s.channels)
        self.rescale = Rescale(s.channels)
        self.radial = nn.Linear(s.scalars, s.layers * (s.scalars + l_max * s.so2_channels))
        self.blocks = nn.ModuleList(
            EdgeBlock(s, n_species**2, l_max, first=k == 0 and not inputs) for k in range(s.layers)
        )
        self.messages = nn.ModuleList(Messages(s, l_max) for _ in range(s.layers))
        self.mix = nn.ModuleList(IrrepsLinear(l_max, s.channels, s.channels) for _ in range(s.layers - 1))
        reversal = torch.as_tensor(reversal_signs(l_max), dtype=torch.float32)[:, None]
        self.register_buffer("reversal", reversal, persistent=False)
        self.register_buffer("order_signs", order_signs(l_max), persistent=False)
        self.register_buffer("axial_signs", axial_signs(l_max), persistent=False)

    def forward(
        self, batch: GraphBatch, inputs: tuple[AtomFeatures, EdgeFeatures] | None = None
    ) -> tuple[AtomFeatures, EdgeFeatures, DirectedEdges]:
        """`inputs`: features that are known from the start, for an encoder made for them (`nn.inputs`)."""
        graph = self.directed(batch)
        atoms, edges = run(self.rounds(inputs), graph, None, None)
        return atoms, edges, graph

    def rounds(self, inputs: tuple[AtomFeatures, EdgeFeatures] | None = None) -> list[Round]:
        """The density of the neighbours, then one round for each block; atoms and edges begin with nothing."""
        known, read = (None, None) if inputs is None else inputs
        first = Round(partial(self._begin, read), partial(self._surrounded, known))
        blocks = [Round(partial(self._block, k), partial(self._received, k)) for k in range(len(self.blocks))]
        return [first, *blocks]

    def _begin(self, read: EdgeFeatures | None, graph: DirectedEdges, atoms: None, edges: None):
        """The edges' first features, and sum_j R_l(r_ij) Y_l(r_ij) (N, (l_max+1)^2, C)."""
        scalars = graph.scalars
        axial = self.density(scalars).view(len(scalars), self.l_max + 1, self.settings.channels)
        sums = summed(axial, graph.frames)
        if read is None:
            return EdgeFeatures(scalars, scalars[:, :0], scalars.new_zeros(0)), (sums,)
        return read._replace(scalars=scalars + read.scalars), (sums,)

    def _surrounded(self, known: AtomFeatures | None, atoms: None, density: Tensor) -> AtomFeatures:
        density = self.rescale(density)
        if known is None:
            return AtomFeatures(density, density[:0])
        return known._replace(proper=density + known.proper)

    def _block(self, k: int, graph: DirectedEdges, atoms: AtomFeatures, edges: EdgeFeatures):
        edges = self.blocks[k](atoms, edges, self._factors(k, graph), graph)
        return edges, (self.messages[k].sums(edges, graph),)  # type: ignore[operator]

    def _received(self, k: int, atoms: AtomFeatures, sums: Tensor) -> AtomFeatures:
        sent = self.messages[k].received(sums)  # type: ignore[operator]
        pseudo = atoms.pseudo if len(atoms.pseudo) else torch.zeros_like(sent.pseudo)
        proper = self.mix[k](atoms.proper) if k < len(self.mix) else atoms.proper
        return AtomFeatures(proper + sent.proper, pseudo + sent.pseudo)

    def directed(self, batch: GraphBatch) -> DirectedEdges:
        centre, neighbour = torch.cat([batch.first, batch.second]), torch.cat([batch.second, batch.first])
        kind = batch.species[centre] * self.n_species + batch.species[neighbour]
        envelope = cutoff_envelope(batch.distance, batch.reach)[:, None, None]
        length = self.embed(self.features(batch.distance)).repeat(2, 1)
        return DirectedEdges(
            centre,
            neighbour,
            pair_frames(batch.rotation, self.reversal, envelope, batch.first, batch.second, batch.n_atoms),
            Signs(self.order_signs, self.axial_signs),
            envelope.repeat(2, 1, 1),
            kind,
            self.mix_pair(nn.functional.silu(length + self.species(kind))),
            batch.n_atoms,
        )

    def _factors(self, k: int, graph: DirectedEdges) -> tuple[Tensor, Tensor]:
        """What the length of an edge multiplies its scalars (E, n0) and doublets (M, E, 1, n) with in block k."""
        s = self.settings
        part = slice(k * (width := s.scalars + self.l_max * s.so2_channels), (k + 1) * width)
        seen = nn.functional.silu(graph.scalars)
        factors = 1 + nn.functional.linear(seen, self.radial.weight[part], self.radial.bias[part])
        turn = factors[:, s.scalars :].view(-1, self.l_max, 1, s.so2_channels).transpose(0, 1)
        return factors[:, : s.scalars], turn
