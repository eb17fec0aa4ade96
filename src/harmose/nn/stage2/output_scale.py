"""`Sizes`: how large a correction is, so that stage 2 answers in units of what stage 1 leaves.

An optimizer that normalises its steps, as Adam does, moves every output by about the learning rate times the number of
features, however small the residual. Where stage 1 has come down to a thousandth of what it began with, stage 2 would
spend its time on its own noise.
"""

import torch
from torch import Tensor, nn

from harmose.representation.block_irreps import BlockIrreps, Coefficients


class Sizes(nn.Module):
    """A size for each irrep of each group (K,), and for each degree of each column on site ((l_max+1)^2, K); one at first."""

    def __init__(self, space: BlockIrreps) -> None:
        super().__init__()
        self.space = space
        for k, group in enumerate(space.groups):
            self.register_buffer(f"pairs{k}", torch.ones(space.pair_layout(group).n_irreps))
        for s in range(len(space.signatures)):
            self.register_buffer(f"onsite{s}", torch.ones(space.onsite_layout(s).mask.shape))

    def forward(self, c: Coefficients) -> Coefficients:
        """Coefficients in these units -> normalised coefficients."""
        return Coefficients(
            {g: x * self.get_buffer(f"pairs{k}") for k, (g, x) in enumerate(c.pairs.items())},
            {s: x * self.get_buffer(f"onsite{s}") for s, x in c.onsite.items()},
        )

    @torch.no_grad()
    def fit(self, residual: Coefficients) -> None:
        """The root mean square of each component; groups that the residual has no blocks of keep what they have."""
        for k, (group, x) in enumerate(residual.pairs.items()):
            layout = self.space.pair_layout(group)
            if not x.numel():
                continue
            square = x.square().sum(1).mean(0) / torch.as_tensor(layout.mask.sum(0)).to(x)
            if group[0] == group[1]:  # which of two like atoms is first must not count
                square = (square + square[torch.as_tensor(layout.reversal[0], device=x.device)]) / 2
            self.get_buffer(f"pairs{k}").copy_(_root(square))
        degree = torch.repeat_interleave(torch.arange(self.space.l_max + 1), 2 * torch.arange(self.space.l_max + 1) + 1)
        same = (degree[:, None] == degree).double()
        same = same / same.sum(1, keepdim=True)
        for s, x in residual.onsite.items():
            if x.numel():
                self.get_buffer(f"onsite{s}").copy_(_root(same.to(x) @ x.square().mean(0)))


def _root(square: Tensor) -> Tensor:
    return square.sqrt().clamp_min(1e-6)
