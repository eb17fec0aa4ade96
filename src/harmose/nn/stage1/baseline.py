"""Stage 1 of HarmoSE (arXiv:2401.00744): an O(3)-equivariant network that predicts the baseline Hamiltonian H1."""

from typing import NamedTuple

from torch import nn

from harmose.nn.ops.features import AtomFeatures, EdgeFeatures
from harmose.nn.ops.messages import DirectedEdges
from harmose.nn.stage1.encoder import Encoder
from harmose.nn.stage1.heads import Heads
from harmose.nn.stage1.inputs import Inputs, InputSettings
from harmose.nn.stage1.settings import Stage1Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


class Stage1Output(NamedTuple):
    """The baseline H1 as normalized coefficients, and what it was computed from; stage 2 takes edge features and directed edges."""

    h1: Coefficients
    edges: EdgeFeatures
    graph: DirectedEdges
    atoms: AtomFeatures


class Stage1(nn.Module):
    """Encoder and linear heads: graphs -> baseline H1, and covariant features of the edges."""

    def __init__(self, space: BlockIrreps, settings: Stage1Settings, inputs: InputSettings) -> None:
        super().__init__()
        s = settings
        self.inputs = Inputs(space, inputs, s) if inputs.operators else None
        self.encoder = Encoder(s, len(space.elements), space.l_max, self.inputs is not None)
        self.heads = Heads(space, s.channels, s.pseudo_channels, s.edges)

    def forward(self, batch: GraphBatch) -> Stage1Output:
        atoms, edges, graph = self.encode(batch)
        return Stage1Output(self.heads(atoms, edges, batch), edges, graph, atoms)

    def encode(self, batch: GraphBatch) -> tuple[AtomFeatures, EdgeFeatures, DirectedEdges]:
        """Covariant features of atoms and directed edges."""
        return self.encoder(batch, None if self.inputs is None else self.inputs(batch))
