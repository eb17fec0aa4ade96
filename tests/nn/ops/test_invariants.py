"""Scaled SO(2) features and their invariants agree with the plain formula, gradients included."""

import torch
from torch.autograd import gradcheck

from harmose.nn.ops.invariants import scaled_with_invariants
from harmose.nn.ops.so2 import so2_log_norms

ORDERS, EDGES, WIDTH, SCALARS = 2, 3, 2, 4


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    shapes = (ORDERS, EDGES, 2, WIDTH), (ORDERS, EDGES, 1, WIDTH), (EDGES, SCALARS)
    width = SCALARS + ORDERS * WIDTH
    constants = torch.randn(EDGES, width).double(), torch.rand(width).double()
    return *(torch.randn(s).double().requires_grad_() for s in shapes), *constants


def test_the_plain_formula():
    so2, factors, scalars, mean, scale = inputs()
    x, invariants = scaled_with_invariants(so2, factors, scalars, mean, scale)
    torch.testing.assert_close(x, so2 * factors)
    plain = (torch.cat([scalars, so2_log_norms(so2 * factors)], 1) - mean) * scale
    torch.testing.assert_close(invariants, plain)


def test_gradients():
    assert gradcheck(scaled_with_invariants, inputs())
