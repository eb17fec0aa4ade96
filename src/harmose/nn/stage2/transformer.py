"""Stage 2 of HarmoSE (arXiv:2401.00744): a graph Transformer with covariant, non-linear maps, which predicts dH.

It reads stage 1's edge features and its baseline H1. In each attention round an atom attends over its edges (attention
weights from invariants, covariant values); then each edge collects, in its own frame, what both of its atoms have
gathered, and passes all components to a plain perceptron; then the atoms sum messages from their edges.

The frame of an edge is fixed but for its turn about the edge and its handedness. The map of the settings' symmetry
mode makes the perceptron covariant under both: `EquivariantMap` exactly, `FrameAveragedMap` as far as learned, as in
the paper.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from harmose.nn.ops.coefficient_reader import CoefficientReader
from harmose.nn.ops.features import (
    AtomFeatures,
    EdgeFeatures,
    EdgeWidths,
    add_features,
    concatenate_channels,
    concatenate_edges,
)
from harmose.nn.ops.layers import Rescale, Standardize
from harmose.nn.ops.message_passing import MessagePassingLayer, apply_layers
from harmose.nn.ops.messages import DirectedEdges, Messages, both_atoms_in_frames
from harmose.nn.ops.so2 import so2_log_norms
from harmose.nn.stage1.baseline import Stage1Output
from harmose.nn.stage1.heads import Heads
from harmose.nn.stage2.attention import Attention, PlainSum
from harmose.nn.stage2.equivariant_map import EquivariantMap
from harmose.nn.stage2.frame_map import FrameAveragedMap
from harmose.nn.stage2.output_scale import OutputScale
from harmose.nn.stage2.settings import Stage2Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients

__all__ = ["Stage2", "Stage2Settings"]

MAPS = {"exact": EquivariantMap, "learned": FrameAveragedMap}
"""Maps of edge features by symmetry mode."""


class AttentionRound(nn.Module):
    """Atoms attend over their edges, edges are refined by a non-linear map, and atoms sum messages from them.

    A residual round adds its results to the features that it receives; the first round replaces them.
    """

    def __init__(
        self, settings: Stage2Settings, edges: EdgeWidths, l_max: int, n_pair_types: int, residual: bool
    ) -> None:
        """`edges`: widths of the edge features that the round receives."""
        super().__init__()
        s, self.residual = settings, residual
        self.attention = (Attention if s.attention else PlainSum)(s, edges, l_max, n_pair_types)
        scalars = edges.scalars + 2 * s.channels * (l_max + 1)
        pseudoscalars = edges.pseudoscalars + 2 * s.pseudo_channels * (l_max + 1)
        so2 = edges.so2 + l_max * 2 * (s.channels + s.pseudo_channels)
        self.standardize = Standardize(n_pair_types, scalars)
        self.rescale = Rescale(l_max, 1, 1, so2)
        self.map = MAPS[s.symmetry](s, l_max, n_pair_types, EdgeWidths(scalars, pseudoscalars, so2))
        self.messages = Messages(s.channels, s.pseudo_channels, s.edges, l_max)

    def layers(self, generator: torch.Generator | None) -> list[MessagePassingLayer]:
        """The round as two layers: attention, then refinement of the edges."""
        refine = partial(self._refine, generator)
        return [MessagePassingLayer(self._attend, self._context), MessagePassingLayer(refine, self._receive)]

    def _attend(self, graph: DirectedEdges, atoms: AtomFeatures | None, edges: EdgeFeatures):
        return edges, self.attention.sums(edges, graph)

    def _context(self, atoms: AtomFeatures, *sums: Tensor) -> AtomFeatures:
        context = self.attention.to_atoms(*sums)
        return add_features(atoms, context) if self.residual else context

    def _refine(
        self, generator: torch.Generator | None, graph: DirectedEdges, context: AtomFeatures, edges: EdgeFeatures
    ):
        m0, so2 = both_atoms_in_frames(context.proper, graph, True)
        pseudo_m0, pseudo_so2 = both_atoms_in_frames(context.pseudo, graph, False)
        gathered = EdgeFeatures(
            self.standardize(torch.cat([edges.scalars, m0], 1), graph.pair_type),
            torch.cat([edges.pseudoscalars, pseudo_m0], 1),
            self.rescale(torch.cat([edges.so2, so2, pseudo_so2], -1)),
        )
        refined = self.map(gathered, graph.pair_type, generator)
        refined = add_features(edges, refined) if self.residual else refined
        return refined, (self.messages.sums(refined, graph),)

    def _receive(self, context: AtomFeatures, sums: Tensor) -> AtomFeatures:
        received = self.messages.to_atoms(sums)
        return add_features(context, received) if self.residual else received


class Stage2(nn.Module):
    """Features and baseline H1 of stage 1 -> correction dH, as normalized coefficients; zero before training."""

    def __init__(self, space: BlockIrreps, settings: Stage2Settings, stage1: EdgeWidths) -> None:
        """`stage1`: widths of stage 1's edge features."""
        super().__init__()
        s, self.groups, self.settings = settings, space.groups, settings
        self.h1_readers = nn.ModuleList(CoefficientReader(space, g, s.edges) for g in space.groups if s.baseline)
        widths = [_input_widths(s, stage1, space.l_max), *[s.edges] * (s.attention_rounds - 1)]
        self.rounds = nn.ModuleList(
            AttentionRound(s, edges, space.l_max, len(space.elements) ** 2, residual=k > 0)
            for k, edges in enumerate(widths)
        )
        self.heads = Heads(space, s.channels, s.pseudo_channels, s.edges, gain=0.0)
        self.output_scale = OutputScale(space)

    def forward(self, batch: GraphBatch, first: Stage1Output, generator: torch.Generator | None = None) -> Coefficients:
        """`generator` draws the turns of the frames in training, in the mode `learned`."""
        edges = self.edge_inputs(first.edges, first.h1.pairs)
        atoms, edges = apply_layers(self.layers(generator), first.graph, None, edges)
        return Coefficients(self.pair_corrections(edges, batch), self.onsite_corrections(atoms, batch))

    def edge_inputs(self, edges: EdgeFeatures, h1: Mapping[tuple[int, int], Tensor]) -> EdgeFeatures:
        """Inputs of stage 2: edge features of stage 1 and H1 of the pairs, as far as the settings allow."""
        if self.settings.baseline:
            edges = concatenate_channels([edges, self._read(h1)])
        if self.settings.covariant:
            return edges
        invariants = [edges.scalars, edges.pseudoscalars.square(), so2_log_norms(edges.so2)]
        return EdgeFeatures(
            torch.cat(invariants, 1), torch.zeros_like(edges.pseudoscalars), torch.zeros_like(edges.so2)
        )

    def layers(self, generator: torch.Generator | None = None) -> list[MessagePassingLayer]:
        """Layers of all attention rounds; the first one receives `edge_inputs`."""
        return [layer for each in self.rounds for layer in each.layers(generator)]  # type: ignore[operator]

    def pair_corrections(self, edges: EdgeFeatures, batch: GraphBatch) -> dict[tuple[int, int], Tensor]:
        """Corrections of the pairs of each group, from the edge features after all `layers`."""
        return self.output_scale(Coefficients(self.heads.pair_coefficients(edges, batch), {})).pairs

    def onsite_corrections(self, atoms: AtomFeatures, batch: GraphBatch) -> dict[int, Tensor]:
        """Corrections of the atoms of each shell type, from the atom features after all `layers`."""
        return self.output_scale(Coefficients({}, self.heads.onsite_coefficients(atoms, batch))).onsite

    @property
    def is_untrained(self) -> bool:
        """True before training: all corrections are zero."""
        return not any(bool(parameter.any()) for parameter in self.heads.parameters())

    def _read(self, h1: Mapping[tuple[int, int], Tensor]) -> EdgeFeatures:
        """H1 as features of every directed edge: all pairs, then all reversed pairs."""
        parts = [reader(h1[g]) for g, reader in zip(self.groups, self.h1_readers, strict=True)]
        return concatenate_edges([ahead for ahead, _ in parts] + [back for _, back in parts])


def _input_widths(settings: Stage2Settings, stage1: EdgeWidths, l_max: int) -> EdgeWidths:
    """Widths of `Stage2.edge_inputs`."""
    scalars, pseudoscalars, so2 = stage1
    if settings.baseline:
        scalars, pseudoscalars, so2 = (a + b for a, b in zip(stage1, settings.edges, strict=True))
    if not settings.covariant:
        scalars += pseudoscalars + l_max * so2
    return EdgeWidths(scalars, pseudoscalars, so2)
