"""Coefficient layouts: complete, orthonormal, and behaving in edge frames as O(2) says."""

import numpy as np
import pytest
import torch

from harmose.so3.layout import edge_frames, onsite_layout, pair_layout, reversal_signs, shells_frames
from harmose.so3.wigner import edge_wigner, shells_wigner

SHELLS = [((0, 0, 1), (0, 0, 0, 1, 1, 2)), ((0, 1, 2), (0, 1, 2)), ((1,), (3, 4))]
HALF_TURN = np.diag([1.0, -1.0, -1.0])


def frames(vectors: torch.Tensor, l_max: int) -> tuple[torch.Tensor, torch.Tensor]:
    return edge_frames([edge_wigner(l, vectors) for l in range(l_max + 1)])


def size(shells) -> int:
    return sum(2 * l + 1 for l in shells)


def blocks(left, right) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(0).normal(size=(5, size(left), size(right))))


def into(layout, x: torch.Tensor) -> np.ndarray:
    return (x.flatten(1).numpy() @ layout.matrix.T).reshape(len(x), layout.n_slots, layout.n_irreps)


@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_round_trip_and_mask(left, right):
    layout, x = pair_layout(left, right, 7), blocks(left, right)
    coefficients = into(layout, x)
    np.testing.assert_allclose(coefficients.reshape(5, -1) @ layout.matrix, x.flatten(1), atol=1e-12)
    assert (coefficients[:, ~layout.mask] == 0).all()


@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_a_turn_about_the_edge_turns_doublets(left, right):
    layout, x, a = pair_layout(left, right, 7), blocks(left, right), 0.7
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    d = [torch.as_tensor(shells_wigner(s, about_z)) for s in (left, right)]
    before, after = into(layout, x), into(layout, d[0] @ x @ d[1].T)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-12)
    for m in range(1, 8):
        even, odd = before[:, 2 * m - 1], before[:, 2 * m]
        np.testing.assert_allclose(after[:, 2 * m - 1], np.cos(m * a) * even - np.sin(m * a) * odd, atol=1e-12)
        np.testing.assert_allclose(after[:, 2 * m], np.sin(m * a) * even + np.cos(m * a) * odd, atol=1e-12)


@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_the_mirror_flips_odd_halves_and_pseudoscalars(left, right):
    layout, x = pair_layout(left, right, 7), blocks(left, right)
    mirror = [np.concatenate([np.where(np.arange(-l, l + 1) < 0, -1.0, 1.0) for l in s]) for s in (left, right)]
    before, after = into(layout, x), into(layout, torch.as_tensor(mirror[0][:, None] * mirror[1]) * x)
    np.testing.assert_allclose(after[:, 0], layout.parity * before[:, 0], atol=1e-12)
    np.testing.assert_allclose(after[:, 1::2], before[:, 1::2], atol=1e-12)
    np.testing.assert_allclose(after[:, 2::2], -before[:, 2::2], atol=1e-12)


@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_the_reversed_edge(left, right):
    layout, back, x = pair_layout(left, right, 7), pair_layout(right, left, 7), blocks(left, right)
    d = [torch.as_tensor(shells_wigner(s, HALF_TURN)) for s in (left, right)]
    reverse = into(back, d[1] @ x.mT @ d[0].T)
    column, sign = layout.reversal
    np.testing.assert_allclose(sign * reverse[..., column], into(layout, x), atol=1e-12)


def test_onsite_layout_restores_symmetric_blocks():
    layout = onsite_layout((0, 0, 1, 1, 2), 4)
    x = np.random.default_rng(1).normal(size=(13, 13))
    x = x + x.T
    coefficients = layout.matrix @ x.ravel()
    np.testing.assert_allclose(layout.matrix.T @ coefficients, x.ravel(), atol=1e-12)
    assert np.count_nonzero(np.abs(layout.matrix).sum(1)) == 13 * 14 // 2


def test_frames_are_orthogonal_and_reverse_by_signs():
    vectors = torch.as_tensor(np.random.default_rng(2).normal(size=(6, 3)))
    ahead, back, signs = frames(vectors, 4), frames(-vectors, 4), torch.as_tensor(reversal_signs(4))
    for k in range(2):
        torch.testing.assert_close(ahead[k].mT @ ahead[k], torch.eye(25, dtype=torch.float64).expand(6, 25, 25))
        torch.testing.assert_close(back[k], signs[k, :, None] * ahead[k])


def test_shells_frames_is_the_rotation_to_the_axis():
    vectors = torch.as_tensor(np.random.default_rng(3).normal(size=(4, 3)))
    rotations = shells_frames((1,), [edge_wigner(l, vectors) for l in range(2)])
    turned = torch.einsum("eab,eb->ea", rotations, vectors[:, [1, 2, 0]])
    expected = torch.zeros(4, 3, dtype=torch.float64)
    expected[:, 1] = vectors.norm(dim=1)
    torch.testing.assert_close(turned, expected)
