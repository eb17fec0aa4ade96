"""Small pieces: radial features, a two-layer perceptron, per-degree linear maps of irreps."""

import torch
from torch import Tensor, nn


class RadialFeatures(nn.Module):
    """Gaussians in exp(-r / length), evenly spread over (0, 1]: dense where bonds are, sparse far out. (P,) -> (P, n).

    Unke and Meuwly, PhysNet, J. Chem. Theory Comput. 15, 3678 (2019), eq. 8.
    """

    centres: Tensor

    def __init__(self, n: int, length: float = 2.0) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("centres", torch.linspace(0, 1, n), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        n = len(self.centres)
        return torch.exp(-((((-distance / self.length).exp()[:, None] - self.centres) * (n - 1) / 1.5) ** 2) / 2)


def cutoff_envelope(distance: Tensor, reach: Tensor) -> Tensor:
    """1 up to 80 % of the reach, then a cosine down to 0 with zero slope at both ends; (P,) -> (P,)."""
    x = ((distance / reach - 0.8) / 0.2).clamp(0, 1)
    return (1 + torch.cos(torch.pi * x)) / 2


def perceptron(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out))


class IrrepsLinear(nn.Module):
    """A matrix of channels for each degree: (N, (l_max+1)^2, C_in) -> (N, (l_max+1)^2, C_out)."""

    degree: Tensor

    def __init__(self, l_max: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(l_max + 1, n_in, n_out) * gain / n_in**0.5)
        degree = torch.repeat_interleave(torch.arange(l_max + 1), 2 * torch.arange(l_max + 1) + 1)
        self.register_buffer("degree", degree, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.bmm(features.transpose(0, 1), self.weight.index_select(0, self.degree)).transpose(0, 1)


class Rescale(nn.Module):
    """Divide by the root mean square that each channel had on the calibration batch; keeps symmetry, since it only scales.

    `shape` are the axes (from the right) that have a scale of their own, with 1 for those averaged over.
    """

    scale: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.calibrating = False
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.calibrating:
            axes = [k for k in range(x.dim()) if k < x.dim() - self.scale.dim() or self.scale.shape[k - x.dim()] == 1]
            rms = x.detach().square().mean(axes, keepdim=True).sqrt()
            self.scale.copy_(1 / rms.reshape(self.scale.shape).clamp_min(1e-4))
        return x * self.scale


def of_kind(table: Tensor, kind: Tensor) -> Tensor:
    """Rows of a table by kind (E, n); where there is one kind, its row (1, n)."""
    return table if len(table) == 1 else table.index_select(0, kind)


class Standardize(nn.Module):
    """Subtract each kind's mean and divide by the spread within kinds, both as they were on the calibration batch.

    In a set of vibrating molecules an invariant varies by a few per cent of its mean; without this the non-linearity
    behind it would see a constant. (E, n) and kind (E,) -> (E, n).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_kinds: int, width: int, floor: float = 1e-3) -> None:
        super().__init__()
        self.calibrating, self.floor = False, floor
        self.register_buffer("mean", torch.zeros(n_kinds, width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        if self.calibrating:
            self._calibrate(x.detach(), kind)
        return (x - of_kind(self.mean, kind)) * self.scale

    def _calibrate(self, x: Tensor, kind: Tensor) -> None:
        count = torch.bincount(kind, minlength=len(self.mean)).to(x.dtype)
        total = torch.zeros_like(self.mean).index_add(0, kind, x)
        # A kind that the batch does not hold gets the mean of all.
        mean = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], x.mean(0))
        self.mean.copy_(mean)
        spread = (x - mean.index_select(0, kind)).square().mean(0).sqrt()
        self.scale.copy_(1 / torch.maximum(spread, self.floor * x.square().mean(0).sqrt()).clamp_min(1e-5))


def calibrate(module: nn.Module, *inputs) -> None:
    """One forward pass in which every `Rescale` and `Standardize` takes its statistics from the data it meets."""
    parts = [m for m in module.modules() if isinstance(m, Rescale | Standardize)]
    for part in parts:
        part.calibrating = True
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for part in parts:
            part.calibrating = False
