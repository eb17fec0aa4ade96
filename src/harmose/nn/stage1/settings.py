"""`Stage1Settings`: everything that fixes stage 1 besides the irreps of the blocks."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from harmose.nn.ops.features import EdgeWidths

Width = Annotated[int, Field(strict=True, gt=0, le=10**5)]


@dataclass(frozen=True, config={"extra": "forbid"})
class Stage1Settings:
    """Widths and depth of stage 1.

    Attributes:
        channels, pseudo_channels: channels of an atom's irreps of either parity.
        scalars, so2_channels, pseudoscalars: channels of an edge's features.
        hidden: hidden width of the gates.
        radial: radial functions of the distance.
        layers: message passing layers.
    """

    channels: Width = 16
    pseudo_channels: Width = 8
    scalars: Width = 64
    so2_channels: Width = 32
    pseudoscalars: Width = 8
    hidden: Width = 64
    radial: Width = 32
    layers: Width = 2

    @property
    def edges(self) -> EdgeWidths:
        """Widths of the edge features."""
        return EdgeWidths(self.scalars, self.pseudoscalars, self.so2_channels)
