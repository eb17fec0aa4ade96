"""Stage 2: a graph Transformer whose non-linear maps know no symmetry, in the frames of the edges, correcting stage 1.

Atoms attend over their neighbourhoods: attention weights come from the invariants of stage 1's edge features and its
baseline coefficients, values are covariant messages. Each edge then gathers, in its own frame, what its two atoms have
attended to, its own features and stage 1's coefficients, and hands all components alike to plain perceptrons.

A frame has the edge as its axis; its turn about the edge, and its handedness, are free. How the perceptrons deal with
that freedom is the symmetry mode: `exact_map.EquivariantMap` or `free_map.FrameAveragedMap`.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from harmose.nn.ops.coefficient_reader import CoefficientReader, end_to_end
from harmose.nn.ops.layers import Rescale, Standardize
from harmose.nn.ops.message_passing import Round, run
from harmose.nn.ops.so2 import EdgeFeatures, so2_log_norms
from harmose.nn.stage1.baseline import Stage1Output
from harmose.nn.stage1.encoder import AtomFeatures, DirectedEdges, Messages, Stage1Settings, of_both_atoms
from harmose.nn.stage1.heads import Heads
from harmose.nn.stage2.attention import Attention
from harmose.nn.stage2.equivariant_map import EquivariantMap
from harmose.nn.stage2.frame_map import FrameAveragedMap
from harmose.nn.stage2.output_scale import Sizes
from harmose.nn.stage2.settings import Stage2Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients

__all__ = ["Stage2", "Stage2Settings"]


class Stage2(nn.Module):
    """Stage-1 features and coefficients -> correction of the coefficients (normalised)."""

    def __init__(self, space: BlockIrreps, settings: Stage2Settings, encoder: Stage1Settings) -> None:
        super().__init__()
        s, l_max, n_kinds = settings, space.l_max, len(space.elements) ** 2
        self.groups, self.l_max, self.settings = space.groups, l_max, settings
        self.coefficients = nn.ModuleList(CoefficientReader(space, g, s) for g in space.groups if s.baseline)
        seen = _widths_seen(s, encoder, l_max)
        self.attention = Attention(s, seen, l_max, n_kinds)
        scalars = seen.scalars + 2 * s.channels * (l_max + 1)
        pseudoscalars = seen.pseudoscalars + 2 * s.pseudo_channels * (l_max + 1)
        so2 = seen.so2_channels + l_max * 2 * (s.channels + s.pseudo_channels)
        self.standardize = Standardize(n_kinds, scalars)
        self.rescale = Rescale(l_max, 1, 1, so2)
        kind_of_map = EquivariantMap if s.symmetry == "exact" else FrameAveragedMap
        self.free = kind_of_map(s, l_max, n_kinds, scalars, pseudoscalars, so2)
        self.messages = Messages(s.messages, l_max)
        self.heads = Heads(space, s.channels, s.pseudo_channels, s.scalars, s.pseudoscalars, s.so2_channels, gain=0.0)
        self.sizes = Sizes(space)

    def forward(
        self,
        batch: GraphBatch,
        first: Stage1Output,
        generator: torch.Generator | None = None,
    ) -> Coefficients:
        """Covariant features in, covariant correction out; `generator` draws the turns while training."""
        atoms, refined = run(self.rounds(generator), first.graph, None, self.seen(first.edges, first.h1.pairs))
        return Coefficients(self.correction_of_pairs(refined, batch), self.correction_of_atoms(atoms, batch))

    def correction_of_pairs(self, refined: EdgeFeatures, batch: GraphBatch) -> dict[tuple[int, int], Tensor]:
        """Of each group's pairs, from what their edges have become in all `rounds`."""
        return self.sizes(Coefficients(self.heads.of_pairs(refined, batch), {})).pairs

    def correction_of_atoms(self, atoms: AtomFeatures, batch: GraphBatch) -> dict[int, Tensor]:
        """Of the atoms of each signature, from what they know after all `rounds`."""
        return self.sizes(Coefficients({}, self.heads.of_atoms(*atoms, batch))).onsite

    def rounds(self, generator: torch.Generator | None = None) -> list[Round]:
        """Atoms attend over their edges; edges are refined and sent to the atoms. They begin with what is `seen`."""
        return [Round(self._attend, self._attended), Round(partial(self._refine, generator), self._received)]

    def _attend(self, graph: DirectedEdges, atoms: None, seen: EdgeFeatures):
        return seen, self.attention.sums(seen, graph)

    def _attended(self, atoms: None, *sums: Tensor) -> AtomFeatures:
        return self.attention.received(*sums)

    def _refine(
        self, generator: torch.Generator | None, graph: DirectedEdges, context: AtomFeatures, seen: EdgeFeatures
    ):
        axial, around = of_both_atoms(context.proper, graph, True)
        chiral, mirrored = of_both_atoms(context.pseudo, graph, False)
        gathered = EdgeFeatures(
            self.standardize(torch.cat([seen.scalars, axial], 1), graph.kind),
            torch.cat([seen.pseudoscalars, chiral], 1),
            self.rescale(torch.cat([seen.so2, around, mirrored], -1)),
        )
        refined = self.free(gathered, graph.kind, generator)
        return refined, (self.messages.sums(refined, graph),)

    def _received(self, context: AtomFeatures, sums: Tensor) -> AtomFeatures:
        return self.messages.received(sums)

    @property
    def is_untrained(self) -> bool:
        """Whether it has not learned anything yet, so that it corrects nothing."""
        return not any(bool(parameter.any()) for parameter in self.heads.parameters())

    def seen(self, edges: EdgeFeatures, baseline: Mapping[tuple[int, int], Tensor]) -> EdgeFeatures:
        """Stage 1's edge features and coefficients of the pairs, as far as the settings let them through."""
        if self.settings.baseline:
            read = self._read(baseline)
            edges = EdgeFeatures(*(torch.cat(parts, -1) for parts in zip(edges, read, strict=True)))
        if self.settings.covariant:
            return edges
        scalars = [edges.scalars, edges.pseudoscalars.square(), so2_log_norms(edges.so2)]
        hidden = torch.zeros_like(edges.pseudoscalars), torch.zeros_like(edges.so2)
        return EdgeFeatures(torch.cat(scalars, 1), *hidden)

    def _read(self, baseline: Mapping[tuple[int, int], Tensor]) -> EdgeFeatures:
        """Stage 1's coefficients of every directed edge as features: all pairs ahead, then all reversed."""
        parts = [reader(baseline[g]) for g, reader in zip(self.groups, self.coefficients, strict=True)]
        return end_to_end([ahead for ahead, _ in parts] + [back for _, back in parts])


def _widths_seen(settings: Stage2Settings, encoder: Stage1Settings, l_max: int) -> Stage1Settings:
    """Scalars, doublets and pseudoscalars of `Stage2.seen`."""
    s, e = settings, encoder
    scalars, so2, pseudoscalars = e.scalars, e.so2_channels, e.pseudoscalars
    if s.baseline:
        scalars, so2, pseudoscalars = (
            scalars + s.scalars,
            so2 + s.so2_channels,
            pseudoscalars + s.pseudoscalars,
        )
    if not s.covariant:
        scalars += pseudoscalars + l_max * so2
    return Stage1Settings(scalars=scalars, so2_channels=so2, pseudoscalars=pseudoscalars)
