"""Coefficients of an operator as features: what a network that reads H1, H0 or S makes of their blocks."""

from typing import Protocol

import torch
from torch import Tensor, nn

from harmose.nn.ops.so2 import EdgeFeatures, SO2Linear
from harmose.representation.block_irreps import BlockIrreps


class Widths(Protocol):
    """How many features of each sort."""

    @property
    def scalars(self) -> int: ...
    @property
    def pseudoscalars(self) -> int: ...
    @property
    def so2_channels(self) -> int: ...


class CoefficientReader(nn.Module):
    """Coefficients (P, S, K) of one group -> edge features of the pairs and of their reversals."""

    column: Tensor
    sign: Tensor

    def __init__(self, space: BlockIrreps, group: tuple[int, int], widths: Widths) -> None:
        super().__init__()
        s, layout = widths, space.pair_layout(group)
        self.n_proper = layout.n_proper
        n_pseudo = layout.n_irreps - layout.n_proper
        self.proper = nn.ModuleList(nn.Linear(layout.n_proper, s.scalars) for _ in range(2))
        self.pseudo = nn.ModuleList(nn.Linear(n_pseudo, s.pseudoscalars, bias=False) for _ in range(2))
        self.around = nn.ModuleList(SO2Linear(space.l_max, layout.n_irreps, s.so2_channels) for _ in range(2))
        column, sign = layout.reversal
        if group[0] == group[1]:
            self.proper[1], self.pseudo[1], self.around[1] = self.proper[0], self.pseudo[0], self.around[0]
        else:
            column = range(layout.n_irreps)
        self.register_buffer("column", torch.argsort(torch.as_tensor(list(column))), persistent=False)
        self.register_buffer("sign", torch.as_tensor(sign, dtype=torch.float32), persistent=False)

    def forward(self, coefficients: Tensor) -> tuple[EdgeFeatures, EdgeFeatures]:
        back = (coefficients * self.sign).index_select(-1, self.column)
        return self._features(coefficients, 0), self._features(back, 1)

    def _features(self, coefficients: Tensor, direction: int) -> EdgeFeatures:
        n_pairs, n_slots, width = coefficients.shape
        axial = coefficients[:, 0]
        around = coefficients[:, 1:].reshape(n_pairs, n_slots // 2, 2, width).transpose(0, 1)
        return EdgeFeatures(
            self.proper[direction](axial[:, : self.n_proper]),
            self.pseudo[direction](axial[:, self.n_proper :]),
            self.around[direction](around),
        )


def end_to_end(parts: list[EdgeFeatures]) -> EdgeFeatures:
    """Features of the edges of all parts, one part after the other."""
    scalars, pseudoscalars, so2 = zip(*parts, strict=True)
    return EdgeFeatures(torch.cat(scalars), torch.cat(pseudoscalars), torch.cat(so2, 1))
