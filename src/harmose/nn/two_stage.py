"""The two-stage network: a covariant baseline and a free correction, `H = H1 + dH`."""

from dataclasses import dataclass, field

import torch
from torch import nn

from harmose.nn.ops.layers import calibrate
from harmose.nn.ops.so2 import EdgeFeatures
from harmose.nn.stage1.encoder import AtomFeatures, DirectedEdges, Encoder, EncoderSettings
from harmose.nn.stage1.heads import Heads
from harmose.nn.stage1.inputs import Inputs, InputSettings
from harmose.nn.stage2.transformer import Refiner, RefinerSettings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients, TargetSpace


@dataclass(frozen=True)
class ModelSettings:
    """Everything that fixes the network's shape besides the target space."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    refiner: RefinerSettings = field(default_factory=RefinerSettings)


Stage1Output = tuple[Coefficients, EdgeFeatures, DirectedEdges]


class TwoStage(nn.Module):
    """Graphs -> normalised coefficients of all blocks (`targets.Coefficients`); `baseline` brings them back to eV."""

    def __init__(self, space: TargetSpace, settings: ModelSettings, inputs: InputSettings | None = None) -> None:
        super().__init__()
        e, inputs = settings.encoder, inputs or InputSettings()
        self.space, self.settings = space, settings
        self.inputs = Inputs(space, inputs, e) if inputs.operators else None
        self.encoder = Encoder(e, len(space.elements), space.l_max, self.inputs is not None)
        self.heads = Heads(space, e.channels, e.unnatural_channels, e.scalars, e.pseudoscalars, e.doublets)
        self.refiner = Refiner(space, settings.refiner, e)

    def forward(self, batch: GraphBatch, stage: str = "full") -> Coefficients:
        """`stage` is "full" for H1 + dH or "stage1" for H1 alone."""
        first = self.stage1(batch)
        return first[0] if stage == "stage1" else add(first[0], self.stage2(batch, first))

    def encode(self, batch: GraphBatch) -> tuple[AtomFeatures, EdgeFeatures, DirectedEdges]:
        """Covariant features of atoms and directed edges."""
        return self.encoder(batch, None if self.inputs is None else self.inputs(batch))

    def stage1(self, batch: GraphBatch) -> Stage1Output:
        """The baseline H1, and the edge features and directed edges that stage 2 reads."""
        atoms, edges, graph = self.encode(batch)
        return self.heads(atoms.natural, atoms.unnatural, edges, batch), edges, graph

    def stage2(self, batch: GraphBatch, first: Stage1Output, generator: torch.Generator | None = None) -> Coefficients:
        """The correction dH. With symmetry `learned`, `generator` draws the turns of the frames in training mode."""
        baseline, edges, graph = first
        return self.refiner(batch, edges, graph, baseline, generator)

    @torch.no_grad()
    def expect(self, batch: GraphBatch, targets: Coefficients) -> None:
        """Let stage 2 answer in units of what stage 1 leaves of these targets; before it has learned anything."""
        self.refiner.sizes.fit(add(targets, self.stage1(batch)[0], -1.0))

    def calibrate(self, batch: GraphBatch) -> None:
        """Take the scales of the features from a batch of the training set, once before training."""
        calibrate(self, batch)

    @torch.no_grad()
    def silence(self) -> None:
        """Start from the closed-form part alone: all coefficients zero, until the heads have learned something."""
        for parameter in self.heads.parameters():
            parameter.zero_()

    def stage1_parameters(self) -> list[nn.Parameter]:
        read = [] if self.inputs is None else list(self.inputs.parameters())
        return [*read, *self.encoder.parameters(), *self.heads.parameters()]

    def stage2_parameters(self) -> list[nn.Parameter]:
        return list(self.refiner.parameters())


def add(a: Coefficients, b: Coefficients, factor: float = 1.0) -> Coefficients:
    """a + factor b, coefficient by coefficient."""
    return Coefficients(
        {g: a.pairs[g] + factor * b.pairs[g] for g in a.pairs},
        {s: a.onsite[s] + factor * b.onsite[s] for s in a.onsite},
    )
