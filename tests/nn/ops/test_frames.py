"""Rotations into the frames of pairs and back, and fused maps there: against plain formulas, with their gradients."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from harmose.nn.ops.frames import (
    PairFrames,
    ReversalSigns,
    both_directions,
    gather_in_frames,
    m0_signs,
    messages_in_frames,
    so2_convolution,
    so2_signs,
    sum_over_edges,
)
from harmose.nn.ops.frames import pair_frames as prepared
from harmose.representation.layout import pair_frames, reversal_signs
from harmose.so3.wigner import edge_wigner

L, C, U, WIDTH, ATOMS, PAIRS = 2, 2, 1, 3, 3, 4
SIGNS = ReversalSigns(so2_signs(L).double(), m0_signs(L).double())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng([seed, *shape]).normal(size=shape)).requires_grad_()


def frames_of(vectors: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> PairFrames:
    rotation = pair_frames([torch.from_numpy(edge_wigner(l, vectors)) for l in range(L + 1)])
    weight = torch.linspace(0.2, 1, len(vectors), dtype=torch.float64)[:, None, None]
    return prepared(rotation, torch.as_tensor(reversal_signs(L))[:, None], weight, first, second, ATOMS)


VECTORS = random(PAIRS, 3).detach()
FIRST, SECOND = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 2, 2])
FRAMES, BACK = frames_of(VECTORS, FIRST, SECOND), frames_of(-VECTORS, SECOND, FIRST)


def half(x: torch.Tensor, k: int, axis: int = 0) -> torch.Tensor:
    """Rows of the pairs (k = 0), or of the reversed pairs."""
    return x.unflatten(axis, (2, PAIRS)).select(axis, k)


def test_gather_rotates_both_atoms():
    features = random(ATOMS, (L + 1) ** 2, C)
    first, second = gather_in_frames(features, FRAMES).chunk(2, -1)
    torch.testing.assert_close(first, FRAMES.rotation @ features[FIRST])
    torch.testing.assert_close(second, FRAMES.rotation @ features[SECOND])


@pytest.mark.parametrize("is_proper", [True, False])
def test_reversed_pairs_are_the_pairs_of_the_reversed_graph(is_proper):
    features = random(ATOMS, (L + 1) ** 2, C)
    ahead, back = (both_directions(gather_in_frames(features, frames), SIGNS, is_proper) for frames in (FRAMES, BACK))
    torch.testing.assert_close(half(ahead[0], 1), half(back[0], 0))
    torch.testing.assert_close(half(ahead[1], 1, 1), half(back[1], 0, 1))


def test_convolution_is_a_linear_map_of_each_directions_features():
    features = random(ATOMS, (L + 1) ** 2, C), random(ATOMS, (L + 1) ** 2, U)
    in_frames = [gather_in_frames(x, FRAMES) for x in features]
    m0, weight = random((L + 1) * 2 * C, 5), random(L, L * 2 * (C + U), WIDTH)
    scalars, so2 = so2_convolution(*in_frames, m0, weight, SIGNS)
    (first, proper_so2), (_, pseudo_so2) = (
        both_directions(x, SIGNS, k) for x, k in zip(in_frames, (True, False), strict=True)
    )
    torch.testing.assert_close(scalars, first @ m0)
    torch.testing.assert_close(so2, torch.cat([proper_so2, pseudo_so2], -1) @ weight[:, None])


def test_sums_do_not_depend_on_which_direction_comes_first():
    """With directions exchanged the sums are the same."""
    m0, pseudo_m0, weight = (
        random(2 * PAIRS, (L + 1) * C),
        random(2 * PAIRS, (L + 1) * U),
        random(L, WIDTH, L * (C + U)),
    )
    so2 = random(L, 2 * PAIRS, 2, WIDTH)
    sums = sum_over_edges(messages_in_frames(m0, pseudo_m0, so2, weight), FRAMES)
    other = [x.unflatten(k, (2, PAIRS)).flip(k).flatten(k, k + 1) for x, k in ((m0, 0), (pseudo_m0, 0), (so2, 1))]
    torch.testing.assert_close(sums, sum_over_edges(messages_in_frames(*other, weight), BACK))


def test_sums_are_weighted():
    written = random(2 * PAIRS, (L + 1) ** 2, C)
    weight = torch.linspace(0.2, 1, PAIRS, dtype=torch.float64)[:, None, None].repeat(2, 1, 1)
    torch.testing.assert_close(sum_over_edges(written, FRAMES), sum_over_edges(written * weight, FRAMES.unweighted()))


def test_gradients():
    features = random(ATOMS, (L + 1) ** 2, C)
    assert gradcheck(lambda x: gather_in_frames(x, FRAMES), features, fast_mode=True)
    assert gradcheck(lambda x: sum_over_edges(x, FRAMES), random(2 * PAIRS, (L + 1) ** 2, C), fast_mode=True)
    assert gradcheck(lambda x: sum_over_edges(x, FRAMES), random(2 * PAIRS, L + 1, C), fast_mode=True)
    in_frames = random(PAIRS, (L + 1) ** 2, 2 * C), random(PAIRS, (L + 1) ** 2, 2 * U)
    for is_proper in (True, False):
        assert gradcheck(lambda x, k=is_proper: both_directions(x, SIGNS, k), in_frames[0], fast_mode=True)
    m0, weight = random((L + 1) * 2 * C, 5), random(L, L * 2 * (C + U), WIDTH)
    assert gradcheck(lambda *x: so2_convolution(*x, SIGNS), (*in_frames, m0, weight), fast_mode=True)
    assert gradcheck(
        lambda x, a, b: so2_convolution(x, None, a, b, SIGNS),
        (in_frames[0], m0, random(L, L * 2 * C, WIDTH)),
        fast_mode=True,
    )
    m0, pseudo_m0, weight = (
        random(2 * PAIRS, (L + 1) * C),
        random(2 * PAIRS, (L + 1) * U),
        random(L, WIDTH, L * (C + U)),
    )
    assert gradcheck(messages_in_frames, (m0, pseudo_m0, random(L, 2 * PAIRS, 2, WIDTH), weight), fast_mode=True)
