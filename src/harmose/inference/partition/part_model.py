"""One pass over one part of a structure, as a function of its arguments alone: a message-passing layer, or the regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harmose.core.graph import Graph
from harmose.inference.partition.parts import Part
from harmose.inference.pipeline import Pipeline, weighted
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, concatenate_channels
from harmose.nn.ops.message_passing import MessagePassingLayer
from harmose.nn.ops.messages import DirectedEdges
from harmose.nn.two_stage import TwoStage, add
from harmose.representation.batch import GraphBatch, graph_batch
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs, to_matrix
from harmose.representation.concatenation import ConcatenatedGraph, assemble, concatenate
from harmose.representation.normalizer import denormalize
from harmose.uncertainty.features import block_sizes
from harmose.uncertainty.llpr import LastLayer


class PartResult(NamedTuple):
    """Result of one layer on one part.

    Attributes:
        edges: features of the part's edges for the next layer; None after the last.
        sums: sums over edges, one row for each of the part's atoms.
        blocks: after the last layer, blocks (components, size) in eV.
        faded: after the last layer, for each pair (4, P): weight and standard deviation of the regression, weight of stage 1,
            rms of the block's scales in eV.
        last_layer_std: at the end of stage 1, standard deviation of the last layer for each pair (P,).
    """

    edges: EdgeFeatures | None
    sums: tuple[Tensor, ...]
    blocks: np.ndarray | None = None
    faded: np.ndarray | None = None
    last_layer_std: np.ndarray | None = None


class PreparedPart(NamedTuple):
    """Oriented pairs of a part, and their tensors for the network, None without it; the same in all layers."""

    oriented: OrientedPairs
    batch: GraphBatch | None


@dataclass(frozen=True)
class PartModel:
    """A model on the parts of one graph.

    Attributes:
        pipeline: the model's summands.
        graph: the whole graph.
        stage: "regression", "stage1" or "full".
    """

    pipeline: Pipeline
    graph: Graph
    stage: str

    @property
    def network(self) -> TwoStage:
        assert self.pipeline.network is not None
        return self.pipeline.network

    @property
    def evaluates_network(self) -> bool:
        """True if the network is evaluated, not the regression alone."""
        return self.pipeline.network is not None and self.stage != "regression"

    @property
    def full(self) -> bool:
        """True if stage 2 is evaluated."""
        return self.evaluates_network and self.stage == "full" and not self.network.stage2.is_untrained

    @property
    def n_passes(self) -> int:
        """Passes over all parts: the message-passing layers, or one for the regression alone."""
        return max(len(self.layers), 1)

    @property
    def last_layer(self) -> LastLayer | None:
        return self.pipeline.last_layer

    @property
    def space(self) -> BlockIrreps:
        return self.pipeline.space

    @cached_property
    def neighbourhoods(self) -> Neighbourhoods:
        """Atomic environments of the whole graph."""
        return Neighbourhoods(self.space, self.space.orient(self.graph))

    @cached_property
    def stage1_layers(self) -> list[MessagePassingLayer]:
        """Message-passing layers of stage 1."""
        return self.network.stage1.encoder.layers() if self.evaluates_network else []

    @cached_property
    def layers(self) -> list[MessagePassingLayer]:
        """Message-passing layers of stage 1, and then of stage 2; none for the regression alone."""
        return [*self.stage1_layers, *(self.network.stage2.layers() if self.full else [])]

    @torch.inference_mode()
    def prepare(self, part: Part) -> PreparedPart:
        """Orient the pairs of a part, and compute their frames for the network."""
        oriented = self.space.orient(part.graph)
        if not self.evaluates_network:
            return PreparedPart(oriented, None)
        batch = graph_batch(self.space, part.graph, oriented).to(self.pipeline.device)
        oriented.forget_rotations()
        return PreparedPart(oriented, batch)

    @torch.inference_mode()
    def run(self, k: int, part: Part, atoms: Any, edges: Any, prepared: PreparedPart | None = None) -> PartResult:
        """Evaluate pass k on a part, from the features of its atoms and of its edges after the pass before."""
        oriented, batch = self.prepare(part) if prepared is None else prepared
        if batch is None:
            return PartResult(None, (), *self._blocks(part, oriented, None, np.ones(part.n_pairs)))
        order = torch.as_tensor(oriented.atom_order)
        stage1, stage2 = self.network.stage1, self.network.stage2
        directed, last, first = stage1.encoder.directed_edges(batch), k == len(self.layers) - 1, len(self.stage1_layers)
        atoms = _rows(atoms, order)
        if k < first:
            edges, sums = self.layers[k].update_edges(directed, atoms, edges)
            std = None
            if k == first - 1 and self.last_layer is not None:
                std = np.empty(part.n_pairs)
                std[oriented.pair_order] = self.last_layer.pair_std(edges.scalars, directed.pair_type)
            if not last:
                return PartResult(edges, _back(sums, order), last_layer_std=std)
            weights = self._pair_weights(edges, directed, batch)
            outputs = _weighted_pairs([stage1.heads.pair_coefficients(edges, batch)], batch, weights)
            return PartResult(None, _back(sums, order), *self._blocks(part, oriented, outputs, weights[0]), std)
        edges, own = edges.split(
            self.network.settings.stage1.edges
        )  # stage 1's channels come first, then those of stage 2
        baseline = stage1.heads.pair_coefficients(edges, batch)
        inputs = stage2.edge_inputs(edges, baseline) if k < first + 2 else own
        refined, sums = self.layers[k].update_edges(directed, atoms, inputs)
        if not last:  # the inputs of stage 2 are larger than the features of stage 1, and soon made again
            kept = edges if k == first else concatenate_channels([edges, refined])
            return PartResult(kept, _back(sums, order))
        weights = self._pair_weights(edges, directed, batch)
        outputs = _weighted_pairs([baseline, stage2.pair_corrections(refined, batch)], batch, weights)
        return PartResult(None, _back(sums, order), *self._blocks(part, oriented, outputs, weights[0]))

    def _pair_weights(self, edges: EdgeFeatures, directed: DirectedEdges, batch: GraphBatch) -> np.ndarray:
        """Weights of both stages for the pairs of a batch (2, P), from stage 1's edge features."""
        if self.last_layer is None:
            return np.ones((2, batch.n_pairs))
        return self.last_layer.weights(self.last_layer.pair_std(edges.scalars, directed.pair_type))

    def onsite(
        self, stage1: AtomFeatures | None, refined: AtomFeatures | None, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return on-site blocks (components, size) in eV of the atoms `chosen` (n,), from the features of all atoms.

        Also, for them (4, n): weight and standard deviation of the regression, rms of the block's scales in eV, standard
        deviation of the last layer.
        """
        signs = None if self.graph.moment_signs is None else self.graph.moment_signs[chosen]
        graph = Graph(self.graph.numbers[chosen], np.zeros((0, 5), dtype=np.int64), np.zeros((0, 3)), signs)
        whole = concatenate(self.space, [graph])
        oriented, faded, offsets = whole.oriented, np.ones((4, len(chosen))), {}
        outputs = None if stage1 is None else self._onsite_outputs(stage1, refined, chosen, whole, faded[3])
        for s, members in oriented.atoms.items():
            offsets[s], faded[0, members], faded[1, members] = self._onsite_offsets(s, chosen[members])
        scales = self.pipeline.normalizer.scales(oriented)
        faded[2] = block_sizes(self.space, oriented, graph.numbers, scales)[: len(chosen)]
        return assemble(self.space, whole, outputs, Coefficients({}, offsets), scales).values, faded

    def _onsite_outputs(
        self,
        stage1: AtomFeatures,
        refined: AtomFeatures | None,
        chosen: np.ndarray,
        whole: ConcatenatedGraph,
        std: np.ndarray,
    ) -> Coefficients:
        """Return the network's outputs for some atoms, and write standard deviations of the last layer into `std` (n,)."""
        order = whole.oriented.atom_order
        batch = graph_batch(self.space, whole.graph, whole.oriented).to(self.pipeline.device)
        rows, weights = torch.as_tensor(chosen[order]), np.ones((2, len(chosen)))
        with torch.inference_mode():
            mine = _rows(stage1, rows)
            stages = [self.network.stage1.heads.onsite_coefficients(mine, batch)]
            if refined is not None:
                stages.append(self.network.stage2.onsite_corrections(_rows(refined, rows), batch))
            if self.last_layer is not None:
                std[order] = self.last_layer.atom_std(mine.proper[:, 0], batch.species)
                weights = self.last_layer.weights(std[order])
        return _weighted_sum([Coefficients({}, c) for c in stages], batch, weights[:, :0], weights)

    def _onsite_offsets(self, shell_type: int, atoms: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Values of the regression with their weights and standard deviations, or shifts, of some atoms of the whole graph."""
        if self.pipeline.regression is None:
            ones = np.ones(len(atoms))
            return self.pipeline.normalizer.onsite_shifts(self.neighbourhoods.oriented, shell_type, atoms), ones, ones
        return self.pipeline.regression.onsite_values(self.neighbourhoods, shell_type, atoms)

    def _pair_offsets(self, group: tuple[int, int], pairs: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
        if self.pipeline.regression is None:
            return self.pipeline.normalizer.pair_shifts(group, len(pairs)), np.ones(len(pairs)), np.ones(len(pairs))
        return self.pipeline.regression.pair_values(self.neighbourhoods, group, pairs)

    def _blocks(
        self, part: Part, oriented: OrientedPairs, outputs: Coefficients | None, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks (components, size) in eV of a part's pairs, and `PartResult.faded`.

        `outputs`: of the network, None without it; `weights` (P,): weights of stage 1, in the order of the batch.
        """
        faded, offsets = np.ones((4, part.n_pairs)), {}
        for g, members in oriented.pairs.items():
            offsets[g], faded[0, members], faded[1, members] = self._pair_offsets(g, part.start + members)
        scales = self.pipeline.normalizer.scales(oriented)
        faded[2, oriented.pair_order] = weights
        faded[3] = block_sizes(self.space, oriented, part.graph.numbers, scales)[len(part.atoms) :]
        c = denormalize(outputs, Coefficients(offsets, {}), Coefficients(scales.pairs, {}))
        matrix = to_matrix(self.space, c, part.graph, oriented)
        return matrix.values[:, matrix.offsets[len(part.atoms)] :], faded


def _weighted_pairs(
    stages: Sequence[dict[tuple[int, int], Tensor]], batch: GraphBatch, weights: np.ndarray
) -> Coefficients:
    """Sum the outputs of one or two stages for pairs, times their weights (2, P)."""
    return _weighted_sum([Coefficients(c, {}) for c in stages], batch, weights, weights[:, :0])


def _weighted_sum(
    stages: Sequence[Coefficients], batch: GraphBatch, of_pairs: np.ndarray, of_atoms: np.ndarray
) -> Coefficients:
    """Sum the outputs of one or two stages, times their weights for pairs (2, P) and for atoms (2, N)."""
    parts = [weighted(c, batch, (of_atoms, of_pairs), k) for k, c in enumerate(stages)]
    return parts[0] if len(parts) == 1 else add(parts[0], parts[1])


def _rows(features: Any, rows: Tensor) -> Any:
    """The rows of each tensor that has any."""
    if features is None:
        return None
    return type(features)(*(x.index_select(0, rows.to(x.device)) if len(x) else x for x in features))


def _back(sums: tuple[Tensor, ...], order: Tensor) -> tuple[Tensor, ...]:
    """Rows in the part's order of atoms, from those of its batch."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return tuple(x.cpu().index_select(0, place) for x in sums)
