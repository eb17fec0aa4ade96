"""Encoder of stage 1: a strictly O(3)-equivariant message-passing network whose messages are computed in edge frames.

Each layer rotates the features of both atoms of an edge into the edge's frame, mixes them there with the edge's own
features by the linear maps that O(2) allows (SO(2) convolution: eSCN, Passaro and Zitnick, arXiv:2302.03655), gates
the result by a function of its invariants, and sends it back to the atoms.
"""

from functools import partial

import torch
from torch import Tensor, nn

from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, add_features
from harmose.nn.ops.frames import (
    ReversalSigns,
    gather_in_frames,
    m0_signs,
    pair_frames,
    so2_convolution,
    so2_signs,
    sum_over_edges,
)
from harmose.nn.ops.invariants import scaled_with_invariants
from harmose.nn.ops.layers import (
    Calibrated,
    IrrepsLinear,
    RadialFeatures,
    Rescale,
    Standardize,
    cutoff_envelope,
    select_by_type,
)
from harmose.nn.ops.message_passing import MessagePassingLayer, apply_layers
from harmose.nn.ops.messages import DirectedEdges, Messages
from harmose.nn.ops.saturation import Bounded
from harmose.nn.ops.so2 import SO2Linear, so2_log_norms
from harmose.nn.stage1.settings import Stage1Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.layout import reversal_signs


class EdgeUpdate(Calibrated, Bounded):
    """New edge features from an edge's own features and those of both atoms.

    In the first layer atoms have no pseudo irreps yet, and edges scalars alone.
    """

    def __init__(self, settings: Stage1Settings, n_pair_types: int, l_max: int, first: bool) -> None:
        super().__init__()
        s, self.l_max, self.first = settings, l_max, first
        n_so2 = l_max * s.so2_channels
        channels = 2 * (s.channels if first else s.channels + s.pseudo_channels)
        self.n_m0, self.n_rows = 2 * s.channels * (l_max + 1), l_max * channels
        self.scalars = nn.Linear(s.scalars + self.n_m0, s.scalars)
        self.so2 = SO2Linear(l_max, self.n_rows + (0 if first else s.so2_channels), s.so2_channels)
        self.rescale = Rescale(l_max, 1, 1, s.so2_channels)
        self.standardize = Standardize(n_pair_types, s.scalars + n_so2)
        self.pair_type = nn.Embedding(n_pair_types, s.hidden)
        self.gate_in = nn.Linear(s.scalars + n_so2, s.hidden)
        self.gate_out = nn.Linear(s.hidden, s.scalars + n_so2 + s.pseudoscalars)
        self.out = SO2Linear(l_max, s.so2_channels, s.so2_channels + 2 * s.pseudoscalars)
        self.cross = nn.Linear(l_max * s.pseudoscalars, s.pseudoscalars, bias=False)
        self.sizes = [s.scalars, n_so2, s.pseudoscalars]

    def forward(
        self, atoms: AtomFeatures, edges: EdgeFeatures, factors: tuple[Tensor, Tensor], graph: DirectedEdges
    ) -> EdgeFeatures:
        """`factors`: functions of the distance that multiply scalars (E, n0) and SO(2) features (M, E, 1, n)."""
        scalars, so2 = self._convolve(atoms, edges, factors[0], graph)
        mean, scale = select_by_type(self.standardize.mean, graph.pair_type), self.standardize.scale
        so2, invariants = scaled_with_invariants(
            so2, factors[1] * self.rescale.scale, scalars, mean, scale, self.bounded
        )
        orders, n_edges, _, width = so2.shape
        hidden = nn.functional.silu(self.gate_in(invariants) + select_by_type(self.pair_type.weight, graph.pair_type))
        update, gate, pseudo_gate = self.gate_out(hidden).split(self.sizes, 1)
        gated = self.out(so2 * gate.view(n_edges, orders, 1, width).transpose(0, 1))
        change, left, right = gated.split([width, self.sizes[2], self.sizes[2]], -1)
        # The cross product of two SO(2) features of one order is a pseudoscalar.
        cross = left[:, :, 0] * right[:, :, 1] - left[:, :, 1] * right[:, :, 0]
        pseudoscalars = self.cross(cross.transpose(0, 1).flatten(1)) * pseudo_gate
        if self.first:
            return EdgeFeatures(edges.scalars + update, pseudoscalars, change)
        return add_features(edges, EdgeFeatures(update, pseudoscalars, change))

    def fit(
        self, atoms: AtomFeatures, edges: EdgeFeatures, factors: tuple[Tensor, Tensor], graph: DirectedEdges
    ) -> None:
        scalars, so2 = self._convolve(atoms, edges, factors[0], graph)
        so2 = so2 * factors[1]
        self.rescale.fit(so2)
        invariants = torch.cat([scalars, so2_log_norms(so2 * self.rescale.scale)], 1)
        self.standardize.fit(invariants, graph.pair_type)

    def _convolve(
        self, atoms: AtomFeatures, edges: EdgeFeatures, factors: Tensor, graph: DirectedEdges
    ) -> tuple[Tensor, Tensor]:
        """Linear maps of all features in the edge's frame: scalars (E, n0), SO(2) features (M, E, 2, n)."""
        proper = gather_in_frames(atoms.proper, graph.frames)
        pseudo = None if self.first else gather_in_frames(atoms.pseudo, graph.frames)
        n, rows, weight = self.n_m0, self.n_rows, self.so2.weight
        m0, so2 = so2_convolution(proper, pseudo, self.scalars.weight[:, :n].T, weight[:, :rows], graph.signs)
        if not self.first:
            so2 = torch.baddbmm(so2.flatten(1, 2), edges.so2.flatten(1, 2), weight[:, rows:]).view(so2.shape)
        own = nn.functional.linear(edges.scalars, self.scalars.weight[:, n:], self.scalars.bias)
        return (m0 + own) * factors, so2


class Encoder(nn.Module):
    """Graphs -> irreps of the atoms, and features of both directions of every pair."""

    row_signs: Tensor
    so2_signs: Tensor
    m0_signs: Tensor

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
        self.edge_updates = nn.ModuleList(
            EdgeUpdate(s, n_species**2, l_max, first=k == 0 and not inputs) for k in range(s.layers)
        )
        self.messages = nn.ModuleList(Messages(s.channels, s.pseudo_channels, s.edges, l_max) for _ in range(s.layers))
        self.mix = nn.ModuleList(IrrepsLinear(l_max, s.channels, s.channels) for _ in range(s.layers - 1))
        row_signs = torch.as_tensor(reversal_signs(l_max), dtype=torch.float32)[:, None]
        self.register_buffer("row_signs", row_signs, persistent=False)
        self.register_buffer("so2_signs", so2_signs(l_max), persistent=False)
        self.register_buffer("m0_signs", m0_signs(l_max), persistent=False)

    def forward(
        self, batch: GraphBatch, inputs: tuple[AtomFeatures, EdgeFeatures] | None = None
    ) -> tuple[AtomFeatures, EdgeFeatures, DirectedEdges]:
        """`inputs`: features of operators of the structure (`stage1.inputs`), if the encoder was built for them."""
        graph = self.directed_edges(batch)
        atoms, edges = apply_layers(self.layers(inputs), graph, None, None)
        return atoms, edges, graph

    def layers(self, inputs: tuple[AtomFeatures, EdgeFeatures] | None = None) -> list[MessagePassingLayer]:
        """The density of the neighbours, then one layer for each edge update; the first layer takes no features."""
        atoms, edges = (None, None) if inputs is None else inputs
        first = MessagePassingLayer(partial(self._embed, edges), partial(self._add_density, atoms))
        updates = [
            (partial(self._update_edges, k), partial(self._update_atoms, k)) for k in range(self.settings.layers)
        ]
        return [first, *(MessagePassingLayer(*functions) for functions in updates)]

    def _embed(self, read: EdgeFeatures | None, graph: DirectedEdges, atoms: None, edges: None):
        """First features of the edges, and the density sum_j R_l(r_ij) Y_l(r_ij) (N, (l_max+1)^2, C)."""
        scalars = graph.scalars
        radial = self.density(scalars).view(len(scalars), self.l_max + 1, self.settings.channels)
        sums = sum_over_edges(radial, graph.frames)
        if read is None:
            return EdgeFeatures(scalars, scalars[:, :0], scalars.new_zeros(0)), (sums,)
        return read._replace(scalars=scalars + read.scalars), (sums,)

    def _add_density(self, read: AtomFeatures | None, atoms: None, density: Tensor) -> AtomFeatures:
        density = self.rescale(density)
        if read is None:
            return AtomFeatures(density, density[:0])
        return read._replace(proper=density + read.proper)

    def _update_edges(self, k: int, graph: DirectedEdges, atoms: AtomFeatures, edges: EdgeFeatures):
        edges = self.edge_updates[k](atoms, edges, self._radial_factors(k, graph), graph)
        return edges, (self.messages[k].sums(edges, graph),)  # type: ignore[operator]

    def _update_atoms(self, k: int, atoms: AtomFeatures, sums: Tensor) -> AtomFeatures:
        change = self.messages[k].to_atoms(sums)  # type: ignore[operator]
        pseudo = atoms.pseudo if len(atoms.pseudo) else torch.zeros_like(change.pseudo)
        proper = self.mix[k](atoms.proper) if k < len(self.mix) else atoms.proper
        return add_features(AtomFeatures(proper, pseudo), change)

    def directed_edges(self, batch: GraphBatch) -> DirectedEdges:
        """Return both directions of every pair of a batch."""
        centre, neighbour = torch.cat([batch.first, batch.second]), torch.cat([batch.second, batch.first])
        pair_type = batch.species[centre] * self.n_species + batch.species[neighbour]
        envelope = cutoff_envelope(batch.distance, batch.reach)[:, None, None]
        distance = self.embed(self.features(batch.distance)).repeat(2, 1)
        return DirectedEdges(
            centre,
            neighbour,
            pair_frames(batch.rotation, self.row_signs, envelope, batch.first, batch.second, batch.n_atoms),
            ReversalSigns(self.so2_signs, self.m0_signs),
            envelope.repeat(2, 1, 1),
            pair_type,
            self.mix_pair(nn.functional.silu(distance + self.species(pair_type))),
            batch.n_atoms,
        )

    def _radial_factors(self, k: int, graph: DirectedEdges) -> tuple[Tensor, Tensor]:
        """Functions of the distance that multiply scalars (E, n0) and SO(2) features (M, E, 1, n) in edge update k."""
        s = self.settings
        part = slice(k * (width := s.scalars + self.l_max * s.so2_channels), (k + 1) * width)
        hidden = nn.functional.silu(graph.scalars)
        factors = 1 + nn.functional.linear(hidden, self.radial.weight[part], self.radial.bias[part])
        so2 = factors[:, s.scalars :].view(-1, self.l_max, 1, s.so2_channels).transpose(0, 1)
        return factors[:, : s.scalars], so2
