"""The two-stage network of HarmoSE (arXiv:2401.00744): a covariant baseline H1 and a non-linear correction, `H = H1 + dH`."""

from dataclasses import dataclass, field

import torch
from torch import nn

from harmose.nn.ops.layers import calibrate
from harmose.nn.stage1.baseline import Stage1
from harmose.nn.stage1.encoder import Stage1Settings
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.stage2.transformer import Stage2
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


@dataclass(frozen=True)
class NetworkSettings:
    """Everything that fixes the network's shape besides the irreps of the blocks."""

    stage1: Stage1Settings = field(default_factory=Stage1Settings)
    stage2: Stage2Settings = field(default_factory=Stage2Settings)


class TwoStage(nn.Module):
    """Graphs -> normalised coefficients of all blocks (`Coefficients`)."""

    def __init__(self, space: BlockIrreps, settings: NetworkSettings, inputs: InputSettings | None = None) -> None:
        super().__init__()
        self.space, self.settings = space, settings
        self.stage1 = Stage1(space, settings.stage1, inputs or InputSettings())
        self.stage2 = Stage2(space, settings.stage2, settings.stage1)

    def forward(self, batch: GraphBatch, stage: str = "full") -> Coefficients:
        """`stage` is "full" for H1 + dH or "stage1" for H1 alone."""
        first = self.stage1(batch)
        return first.h1 if stage == "stage1" else add(first.h1, self.stage2(batch, first))

    @torch.no_grad()
    def fit_stage2_scale(self, batch: GraphBatch, targets: Coefficients) -> None:
        """Set stage 2's output scale to the RMS of the stage-1 residual. Call before training stage 2."""
        self.stage2.sizes.fit(add(targets, self.stage1(batch).h1, -1.0))

    def calibrate(self, batch: GraphBatch) -> None:
        """Take the scales of the features from a batch of the training set, once before training."""
        calibrate(self, batch)

    @torch.no_grad()
    def zero_outputs(self) -> None:
        """Set the parameters of stage 1's heads to zero, so that training starts from the regression alone."""
        for parameter in self.stage1.heads.parameters():
            parameter.zero_()


def add(a: Coefficients, b: Coefficients, factor: float = 1.0) -> Coefficients:
    """a + factor b, coefficient by coefficient."""
    return Coefficients(
        {g: a.pairs[g] + factor * b.pairs[g] for g in a.pairs},
        {s: a.onsite[s] + factor * b.onsite[s] for s in a.onsite},
    )
