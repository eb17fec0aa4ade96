"""Linear maps of features in edge frames that O(3) allows, and invariants of such features.

A map that commutes with O(2) multiplies both halves of an SO(2) feature by the same real matrix. eSCN (Passaro and
Zitnick, arXiv:2302.03655), which has no mirror, allows a complex matrix. All orders have the same width and share one
batched product.
"""

import torch
from torch import Tensor, nn


class SO2Linear(nn.Module):
    """One real matrix for each order m: (M, E, 2, n_in) -> (M, E, 2, n_out)."""

    def __init__(self, orders: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(orders, n_in, n_out) * gain / n_in**0.5)

    def forward(self, so2: Tensor) -> Tensor:
        orders, edges, _, width = so2.shape
        flat = torch.bmm(so2.reshape(orders, 2 * edges, width), self.weight)
        return flat.view(orders, edges, 2, self.weight.shape[-1])


def so2_log_norms(so2: Tensor) -> Tensor:
    """Invariants log(1 + |x_m|^2) of SO(2) features: (M, E, 2, n) -> (E, M n)."""
    return torch.log1p(so2.square().sum(2)).transpose(0, 1).flatten(1)
