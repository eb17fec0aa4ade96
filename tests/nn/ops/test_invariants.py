"""Scaled SO(2) features and their invariants agree with the plain formula, gradients included."""

import pytest
import torch
from torch.autograd import gradcheck

from harmose.nn.ops.invariants import scaled_with_invariants
from harmose.nn.ops.saturation import INVARIANT_BOUND
from harmose.nn.ops.so2 import so2_log_norms

ORDERS, EDGES, WIDTH, SCALARS = 2, 3, 2, 4


def inputs(spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """`spread`: of the standardized invariants."""
    torch.manual_seed(0)
    shapes = (ORDERS, EDGES, 2, WIDTH), (ORDERS, EDGES, 1, WIDTH), (EDGES, SCALARS)
    width = SCALARS + ORDERS * WIDTH
    constants = torch.randn(EDGES, width).double(), spread * torch.rand(width).double()
    return *(torch.randn(s).double().requires_grad_() for s in shapes), *constants


def test_the_plain_formula():
    so2, factors, scalars, mean, scale = inputs()
    x, invariants = scaled_with_invariants(so2, factors, scalars, mean, scale, False)
    torch.testing.assert_close(x, so2 * factors)
    plain = (torch.cat([scalars, so2_log_norms(so2 * factors)], 1) - mean) * scale
    torch.testing.assert_close(invariants, plain)
    x, invariants = scaled_with_invariants(so2, factors, scalars, mean, scale, True)
    torch.testing.assert_close(x, so2 * factors)
    torch.testing.assert_close(invariants, plain / (1 + (plain / INVARIANT_BOUND) ** 2).sqrt())


@pytest.mark.parametrize(("bounded", "spread"), [(False, 1), (True, 1), (True, 30)])
def test_gradients(bounded, spread):
    """With a spread of 30 most invariants are near their bound."""
    made = inputs(spread)
    if spread > 1:
        assert scaled_with_invariants(*made, True)[1].abs().median() > INVARIANT_BOUND / 2
    assert gradcheck(lambda *x: scaled_with_invariants(*x, bounded), made)


def test_large_invariants_are_bounded():
    so2, factors, scalars, mean, scale = (x.detach().float() for x in inputs())
    for size in (1e3, 1e9, 1e15):
        x, invariants = scaled_with_invariants(size * so2, factors, size * scalars, mean, scale, True)
        assert torch.isfinite(x).all()
        assert invariants.abs().max() <= INVARIANT_BOUND * (1 + 1e-6)
        assert torch.isfinite(invariants).all()
