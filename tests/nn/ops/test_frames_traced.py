"""The functions for a compiler have the values and gradients of those with gradients written by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from harmose.nn.ops import frames, invariants
from harmose.nn.ops import frames_traced as traced
from harmose.representation.layout import pair_frames, reversal_signs
from harmose.so3.wigner import edge_wigner

L, C, U, WIDTH, ATOMS, PAIRS = 3, 2, 1, 3, 3, 4
ROWS = (L + 1) ** 2
SIGNS = frames.ReversalSigns(frames.so2_signs(L).double(), frames.m0_signs(L).double())
FIRST, SECOND = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 2, 2])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng([seed, *shape]).normal(size=shape)).requires_grad_()


@pytest.fixture(scope="module")
def pairs() -> frames.PairFrames:
    rotation = pair_frames([torch.from_numpy(edge_wigner(l, random(PAIRS, 3).detach())) for l in range(L + 1)])
    weight = torch.linspace(0.2, 1, PAIRS, dtype=torch.float64)[:, None, None]
    reversal = torch.as_tensor(reversal_signs(L))[:, None]
    return frames.pair_frames(rotation, reversal, weight, FIRST, SECOND, ATOMS)


def assert_same(ours: Callable, theirs: Callable, inputs: list[Tensor]) -> None:
    """Compare results, and gradients of a random combination of them."""
    found = []
    for work in (ours, theirs):
        out = work(*inputs)
        out = out if isinstance(out, tuple) else (out,)
        total = torch.stack([(x * random(*x.shape, seed=1).detach()).sum() for x in out]).sum()
        found.append([*out, *torch.autograd.grad(total, inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_gathered(pairs):
    at = pairs.rotation, pairs.first, pairs.second
    assert_same(
        lambda x: frames.gather_in_frames(x, pairs), lambda x: traced.gather_in_frames(x, *at), [random(ATOMS, ROWS, C)]
    )


@pytest.mark.parametrize("rows", [ROWS, L + 1])
def test_summed(pairs, rows):
    def theirs(x):
        return traced.sum_over_edges(x, pairs.weighted, pairs.first, pairs.second, pairs.n_atoms)

    assert_same(lambda x: frames.sum_over_edges(x, pairs), theirs, [random(2 * PAIRS, rows, C)])


@pytest.mark.parametrize("pseudo", [True, False])
def test_mixed(pseudo):
    width = 2 * (C + U) if pseudo else 2 * C
    inputs = [random(PAIRS, ROWS, 2 * C), random((L + 1) * 2 * C, 5), random(L, L * width, WIDTH)]
    inputs += [random(PAIRS, ROWS, 2 * U)] if pseudo else []

    def ours(proper, m0, weight, pseudo=None):
        return frames.so2_convolution(proper, pseudo, m0, weight, SIGNS)

    def theirs(proper, m0, weight, pseudo=None):
        return traced.so2_convolution(proper, pseudo, m0, weight, SIGNS.so2, SIGNS.m0)

    assert_same(ours, theirs, inputs)


def test_messages():
    inputs = [random(2 * PAIRS, (L + 1) * C), random(2 * PAIRS, (L + 1) * U), random(L, 2 * PAIRS, 2, WIDTH)]
    assert_same(frames.messages_in_frames, traced.messages_in_frames, [*inputs, random(L, WIDTH, L * (C + U))])


@pytest.mark.parametrize("is_proper", [True, False])
def test_directed(is_proper):
    def theirs(x):
        return traced.both_directions(x, SIGNS.m0, frames.signs_of_rows(SIGNS, is_proper), is_proper)

    assert_same(lambda x: frames.both_directions(x, SIGNS, is_proper), theirs, [random(PAIRS, ROWS, 2 * C)])


@pytest.mark.parametrize("bounded", [False, True])
def test_scaled_with_invariants(bounded):
    n = 4 + L * WIDTH
    constants = random(2 * PAIRS, n).detach(), random(n).detach(), bounded
    inputs = [random(L, 2 * PAIRS, 2, WIDTH), random(L, 2 * PAIRS, 1, WIDTH), random(2 * PAIRS, 4)]

    def ours(a, b, c):
        return invariants.scaled_with_invariants(a, b, c, *constants)

    def theirs(a, b, c):
        return traced.scaled_with_invariants(a, b, c, *constants)

    assert_same(ours, theirs, inputs)


def test_gradients_of_sums_and_rows():
    index = torch.tensor([2, 0, 2, 1])
    assert gradcheck(lambda x: traced.take_rows(x, index), [random(3, 2)])
    assert gradcheck(lambda x: traced.sum_rows(x, index, 3), [random(4, 2)])
