"""Smooth bounds: norms, small values, equivariance, gradients, and numbers that are too large."""

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag
from torch import Tensor
from torch.autograd import gradcheck

from harmose.nn.ops.saturation import OUTPUT_BOUND, saturate, saturate_onsite, saturate_pairs, times
from harmose.representation.block_irreps import Coefficients
from harmose.so3.wigner import random_rotation

DEGREES = 3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng([seed, *shape]).normal(size=shape))


def norms(x: Tensor) -> Tensor:
    """Norms of the components of each degree (N, degrees, K)."""
    return torch.stack([part.norm(dim=1) for part in x.split([2 * l + 1 for l in range(DEGREES + 1)], 1)], 1)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e8])
def test_norms_are_bounded_and_directions_kept(size):
    pairs, onsite = size * random(20, 7, 4), size * random(20, (DEGREES + 1) ** 2, 4)
    for norm, x, bounded in (
        (lambda x: x.norm(dim=1), pairs, saturate_pairs(pairs)),
        (norms, onsite, saturate_onsite(onsite)),
    ):
        expected = norm(x) / (1 + (norm(x) / OUTPUT_BOUND) ** 2).sqrt()
        torch.testing.assert_close(norm(bounded), expected)
        assert norm(bounded).max() <= OUTPUT_BOUND * (1 + 1e-12)
        parallel = (bounded * x).sum(1) / (bounded.norm(dim=1) * x.norm(dim=1))
        if norm is not norms:
            torch.testing.assert_close(parallel, torch.ones_like(parallel))


def test_each_irrep_has_its_own_bound():
    """A large column, or a large degree of one, does not make another one smaller."""
    x = random(5, (DEGREES + 1) ** 2, 4)
    other = x.clone()
    other[:, 4:9, 2] *= 1e6
    one, two = saturate_onsite(x), saturate_onsite(other)
    kept = torch.ones_like(x, dtype=torch.bool)
    kept[:, 4:9, 2] = False
    torch.testing.assert_close(one[kept], two[kept], rtol=0, atol=0)
    pairs = random(5, 7, 4)
    larger = pairs * torch.tensor([1.0, 1e6, 1.0, 1.0])
    torch.testing.assert_close(saturate_pairs(larger)[..., [0, 2, 3]], saturate_pairs(pairs)[..., [0, 2, 3]])


def test_small_values_change_in_third_order_alone():
    x = random(10, (DEGREES + 1) ** 2, 3)
    changes = [(saturate_onsite(s * x) - s * x).abs().max() / s**3 for s in (1e-2, 1e-3)]
    assert changes[0] == pytest.approx(float(changes[1]), rel=1e-3)
    assert changes[0] < 1e3 / OUTPUT_BOUND**2


def test_bounds_turn_with_the_irreps(e3nn_wigner):
    rotation = random_rotation(np.random.default_rng(0))
    d = torch.block_diag(*(e3nn_wigner(l, rotation) for l in range(DEGREES + 1)))
    x = 10 * random(6, (DEGREES + 1) ** 2, 3)
    turned = saturate_onsite(torch.einsum("ij,njc->nic", d, x))
    torch.testing.assert_close(turned, torch.einsum("ij,njc->nic", d, saturate_onsite(x)))


def test_bounds_turn_about_the_edge():
    """Components m and -m of a pair turn into each other."""
    x, angle = 10 * random(6, 5, 3), 0.7
    turns = [[[np.cos(m * angle), -np.sin(m * angle)], [np.sin(m * angle), np.cos(m * angle)]] for m in (1, 2)]
    d = torch.as_tensor(block_diag(1.0, *turns))
    turned = saturate_pairs(torch.einsum("ij,njc->nic", d, x))
    torch.testing.assert_close(turned, torch.einsum("ij,njc->nic", d, saturate_pairs(x)))


def test_gradients():
    pairs, onsite = (3 * random(2, n, 2) for n in (5, (DEGREES + 1) ** 2))
    assert gradcheck(saturate_pairs, [pairs.requires_grad_()])
    assert gradcheck(saturate_onsite, [onsite.requires_grad_()])


@pytest.mark.parametrize("function", [saturate_pairs, saturate_onsite])
@pytest.mark.parametrize("size", [1e12, 1e18, 1e25, 1e37])
def test_numbers_that_are_too_large_are_not_undefined(function, size):
    """In float32 the square of 1e25 is infinite."""
    x = (size * random(4, 9, 3).clamp(-2, 2)).float().requires_grad_()
    y = function(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(y).all()
    assert y.abs().max() <= OUTPUT_BOUND * (1 + 1e-6)
    assert torch.isfinite(grad).all()


def test_saturate_is_odd_and_monotonic():
    x = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    y = saturate(x, x.square(), 10.0)
    torch.testing.assert_close(y, -y.flip(0))
    assert (y.diff() > 0).all()
    assert y[-1] == pytest.approx(50 / np.sqrt(26))


def test_blocks_are_multiplied_by_numbers():
    c = Coefficients({(0, 1): random(3, 5, 2).float()}, {0: random(2, 9, 2)})
    of_pairs, of_atoms = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), torch.tensor([2.0, 1.0])
    out = times(c, {(0, 1): of_pairs}, {0: of_atoms})
    assert out.pairs[(0, 1)].dtype == torch.float32
    assert not out.pairs[(0, 1)][0].any()
    torch.testing.assert_close(out.pairs[(0, 1)][1:], torch.stack([c.pairs[(0, 1)][1] / 2, c.pairs[(0, 1)][2]]))
    torch.testing.assert_close(out.onsite[0], torch.stack([2 * c.onsite[0][0], c.onsite[0][1]]))
