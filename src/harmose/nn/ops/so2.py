"""Features in edge frames and the linear maps that O(3) allows between them.

In the frame of an edge the remaining symmetry is O(2): scalars, pseudoscalars (odd under the mirror) and doublets of order
m = 1..M, two numbers each that turn by e^{i m a}. A map that commutes with O(2) multiplies the even and the odd half of a
doublet by the same real matrix (eSCN of Passaro and Zitnick, arXiv 2302.03655, has a complex one: it knows no mirror).
All orders have the same width, so that they share one batched product.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class EdgeFeatures(NamedTuple):
    """scalars (E, n0); pseudoscalars (E, p); doublets (M, E, 2, n), even half first."""

    scalars: Tensor
    pseudoscalars: Tensor
    so2: Tensor


class SO2Linear(nn.Module):
    """(M, E, 2, n_in) -> (M, E, 2, n_out), one real matrix for each order m."""

    def __init__(self, orders: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(orders, n_in, n_out) * gain / n_in**0.5)

    def forward(self, so2: Tensor) -> Tensor:
        orders, edges, _, width = so2.shape
        return torch.bmm(so2.reshape(orders, 2 * edges, width), self.weight).view(
            orders, edges, 2, self.weight.shape[-1]
        )


def so2_log_norms(so2: Tensor) -> Tensor:
    """log(1 + |x_m|^2), invariants: (M, E, 2, n) -> (E, M n)."""
    return torch.log1p(so2.square().sum(2)).transpose(0, 1).flatten(1)
