"""Heads: blocks of j-i are the transposes of those of i-j; missing components are zero; bias at l = 0 alone."""

import pytest
import torch

from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, EdgeWidths
from harmose.nn.stage1.heads import OnsiteHead, PairHead

WIDTHS, PAIRS = EdgeWidths(6, 3, 4), 5


@pytest.fixture
def edges(space) -> EdgeFeatures:
    """Features of both directions of five pairs, the second direction in the frame of the pair."""
    torch.manual_seed(1)
    shapes = (2, PAIRS, 6), (2, PAIRS, 3), (space.l_max, 2, PAIRS, 2, 4)
    return EdgeFeatures(*(torch.randn(*shape, dtype=torch.float64) for shape in shapes))


def head_of(space, group: tuple[int, int]) -> PairHead:
    torch.manual_seed(0)
    head = PairHead(space, group, WIDTHS, gain=1.0).double().requires_grad_(False)
    head.bias.normal_()
    return head


def test_pairs_have_the_shape_of_the_layout(space, edges):
    for group in space.groups:
        layout = space.pair_layout(group)
        c = head_of(space, group)(edges)
        assert c.shape == (PAIRS, layout.n_slots, layout.n_irreps)
        assert (c[:, ~torch.as_tensor(layout.mask)] == 0).all()


def test_exchanged_directions_of_like_atoms_give_the_transposed_block(space, edges):
    group = next(g for g in space.groups if g[0] == g[1])
    head = head_of(space, group)
    flip = torch.tensor([1.0, -1.0]).double()[:, None]  # the reversed edge's frame has the odd halves turned over
    other = EdgeFeatures(edges.scalars.flip(0), edges.pseudoscalars.flip(0), edges.so2.flip(1) * flip)
    column, sign = (torch.as_tensor(x) for x in space.pair_layout(group).reversal)
    torch.testing.assert_close(head(edges), sign * head(other)[:, :, column])


def test_so2_features_turn_with_the_frame(space, edges):
    head = head_of(space, space.groups[0])
    angle = 0.4 * torch.arange(1, space.l_max + 1, dtype=torch.float64)
    x = torch.complex(edges.so2[:, :, :, 0], edges.so2[:, :, :, 1]) * torch.exp(1j * angle)[:, None, None, None]
    turned = edges._replace(so2=torch.stack([x.real, x.imag], 3))
    before, after = head(edges), head(turned)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    a, b = (torch.complex(c[:, 1::2], c[:, 2::2]) for c in (before, after))
    torch.testing.assert_close(b, a * torch.exp(1j * angle)[:, None])


def test_on_site_heads_mix_channels_of_one_degree_and_parity(space):
    torch.manual_seed(0)
    head = OnsiteHead(space, 0, 4, 2, gain=1.0).double().requires_grad_(False)
    head.bias.normal_()
    rows, species = (space.l_max + 1) ** 2, torch.zeros(3, dtype=torch.int64)
    nothing = AtomFeatures(*(torch.zeros(3, rows, n, dtype=torch.float64) for n in (4, 2)))
    c = head(nothing, species)
    assert c[:, 0].abs().max() > 0  # l = 0 alone has a bias
    assert c[:, 1:].abs().max() == 0
    p_rows = nothing._replace(proper=nothing.proper.clone())
    p_rows.proper[:, 1:4] = 1.0
    change = (head(p_rows, species) - c).abs().amax((0, 2))
    assert change[1:4].min() > 0
    assert change[4:].max() == change[0] == 0


def test_gain_zero_predicts_zero(space, edges):
    assert PairHead(space, space.groups[0], WIDTHS, gain=0.0).double()(edges).abs().max() == 0
