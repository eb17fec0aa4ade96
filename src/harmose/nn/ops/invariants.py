"""A fused operation: rescale SO(2) features, and compute their standardized log-norms, the input of a gate."""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from harmose.nn.ops import frames_traced as traced
from harmose.nn.ops.saturation import INVARIANT_BOUND


def scaled_with_invariants(
    so2: Tensor, factors: Tensor, scalars: Tensor, mean: Tensor, scale: Tensor, bounded: bool
) -> tuple[Tensor, Tensor]:
    """`x = so2 * factors` (M, E, 2, n), and the standardized invariants (scalars, log(1 + |x|^2)) (E, n0 + M n).

    so2 (M, E, 2, n), factors (M, E, 1, n), scalars (E, n0); mean (E or 1, n0 + M n) and scale (n0 + M n,) are
    constants. `bounded`: the invariants are bounded smoothly (`saturation`).
    """
    if is_compiling():
        return traced.scaled_with_invariants(so2, factors, scalars, mean, scale, bounded)
    return _Scaled.apply(so2, factors, scalars, mean, scale, bounded)  # type: ignore[return-value]


def _last_columns(x: Tensor, so2: Tensor) -> Tensor:
    """View the last columns of x (E, n0 + M n) as (M, E, n)."""
    orders, _, _, width = so2.shape
    return x[:, x.shape[1] - orders * width :].unflatten(1, (orders, width)).transpose(0, 1)


class _Scaled(Function):
    @staticmethod
    def forward(ctx, so2: Tensor, factors: Tensor, scalars: Tensor, mean: Tensor, scale: Tensor, bounded: bool):
        x = so2 * factors
        even, odd = x.unbind(2)
        one_more = torch.addcmul(even * even, odd, odd).add_(1)
        invariants = scalars.new_empty(len(scalars), len(scale))
        invariants[:, : scalars.shape[1]] = scalars
        torch.log(one_more, out=_last_columns(invariants, so2))
        invariants.sub_(mean).mul_(scale)
        shrunk = None
        if bounded:
            shrunk = torch.rsqrt((invariants * (1 / INVARIANT_BOUND)).square_().add_(1))
            invariants.mul_(shrunk)
        ctx.save_for_backward(so2, factors, x, one_more, scale, shrunk)
        return x, invariants

    @staticmethod
    def backward(ctx, grad_x: Tensor, grad_invariants: Tensor):  # type: ignore[override]
        so2, factors, x, one_more, scale, shrunk = ctx.saved_tensors
        grad_invariants = grad_invariants * scale
        if shrunk is not None:
            grad_invariants.mul_(shrunk * shrunk * shrunk)
        grad_square = _last_columns(grad_invariants, so2) / one_more
        grad_x = torch.addcmul(grad_x, x, grad_square.unsqueeze(2), value=2)
        (even, odd), (grad_even, grad_odd) = so2.unbind(2), grad_x.unbind(2)
        grad_factors = torch.addcmul(even * grad_even, odd, grad_odd).unsqueeze(2)
        width = grad_invariants.shape[1] - x.shape[0] * x.shape[3]
        return grad_x.mul_(factors), grad_factors, grad_invariants[:, :width], None, None, None
