"""Coefficients of blocks as features: covariant under turns about the edge, and the same from either end of a pair."""

import pytest
import torch

from harmose.nn.ops.coefficient_reader import CoefficientReader
from harmose.nn.ops.features import EdgeWidths

WIDTHS = EdgeWidths(5, 3, 4)


@pytest.fixture
def reader(space):
    """`reader(group)` with random weights, and random coefficients of four pairs."""

    def make(group: tuple[int, int]):
        torch.manual_seed(0)
        layout = space.pair_layout(group)
        mask = torch.as_tensor(layout.mask)
        return CoefficientReader(space, group, WIDTHS).double(), torch.randn(4, *mask.shape, dtype=torch.float64) * mask

    return make


def test_shapes(space, reader):
    for group in space.groups:
        module, coefficients = reader(group)
        for edges in module(coefficients):
            assert [tuple(x.shape) for x in edges] == [(4, 5), (4, 3), (space.l_max, 4, 2, 4)]


def test_so2_features_turn_with_the_frame(space, reader):
    module, coefficients = reader(space.groups[0])
    angle = 0.7 * torch.arange(1, space.l_max + 1, dtype=torch.float64)[:, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    even, odd = coefficients[:, 1::2], coefficients[:, 2::2]
    turned = coefficients.clone()
    turned[:, 1::2], turned[:, 2::2] = cos * even - sin * odd, sin * even + cos * odd
    before, after = (module(c)[0] for c in (coefficients, turned))
    torch.testing.assert_close(after.scalars, before.scalars)
    torch.testing.assert_close(after.pseudoscalars, before.pseudoscalars)
    x, y = (torch.complex(e.so2[:, :, 0], e.so2[:, :, 1]) for e in (before, after))
    torch.testing.assert_close(y, x * torch.exp(1j * angle)[..., None])


def test_reversed_pairs_of_like_atoms_have_the_features_of_the_reversed_edge(space, reader):
    """The same block seen from the other atom: features of the two directions are exchanged."""
    group = next(g for g in space.groups if g[0] == g[1])
    module, coefficients = reader(group)
    column, sign = (torch.as_tensor(x) for x in space.pair_layout(group).reversal)
    swapped = torch.empty_like(coefficients)
    swapped[:, :, column] = coefficients * sign
    (ahead, back), (other_ahead, other_back) = module(coefficients), module(swapped)
    for x, y in zip((*ahead, *back), (*other_back, *other_ahead), strict=True):
        torch.testing.assert_close(x, y)


def test_unlike_atoms_have_maps_of_their_own_for_reversed_pairs(space):
    own, shared = (
        next(CoefficientReader(space, g, WIDTHS) for g in space.groups if (g[0] == g[1]) == same)
        for same in (False, True)
    )
    assert sum(p.numel() for p in own.parameters()) > 0
    assert own.so2[0] is not own.so2[1]
    assert shared.so2[0] is shared.so2[1]
