"""`Stage2Settings`: everything that fixes stage 2 besides the irreps of the blocks and stage 1."""

from typing import Literal

from pydantic import StrictBool
from pydantic.dataclasses import dataclass

from harmose.nn.ops.features import EdgeWidths
from harmose.nn.stage1.settings import Width

Symmetry = Literal["exact", "learned"]


@dataclass(frozen=True, config={"extra": "forbid"})
class Stage2Settings:
    """Widths and depth of stage 2, and switches for ablations.

    Attributes:
        heads: attention heads.
        channels, pseudo_channels: channels of an atom's irreps of either parity.
        scalars, so2_channels, pseudoscalars: channels of an edge's features.
        hidden, mlp_layers: hidden width and residual layers of the perceptron of an edge.
        attention_rounds: number of attention layers, each with its own perceptron; all but the first are residual.
        symmetry: `exact` equivariance, or `learned` from frames turned at random in training.
        turns: `learned` only: a prediction averages over this many turns of each frame and their mirror images.
        directions: `exact` only: learned directions of each order, in whose frames the perceptron works.
        rotate: `learned` only; False: neither random turns nor an average, frames as they come.
        covariant: False: stage 2 reads only invariants of stage 1's features.
        baseline: False: stage 2 does not read H1.
        attention: False: sums over neighbours are weighted by the distance alone.
    """

    heads: Width = 4
    channels: Width = 16
    pseudo_channels: Width = 8
    scalars: Width = 64
    so2_channels: Width = 32
    pseudoscalars: Width = 8
    hidden: Width = 256
    mlp_layers: Width = 2
    attention_rounds: Width = 1
    turns: Width = 4
    symmetry: Symmetry = "exact"
    directions: Width = 2
    rotate: StrictBool = True
    covariant: StrictBool = True
    baseline: StrictBool = True
    attention: StrictBool = True

    @property
    def edges(self) -> EdgeWidths:
        """Widths of the edge features."""
        return EdgeWidths(self.scalars, self.pseudoscalars, self.so2_channels)
