"""Small pieces: radial features, a two-layer perceptron, per-degree linear maps of irreps."""

import torch
from torch import Tensor, nn


class RadialFeatures(nn.Module):
    """Gaussians in exp(-r / length), evenly spread over (0, 1]: dense where bonds are, sparse far out. (P,) -> (P, n).

    Unke and Meuwly, PhysNet, J. Chem. Theory Comput. 15, 3678 (2019), eq. 8.
    """

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

    def __init__(self, l_max: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(l_max + 1, n_in, n_out) * gain / n_in**0.5)
        degree = torch.repeat_interleave(torch.arange(l_max + 1), 2 * torch.arange(l_max + 1) + 1)
        self.register_buffer("degree", degree, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.bmm(features.transpose(0, 1), self.weight[self.degree]).transpose(0, 1)
