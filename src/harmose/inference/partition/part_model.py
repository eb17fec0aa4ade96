"""What is done with one part of a structure in each round of the network (`nn.rounds`): a function of its arguments alone."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harmose.core.graph import Graph
from harmose.inference.partition.parts import Part
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.nn.ops.message_passing import Round
from harmose.nn.ops.so2 import EdgeFeatures
from harmose.nn.stage1.encoder import AtomFeatures
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch, graph_batch
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs, to_matrix
from harmose.representation.concatenation import denormalize
from harmose.uncertainty.llpr import LastLayer


class PartResult(NamedTuple):
    """Of one part in one round: its edges' features for the next one; sums over them, a row for each of the part's atoms;
    in the last round its blocks (components, size) in eV; where stage 1 ends how far the network extrapolates (P,).
    """

    edges: EdgeFeatures | None
    sums: tuple[Tensor, ...]
    blocks: np.ndarray | None = None
    rigidity: np.ndarray | None = None


class PreparedPart(NamedTuple):
    """What does not change from round to round: a part's pairs oriented, and what the network reads of them."""

    oriented: OrientedPairs
    batch: GraphBatch


@dataclass(frozen=True)
class PartModel:
    """A network and its closed form on the parts of one graph. `full`: with stage 2; `rigidity`: of the model's calibration."""

    network: TwoStage
    regression: KernelRegression
    graph: Graph
    full: bool
    rigidity: LastLayer | None = None

    @property
    def space(self) -> BlockIrreps:
        return self.regression.space

    @cached_property
    def neighbourhoods(self) -> Neighbourhoods:
        """Of the whole graph: what the closed form looks at."""
        return self.regression.neighbourhoods(self.space.orient(self.graph))

    @cached_property
    def first_rounds(self) -> list[Round]:
        return self.network.stage1.encoder.rounds()

    @cached_property
    def rounds(self) -> list[Round]:
        """Of stage 1 and then of stage 2."""
        return [*self.first_rounds, *(self.network.stage2.rounds() if self.full else [])]

    @torch.inference_mode()
    def prepared(self, part: Part) -> PreparedPart:
        oriented = self.space.orient(part.graph)
        batch = graph_batch(self.space, part.graph, oriented).to(self.device)
        oriented.forget_rotations()
        return PreparedPart(oriented, batch)

    @torch.inference_mode()
    def run(self, k: int, part: Part, atoms: Any, edges: Any, prepared: PreparedPart | None = None) -> PartResult:
        """Round k; `atoms`: what those of the part know, `edges`: what the part's edges have become."""
        oriented, batch = self.prepared(part) if prepared is None else prepared
        order = torch.as_tensor(oriented.atom_order)
        directed, last, first = (
            self.network.stage1.encoder.directed(batch),
            k == len(self.rounds) - 1,
            len(self.first_rounds),
        )
        atoms = _rows(atoms, order)
        if k < first:
            edges, sums = self.rounds[k].edges(directed, atoms, edges)
            rigidity = None
            if k == first - 1 and self.rigidity is not None:
                rigidity = np.empty(part.n_pairs)
                rigidity[oriented.pair_order] = self.rigidity.of_pairs(edges.scalars, directed.kind)
            blocks = self._blocks(part, oriented, self.network.stage1.heads.of_pairs(edges, batch)) if last else None
            return PartResult(None if last else edges, _back(sums, order), blocks, rigidity)
        regression = self.network.stage1.heads.of_pairs(edges, batch)
        refined, sums = self.rounds[k].edges(directed, atoms, self.network.stage2.seen(edges, regression))
        if not last:  # what is seen of the edges is larger than they are, and soon made again
            return PartResult(edges, _back(sums, order))
        correction = self.network.stage2.correction_of_pairs(refined, batch)
        found = {group: regression[group] + correction[group] for group in regression}
        return PartResult(None, _back(sums, order), self._blocks(part, oriented, found))

    def onsite(self, stage1: AtomFeatures, refined: AtomFeatures | None, chosen: np.ndarray) -> np.ndarray:
        """On-site blocks (components, size) in eV of the atoms `chosen` (n,), from the features of all that they know."""
        graph = Graph(self.graph.numbers[chosen], np.zeros((0, 5), dtype=np.int64), np.zeros((0, 3)))
        oriented = self.space.orient(graph)
        batch = graph_batch(self.space, graph, oriented).to(self.device)
        rows = torch.as_tensor(chosen[oriented.atom_order])
        with torch.inference_mode():
            mine = _rows(stage1, rows)
            found = self.network.stage1.heads.of_atoms(mine.proper, mine.pseudo, batch)
            if refined is not None:
                correction = self.network.stage2.correction_of_atoms(_rows(refined, rows), batch)
                found = {s: found[s] + correction[s] for s in found}
        atoms = {s: chosen[members] for s, members in oriented.atoms.items()}
        values = {s: self.regression.onsite_values(self.neighbourhoods, s, members) for s, members in atoms.items()}
        scales = self.regression.scales(oriented)
        c = denormalize(Coefficients({}, found), Coefficients({}, values), Coefficients({}, scales.onsite))
        return to_matrix(self.space, c, graph, oriented).values

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _blocks(self, part: Part, oriented: OrientedPairs, found: dict[tuple[int, int], Tensor]) -> np.ndarray:
        scales = self.regression.scales(oriented)
        values = {
            group: self.regression.pair_values(self.neighbourhoods, group, part.start + members)
            for group, members in oriented.members.items()
        }
        c = denormalize(Coefficients(found, {}), Coefficients(values, {}), Coefficients(scales.pairs, {}))
        matrix = to_matrix(self.space, c, part.graph, oriented)
        return matrix.values[:, matrix.offsets[len(part.atoms)] :]


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
