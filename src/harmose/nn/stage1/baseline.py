"""Stage 1: an O(3)-equivariant network regresses the baseline Hamiltonian H1 and hands covariant features on."""

from typing import NamedTuple

from torch import nn

from harmose.nn.ops.so2 import EdgeFeatures
from harmose.nn.stage1.encoder import AtomFeatures, DirectedEdges, Encoder, Stage1Settings
from harmose.nn.stage1.heads import Heads
from harmose.nn.stage1.inputs import Inputs, InputSettings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


class Stage1Output(NamedTuple):
    """The baseline H1 as normalised coefficients, and what stage 2 reads: edge features and directed edges."""

    h1: Coefficients
    edges: EdgeFeatures
    graph: DirectedEdges


class Stage1(nn.Module):
    """Graphs -> baseline H1 and covariant features of the edges."""

    def __init__(self, space: BlockIrreps, settings: Stage1Settings, inputs: InputSettings) -> None:
        super().__init__()
        s = settings
        self.inputs = Inputs(space, inputs, s) if inputs.operators else None
        self.encoder = Encoder(s, len(space.elements), space.l_max, self.inputs is not None)
        self.heads = Heads(space, s.channels, s.pseudo_channels, s.scalars, s.pseudoscalars, s.so2_channels)

    def forward(self, batch: GraphBatch) -> Stage1Output:
        atoms, edges, graph = self.encode(batch)
        return Stage1Output(self.heads(atoms.proper, atoms.pseudo, edges, batch), edges, graph)

    def encode(self, batch: GraphBatch) -> tuple[AtomFeatures, EdgeFeatures, DirectedEdges]:
        """Covariant features of atoms and directed edges."""
        return self.encoder(batch, None if self.inputs is None else self.inputs(batch))
