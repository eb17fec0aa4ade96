"""`Stage2Settings`: everything that fixes stage 2 besides the target space and stage 1."""

from dataclasses import dataclass
from typing import Literal

from harmose.nn.stage1.encoder import Stage1Settings

Symmetry = Literal["exact", "learned"]


@dataclass(frozen=True)
class Stage2Settings:
    """Widths of stage 2, and what it may see and do (the switches of an ablation).

    symmetry: `exact` equivariance, or `learned` from frames turned at random in training, over `turns` of which, each with
    its mirror image, a prediction averages; `rotate` false: neither, frames as they come. `directions` of each order hold
    the frames of `exact`. covariant false: of stage 1 only invariants are seen; baseline false: not its H1; attention
    false: a sum over neighbours that only their distance weighs.
    """

    heads: int = 4
    channels: int = 16
    pseudo_channels: int = 8
    scalars: int = 64
    so2_channels: int = 32
    pseudoscalars: int = 8
    hidden: int = 256
    mlp_layers: int = 2
    turns: int = 4
    symmetry: Symmetry = "exact"
    directions: int = 2
    rotate: bool = True
    covariant: bool = True
    baseline: bool = True
    attention: bool = True

    @property
    def messages(self) -> Stage1Settings:
        """The widths that the messages of stage 2 share with those of stage 1."""
        return Stage1Settings(
            self.channels, self.pseudo_channels, self.scalars, self.so2_channels, self.pseudoscalars, self.hidden
        )
