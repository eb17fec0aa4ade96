"""The exact map commutes with turns about the edge and with the mirror, and is smooth where directions vanish."""

import pytest
import torch

from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.ops.layers import calibrate
from harmose.nn.stage2.equivariant_map import EquivariantMap
from harmose.nn.stage2.settings import Stage2Settings

L, N = 3, 20
WIDTHS, PAIR_TYPE = EdgeWidths(6, 3, 5), torch.arange(N) % 2
SETTINGS = Stage2Settings(scalars=4, pseudoscalars=2, so2_channels=3, hidden=16, mlp_layers=1, directions=2)


@pytest.fixture
def edges() -> EdgeFeatures:
    torch.manual_seed(1)
    return EdgeFeatures(*(torch.randn(*s).double() for s in ((N, 6), (N, 3), (L, N, 2, 5))))


@pytest.fixture
def exact(edges) -> EquivariantMap:
    torch.manual_seed(0)
    made = EquivariantMap(SETTINGS, L, 2, WIDTHS).double().requires_grad_(False)
    calibrate(made, edges, PAIR_TYPE)
    return made


def turned(edges: EdgeFeatures, angle: float, mirror: int = 1) -> EdgeFeatures:
    """The features in frames that are turned, and then mirrored if `mirror` is -1."""
    x = torch.complex(edges.so2[:, :, 0], edges.so2[:, :, 1])
    x = x * torch.exp(1j * angle * torch.arange(1, L + 1).double())[:, None, None]
    return EdgeFeatures(edges.scalars, mirror * edges.pseudoscalars, torch.stack([x.real, mirror * x.imag], 2))


def same(a: EdgeFeatures, b: EdgeFeatures) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y)


def test_widths_are_those_of_the_settings(exact, edges):
    out = exact(edges, PAIR_TYPE)
    assert [tuple(x.shape) for x in out] == [(N, 4), (N, 2), (L, N, 2, 3)]


@pytest.mark.parametrize("mirror", [1, -1])
def test_turns_and_mirror(exact, edges, mirror):
    out = exact(edges, PAIR_TYPE)
    assert min(x.abs().mean() for x in out) > 1e-2
    same(exact(turned(edges, 0.7, mirror), PAIR_TYPE), turned(out, 0.7, mirror))


def test_isolated_atoms_have_gradients_of_zero(exact, edges):
    none = EdgeFeatures(edges.scalars[:0], edges.pseudoscalars[:0], edges.so2[:, :0])
    exact.requires_grad_(True)
    out = exact(EdgeFeatures(*(x.requires_grad_() for x in none)), PAIR_TYPE[:0])
    sum(x.square().sum() for x in out).backward()
    assert all(p.grad is None or not p.grad.any() for p in exact.parameters())


def test_the_map_is_not_linear(exact, edges):
    one, other = exact(edges, PAIR_TYPE), exact(EdgeFeatures(*(2 * x for x in edges)), PAIR_TYPE)
    assert (other.so2 - 2 * one.so2).abs().max() > 1e-2 * one.so2.abs().max()


def test_features_without_direction_stay_without(exact, edges):
    symmetric = EdgeFeatures(edges.scalars, torch.zeros_like(edges.pseudoscalars), torch.zeros_like(edges.so2))
    out = exact(symmetric, PAIR_TYPE)
    assert out.so2.abs().max() == 0
    assert out.pseudoscalars.abs().max() < 1e-12
    assert out.scalars.abs().max() > 1e-2


def test_slopes_agree_near_a_vanishing_direction(exact, edges):
    zero = edges._replace(so2=torch.zeros_like(edges.so2))
    rest = exact(zero, PAIR_TYPE)
    slopes = [
        (exact(zero._replace(so2=step * edges.so2), PAIR_TYPE).so2 - rest.so2).abs().max() / step
        for step in (1e-4, 1e-6)
    ]
    assert slopes[0] > 1e-3
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-2, atol=0)
