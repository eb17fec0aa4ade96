"""Small layers: radial features, a two-layer perceptron, linear maps of irreps, and scales fitted to a batch."""

import torch
from torch import Tensor, nn

from harmose.nn.ops.saturation import INVARIANT_BOUND, Bounded, saturate


class RadialFeatures(nn.Module):
    """Gaussians in exp(-r / length), evenly spaced in (0, 1]: dense at bond lengths, sparse at large r. (P,) -> (P, n).

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
    """1 up to 80 % of the reach, then a cosine that falls to 0 with zero slope at both ends; (P,) -> (P,)."""
    x = ((distance / reach - 0.8) / 0.2).clamp(0, 1)
    return (1 + torch.cos(torch.pi * x)) / 2


def perceptron(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out))


class IrrepsLinear(nn.Module):
    """One matrix of channels for each degree l: (N, (l_max+1)^2, C_in) -> (N, (l_max+1)^2, C_out)."""

    degree: Tensor

    def __init__(self, l_max: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(l_max + 1, n_in, n_out) * gain / n_in**0.5)
        degree = torch.repeat_interleave(torch.arange(l_max + 1), 2 * torch.arange(l_max + 1) + 1)
        self.register_buffer("degree", degree, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.bmm(features.transpose(0, 1), self.weight.index_select(0, self.degree)).transpose(0, 1)


class Calibrated(nn.Module):
    """A layer whose scales are fitted to a batch of the training set, once before training (`calibrate`)."""

    def fit(self, *inputs) -> None:
        """Fit the scales to the arguments of `forward`."""
        raise NotImplementedError


VANISHING = 1e-5
"""Channels with a smaller root mean square vanish by symmetry, as pseudoscalars of planar molecules do."""


class Rescale(Calibrated):
    """Divide each channel by its root mean square on the calibration batch; one scale for all components of an irrep.

    `shape` are the last axes of the input, with 1 for those that share a scale. Channels that vanish keep scale one.
    """

    scale: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def fit(self, x: Tensor) -> None:
        axes = [k for k in range(x.dim()) if k < x.dim() - self.scale.dim() or self.scale.shape[k - x.dim()] == 1]
        rms = x.square().mean(axes, keepdim=True).sqrt()
        rms = rms.reshape(self.scale.shape)
        self.scale.copy_(torch.where(rms > VANISHING, 1 / rms.clamp_min(1e-4), 1.0))


def select_by_type(table: Tensor, pair_type: Tensor) -> Tensor:
    """Rows (E, n) of a table, one for each pair type; the only row (1, n) of a table of one."""
    return table if len(table) == 1 else table.index_select(0, pair_type)


class Standardize(Calibrated, Bounded):
    """Subtract the mean of each pair type and divide by the spread within types, both of the calibration batch.

    In a set of vibrating molecules an invariant varies by a few per cent of its mean; without this layer the
    non-linearity that follows would see a constant. Input (E, n) and pair_type (E,), output (E, n), bounded smoothly.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_pair_types: int, width: int, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(n_pair_types, width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x: Tensor, pair_type: Tensor) -> Tensor:
        x = (x - select_by_type(self.mean, pair_type)) * self.scale
        return saturate(x, x.square(), INVARIANT_BOUND) if self.bounded else x

    def fit(self, x: Tensor, pair_type: Tensor) -> None:
        count = torch.bincount(pair_type, minlength=len(self.mean)).to(x.dtype)
        total = torch.zeros_like(self.mean).index_add(0, pair_type, x)
        # Pair types that the batch lacks get the mean of all edges.
        mean = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], x.mean(0))
        self.mean.copy_(mean)
        spread = (x - mean.index_select(0, pair_type)).square().mean(0).sqrt()
        self.scale.copy_(1 / torch.maximum(spread, self.floor * x.square().mean(0).sqrt()).clamp_min(1e-5))


@torch.no_grad()
def calibrate(module: nn.Module, *inputs) -> None:
    """Run `module` once, and fit every `Calibrated` layer to its inputs before it is applied to them."""

    def fit(layer: nn.Module, layer_inputs: tuple) -> None:
        layer.fit(*layer_inputs)  # type: ignore[operator]

    hooks = [m.register_forward_pre_hook(fit) for m in module.modules() if isinstance(m, Calibrated)]
    try:
        module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
