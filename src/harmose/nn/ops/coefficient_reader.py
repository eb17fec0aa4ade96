"""`CoefficientReader`: coefficients of an operator's blocks (H1, H0 or S) as input features of a network."""

import torch
from torch import Tensor, nn

from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.ops.so2 import SO2Linear
from harmose.representation.block_irreps import BlockIrreps


class CoefficientReader(nn.Module):
    """Linear maps from the coefficients (P, S, K) of one group to features of its pairs and of their reversals.

    Reversals have maps of their own if the two atoms have different shells; otherwise they share the maps of the pairs.
    """

    column: Tensor
    sign: Tensor

    def __init__(self, space: BlockIrreps, group: tuple[int, int], widths: EdgeWidths) -> None:
        super().__init__()
        layout = space.pair_layout(group)
        self.n_proper = layout.n_proper
        n_pseudo = layout.n_irreps - layout.n_proper
        self.proper = nn.ModuleList(nn.Linear(layout.n_proper, widths.scalars) for _ in range(2))
        self.pseudo = nn.ModuleList(Linear(n_pseudo, widths.pseudoscalars, bias=False) for _ in range(2))
        self.so2 = nn.ModuleList(SO2Linear(space.l_max, layout.n_irreps, widths.so2) for _ in range(2))
        column, sign = layout.reversal
        if group[0] == group[1]:
            self.proper[1], self.pseudo[1], self.so2[1] = self.proper[0], self.pseudo[0], self.so2[0]
        else:
            column = range(layout.n_irreps)
        self.register_buffer("column", torch.argsort(torch.as_tensor(list(column))), persistent=False)
        self.register_buffer("sign", torch.as_tensor(sign, dtype=torch.float32), persistent=False)

    def forward(self, coefficients: Tensor) -> tuple[EdgeFeatures, EdgeFeatures]:
        back = (coefficients * self.sign).index_select(-1, self.column)
        return self._features(coefficients, 0), self._features(back, 1)

    def _features(self, coefficients: Tensor, direction: int) -> EdgeFeatures:
        n_pairs, n_slots, width = coefficients.shape
        m0 = coefficients[:, 0]
        so2 = coefficients[:, 1:].reshape(n_pairs, n_slots // 2, 2, width).transpose(0, 1)
        return EdgeFeatures(
            self.proper[direction](m0[:, : self.n_proper]),
            self.pseudo[direction](m0[:, self.n_proper :]),
            self.so2[direction](so2),
        )


class Linear(nn.Linear):
    """A linear map that may have no inputs: pairs of s shells have no pseudoscalars. torch warns of initializing it."""

    def reset_parameters(self) -> None:
        if self.in_features:
            super().reset_parameters()
