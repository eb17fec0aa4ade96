"""`OutputScale`: scales of stage 2's outputs, the size of the residual that stage 1 leaves.

An optimizer that normalizes its steps, such as Adam, changes every output by about the learning rate times the number
of features, however small the residual is. Without these scales the steps of stage 2 would be larger than a residual
that stage 1 has reduced to a thousandth of the targets.
"""

import torch
from torch import Tensor, nn

from harmose.representation.block_irreps import BlockIrreps, Coefficients


class OutputScale(nn.Module):
    """Scales of each irrep of each group (K,), and of each degree and column on site ((l_max+1)^2, K); first one."""

    def __init__(self, space: BlockIrreps) -> None:
        super().__init__()
        self.space = space
        for k, group in enumerate(space.groups):
            self.register_buffer(f"pairs{k}", torch.ones(space.pair_layout(group).n_irreps))
        for s in range(len(space.shell_types)):
            self.register_buffer(f"onsite{s}", torch.ones(space.onsite_layout(s).mask.shape))

    def forward(self, c: Coefficients) -> Coefficients:
        """Multiply coefficients by the scales."""
        return Coefficients(
            {g: x * self.get_buffer(f"pairs{k}") for k, (g, x) in enumerate(c.pairs.items())},
            {s: x * self.get_buffer(f"onsite{s}") for s, x in c.onsite.items()},
        )

    @torch.no_grad()
    def fit(self, residual: Coefficients) -> None:
        """Set the scales to the root mean square of a residual; groups without blocks in it keep theirs."""
        for k, (group, x) in enumerate(residual.pairs.items()):
            layout = self.space.pair_layout(group)
            if not x.numel():
                continue
            square = x.square().sum(1).mean(0) / torch.as_tensor(layout.mask.sum(0)).to(x)
            if group[0] == group[1]:  # a pair and its reversal are treated alike
                square = (square + square[torch.as_tensor(layout.reversal[0], device=x.device)]) / 2
            self.get_buffer(f"pairs{k}").copy_(_root(square))
        degree = torch.repeat_interleave(torch.arange(self.space.l_max + 1), 2 * torch.arange(self.space.l_max + 1) + 1)
        same_degree = (degree[:, None] == degree).double()
        same_degree = same_degree / same_degree.sum(1, keepdim=True)
        for s, x in residual.onsite.items():
            if x.numel():
                self.get_buffer(f"onsite{s}").copy_(_root(same_degree.to(x) @ x.square().mean(0)))


def _root(square: Tensor) -> Tensor:
    return square.sqrt().clamp_min(1e-6)
