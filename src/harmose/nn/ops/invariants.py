"""The invariants that a gate sees, in few passes over memory: scaled doublets and, standardized, what no turn changes of them."""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from harmose.nn.ops import frames_traced as traced


def scaled_with_invariants(
    so2: Tensor, factors: Tensor, scalars: Tensor, mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """`x = doublets * factors` (M, E, 2, n), and scalars (E, n0) with `log(1 + |x|^2)`, less `mean`, times `scale`: (E, n0 + M n).

    factors (M, E, 1, n); mean (E or 1, n0 + M n) and scale (n0 + M n,) are constants.
    """
    if is_compiling():
        return traced.scaled_with_invariants(so2, factors, scalars, mean, scale)
    return _Scaled.apply(so2, factors, scalars, mean, scale)  # type: ignore[return-value]


def _of_orders(x: Tensor, so2: Tensor) -> Tensor:
    """A view (M, E, n) of the last columns of (E, n0 + M n)."""
    orders, _, _, width = so2.shape
    return x[:, x.shape[1] - orders * width :].unflatten(1, (orders, width)).transpose(0, 1)


class _Scaled(Function):
    @staticmethod
    def forward(ctx, so2: Tensor, factors: Tensor, scalars: Tensor, mean: Tensor, scale: Tensor):
        x = so2 * factors
        even, odd = x.unbind(2)
        one_more = torch.addcmul(even * even, odd, odd).add_(1)
        seen = scalars.new_empty(len(scalars), len(scale))
        seen[:, : scalars.shape[1]] = scalars
        torch.log(one_more, out=_of_orders(seen, so2))
        ctx.save_for_backward(so2, factors, x, one_more, scale)
        return x, seen.sub_(mean).mul_(scale)

    @staticmethod
    def backward(ctx, of_x: Tensor, of_seen: Tensor):  # type: ignore[override]
        so2, factors, x, one_more, scale = ctx.saved_tensors
        of_seen = of_seen * scale
        of_square = _of_orders(of_seen, so2) / one_more
        of_x = torch.addcmul(of_x, x, of_square.unsqueeze(2), value=2)
        (even, odd), (of_even, of_odd) = so2.unbind(2), of_x.unbind(2)
        of_factors = torch.addcmul(even * of_even, odd, of_odd).unsqueeze(2)
        width = of_seen.shape[1] - x.shape[0] * x.shape[3]
        return of_x.mul_(factors), of_factors, of_seen[:, :width], None, None
