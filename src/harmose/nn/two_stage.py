"""The two-stage network of HarmoSE (Yin et al., arXiv:2401.00744).

    graph -> stage 1: O(3)-equivariant encoder, linear heads        -> baseline H1, covariant features x
             stage 2: graph Transformer, non-linear maps of x and H1 -> correction dH
             H = H1 + dH

H, H1 and dH are irreps of the blocks of a Hamiltonian (`Coefficients`), normalized to order one. Stage 1 is
equivariant by construction. Stage 2 is covariant and non-linear: in the frames of the edges, exactly or as far as
learned (`Stage2Settings`).
"""

import torch
from pydantic import Field, StrictBool
from pydantic.dataclasses import dataclass
from torch import nn

from harmose.nn.ops.layers import calibrate
from harmose.nn.ops.saturation import Bounded
from harmose.nn.stage1.baseline import Stage1
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.stage2.transformer import Stage2
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


@dataclass(frozen=True, config={"extra": "forbid"})
class NetworkSettings:
    """Settings of both stages.

    Attributes:
        stage1: of the equivariant network.
        stage2: of the graph Transformer.
        bounded: outputs and invariants saturate smoothly (`nn.ops.saturation`); False in models older than version 4.
    """

    stage1: Stage1Settings = Field(default_factory=Stage1Settings)
    stage2: Stage2Settings = Field(default_factory=Stage2Settings)
    bounded: StrictBool = True


class TwoStage(nn.Module):
    """Graphs -> normalized coefficients of all blocks of H."""

    def __init__(self, space: BlockIrreps, settings: NetworkSettings, inputs: InputSettings | None = None) -> None:
        """`inputs`: operators of a structure that stage 1 reads besides its graph; default: none."""
        super().__init__()
        self.space, self.settings = space, settings
        self.stage1 = Stage1(space, settings.stage1, inputs or InputSettings())
        self.stage2 = Stage2(space, settings.stage2, settings.stage1.edges)
        for module in self.modules():
            if isinstance(module, Bounded):
                module.bounded = settings.bounded

    def forward(self, batch: GraphBatch) -> Coefficients:
        first = self.stage1(batch)
        return add(first.h1, self.stage2(batch, first))

    def calibrate(self, batch: GraphBatch) -> None:
        """Fit the scales of all features to a batch of the training set. Call once, before training."""
        calibrate(self, batch)

    @torch.no_grad()
    def zero_outputs(self) -> None:
        """Set the parameters of stage 1's heads to zero, so that training starts from the regression alone."""
        for parameter in self.stage1.heads.parameters():
            parameter.zero_()

    @torch.no_grad()
    def fit_stage2_scale(self, batch: GraphBatch, targets: Coefficients) -> None:
        """Set stage 2's output scale to the RMS of the residual of stage 1. Call before training stage 2."""
        self.stage2.output_scale.fit(add(targets, self.stage1(batch).h1, -1.0))


def add(a: Coefficients, b: Coefficients, factor: float = 1.0) -> Coefficients:
    """a + factor b."""
    return Coefficients(
        {g: a.pairs[g] + factor * b.pairs[g] for g in a.pairs},
        {s: a.onsite[s] + factor * b.onsite[s] for s in a.onsite},
    )
