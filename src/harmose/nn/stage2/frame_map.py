"""What stage 2's two symmetry modes share, and the mode `learned`.

The frame of an edge leaves O(2) free: its turn about the edge and the mirror. With turn `a` and mirror `p = +-1` doublets
become `x_m -> e^{i m a} x_m`, conjugated where p = -1, and pseudoscalars p times themselves.
"""

import torch
from torch import Tensor, nn

from harmose.nn.ops.layers import Rescale
from harmose.nn.ops.so2 import EdgeFeatures, SO2Linear
from harmose.nn.stage2.settings import Stage2Settings


class CovariantMLP(nn.Module):
    """Edge features -> edge features through perceptrons that know no symmetry; subclasses say in which frames."""

    def __init__(self, settings: Stage2Settings, l_max: int, n_kinds: int, pseudoscalars: int, so2: int) -> None:
        super().__init__()
        s, self.l_max = settings, l_max
        self.compress = SO2Linear(l_max, so2, s.so2_channels)
        self.rescale = Rescale(l_max, 1, 1, s.so2_channels)
        self.chiral = Rescale(pseudoscalars)
        self.kind = nn.Embedding(n_kinds, s.hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(s.hidden), nn.Linear(s.hidden, s.hidden), nn.SiLU(), nn.Linear(s.hidden, s.hidden)
            )
            for _ in range(s.mlp_layers)
        )

    def scaled(self, edges: EdgeFeatures) -> EdgeFeatures:
        """Fewer doublets, all features of size one."""
        so2 = self.rescale(self.compress(edges.so2))
        return EdgeFeatures(edges.scalars, self.chiral(edges.pseudoscalars), so2)

    def hidden(self, x: Tensor, kind: Tensor) -> Tensor:
        """The perceptron behind its first linear map (E, hidden)."""
        x = nn.functional.silu(x + self.kind(kind))
        for layer in self.layers:
            x = x + layer(x)
        return x


class FrameAveragedMap(CovariantMLP):
    """Equivariant only as far as it has learned to be: frames turned at random in training, averaged in a prediction.

    The average is over `turns` evenly spaced turns, each with its mirror image; over the whole of O(2) it would be exactly
    equivariant. Where `rotate` is false the frames are taken as they come, in training and in a prediction.
    """

    order: Tensor

    def __init__(
        self, settings: Stage2Settings, l_max: int, n_kinds: int, scalars: int, pseudoscalars: int, so2: int
    ) -> None:
        super().__init__(settings, l_max, n_kinds, pseudoscalars, so2)
        s, self.turns, self.rotate = settings, settings.turns, settings.rotate
        self.read = nn.Linear(scalars + pseudoscalars + 2 * l_max * s.so2_channels, s.hidden)
        self.sizes = [s.scalars, s.pseudoscalars, 2 * l_max * s.so2_channels]
        self.write = nn.Linear(s.hidden, sum(self.sizes))
        self.register_buffer("order", torch.arange(1, l_max + 1.0), persistent=False)

    def forward(self, edges: EdgeFeatures, kind: Tensor, generator: torch.Generator | None) -> EdgeFeatures:
        edges, n, like = self.scaled(edges), len(kind), edges.scalars
        if not self.rotate:
            return self._turned(edges, kind, like.new_zeros(n), like.new_ones(n))
        if self.training:
            turn = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype) * 2 * torch.pi
            mirror = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype).round() * 2 - 1
            return self._turned(edges, kind, turn, mirror)
        images = 2 * self.turns
        turn = torch.arange(images, device=like.device, dtype=like.dtype) // 2 * (2 * torch.pi / self.turns)
        mirror = 1 - 2 * (torch.arange(images, device=like.device, dtype=like.dtype) % 2)
        many = EdgeFeatures(
            edges.scalars.repeat(images, 1),
            edges.pseudoscalars.repeat(images, 1),
            edges.so2.repeat(1, images, 1, 1),
        )
        turned = self._turned(many, kind.repeat(images), turn.repeat_interleave(n), mirror.repeat_interleave(n))
        return EdgeFeatures(
            turned.scalars.unflatten(0, (images, n)).mean(0),
            turned.pseudoscalars.unflatten(0, (images, n)).mean(0),
            turned.so2.unflatten(1, (images, n)).mean(1),
        )

    def _turned(self, edges: EdgeFeatures, kind: Tensor, turn: Tensor, mirror: Tensor) -> EdgeFeatures:
        cos, sin = torch.cos(self.order[:, None] * turn)[..., None], torch.sin(self.order[:, None] * turn)[..., None]
        even, odd, flip = edges.so2[:, :, 0], edges.so2[:, :, 1], mirror[:, None]
        there = torch.stack([cos * even - sin * odd, (sin * even + cos * odd) * flip], 2)
        flat = there.transpose(0, 1).flatten(1)
        x = self.hidden(self.read(torch.cat([edges.scalars, edges.pseudoscalars * flip, flat], 1)), kind)
        scalars, pseudoscalars, flat = self.write(x).split(self.sizes, 1)
        back = flat.unflatten(1, (self.l_max, 2, -1)).transpose(0, 1)
        even, odd = back[:, :, 0], back[:, :, 1] * flip
        return EdgeFeatures(
            scalars, pseudoscalars * flip, torch.stack([cos * even + sin * odd, cos * odd - sin * even], 2)
        )
