"""`CovariantMLP`, the base of both symmetry modes of stage 2, and `FrameAveragedMap`, the mode `learned`.

The frame of an edge leaves O(2) free: the turn about the edge, and the mirror. Under a turn by `a` and a mirror `p =
+-1` SO(2) features become `x_m -> e^{i m a} x_m`, conjugated if p = -1, and pseudoscalars are multiplied by p.
"""

import torch
from torch import Tensor, nn

from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.ops.layers import Rescale
from harmose.nn.ops.so2 import SO2Linear
from harmose.nn.stage2.settings import Stage2Settings


class CovariantMLP(nn.Module):
    """Edge features -> edge features through a perceptron without any symmetry; a subclass chooses its frames."""

    def __init__(self, settings: Stage2Settings, l_max: int, n_pair_types: int, widths: EdgeWidths) -> None:
        super().__init__()
        s, self.l_max = settings, l_max
        self.compress = SO2Linear(l_max, widths.so2, s.so2_channels)
        self.rescale = Rescale(l_max, 1, 1, s.so2_channels)
        self.pseudoscalar_scale = Rescale(widths.pseudoscalars)
        self.pair_type = nn.Embedding(n_pair_types, s.hidden)
        self.mlp = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(s.hidden), nn.Linear(s.hidden, s.hidden), nn.SiLU(), nn.Linear(s.hidden, s.hidden)
            )
            for _ in range(s.mlp_layers)
        )

    def scaled(self, edges: EdgeFeatures) -> EdgeFeatures:
        """Reduce the SO(2) channels, and scale all features to order one."""
        so2 = self.rescale(self.compress(edges.so2))
        return EdgeFeatures(edges.scalars, self.pseudoscalar_scale(edges.pseudoscalars), so2)

    def hidden(self, x: Tensor, pair_type: Tensor) -> Tensor:
        """Apply the perceptron to the output (E, hidden) of its first linear map."""
        x = nn.functional.silu(x + self.pair_type(pair_type))
        for layer in self.mlp:
            x = x + layer(x)
        return x


class FrameAveragedMap(CovariantMLP):
    """Equivariant as far as learned: frames are turned at random in training, and averaged over in a prediction.

    The average (Puny et al., "Frame averaging", arXiv:2110.03336) is over `turns` evenly spaced turns and their mirror
    images; over the whole of O(2) it would be exactly equivariant. With `rotate` False frames are taken as they come.
    """

    order: Tensor

    def __init__(self, settings: Stage2Settings, l_max: int, n_pair_types: int, widths: EdgeWidths) -> None:
        super().__init__(settings, l_max, n_pair_types, widths)
        s, self.turns, self.rotate = settings, settings.turns, settings.rotate
        self.read = nn.Linear(widths.scalars + widths.pseudoscalars + 2 * l_max * s.so2_channels, s.hidden)
        self.sizes = [s.scalars, s.pseudoscalars, 2 * l_max * s.so2_channels]
        self.write = nn.Linear(s.hidden, sum(self.sizes))
        self.register_buffer("order", torch.arange(1, l_max + 1.0), persistent=False)

    def forward(self, edges: EdgeFeatures, pair_type: Tensor, generator: torch.Generator | None) -> EdgeFeatures:
        """`generator` draws the turns in training."""
        edges, n, like = self.scaled(edges), len(pair_type), edges.scalars
        if not self.rotate:
            return self._in_turned_frames(edges, pair_type, like.new_zeros(n), like.new_ones(n))
        if self.training:
            turn = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype) * 2 * torch.pi
            mirror = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype).round() * 2 - 1
            return self._in_turned_frames(edges, pair_type, turn, mirror)
        images = 2 * self.turns
        turn = torch.arange(images, device=like.device, dtype=like.dtype) // 2 * (2 * torch.pi / self.turns)
        mirror = 1 - 2 * (torch.arange(images, device=like.device, dtype=like.dtype) % 2)
        many = EdgeFeatures(
            edges.scalars.repeat(images, 1),
            edges.pseudoscalars.repeat(images, 1),
            edges.so2.repeat(1, images, 1, 1),
        )
        frames = turn.repeat_interleave(n), mirror.repeat_interleave(n)
        out = self._in_turned_frames(many, pair_type.repeat(images), *frames)
        return EdgeFeatures(
            out.scalars.unflatten(0, (images, n)).mean(0),
            out.pseudoscalars.unflatten(0, (images, n)).mean(0),
            out.so2.unflatten(1, (images, n)).mean(1),
        )

    def _in_turned_frames(self, edges: EdgeFeatures, pair_type: Tensor, turn: Tensor, mirror: Tensor) -> EdgeFeatures:
        """Turn the features (E,), apply the perceptron, and turn its output back."""
        cos, sin = torch.cos(self.order[:, None] * turn)[..., None], torch.sin(self.order[:, None] * turn)[..., None]
        even, odd, flip = edges.so2[:, :, 0], edges.so2[:, :, 1], mirror[:, None]
        turned = torch.stack([cos * even - sin * odd, (sin * even + cos * odd) * flip], 2)
        flat = turned.transpose(0, 1).flatten(1)
        x = self.hidden(self.read(torch.cat([edges.scalars, edges.pseudoscalars * flip, flat], 1)), pair_type)
        scalars, pseudoscalars, flat = self.write(x).split(self.sizes, 1)
        out = flat.unflatten(1, (self.l_max, 2, -1)).transpose(0, 1)
        even, odd = out[:, :, 0], out[:, :, 1] * flip
        so2 = torch.stack([cos * even + sin * odd, cos * odd - sin * even], 2)
        return EdgeFeatures(scalars, pseudoscalars * flip, so2)
