"""Coefficient layouts: complete, orthonormal, and behaving in edge frames as O(2) says."""

import numpy as np
import pytest
import torch

from harmose.representation.layout import (
    onsite_layout,
    order_rows,
    pair_frames,
    pair_layout,
    reversal_signs,
    shells_frames,
)
from harmose.so3.wigner import edge_wigner, random_rotation, shells_wigner
from harmose.spin import Spin

SHELLS = [((0, 0, 1), (0, 0, 0, 1, 1, 2)), ((0, 1, 2), (0, 1, 2)), ((1,), (3, 4))]
HALF_TURN = np.diag([1.0, -1.0, -1.0])


def frames(vectors: torch.Tensor, l_max: int) -> torch.Tensor:
    return pair_frames([torch.from_numpy(edge_wigner(l, vectors)) for l in range(l_max + 1)])


def size(shells) -> int:
    return sum(2 * l + 1 for l in shells)


def blocks(left, right, spin=Spin.NONE) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(0).normal(size=(5, spin.n_channels, size(left), size(right))))


def channel_rotation(spin, one: np.ndarray) -> torch.Tensor:
    """Rotation of the channels of a spin (C, C), from that of vectors (3, 3)."""
    parts = [torch.as_tensor(one) if c.degree else torch.ones(1, 1, dtype=torch.float64) for c in spin.channels]
    return torch.block_diag(*parts)


def turned(spin, x: torch.Tensor, rotation: np.ndarray, left, right) -> torch.Tensor:
    """Blocks of channels after a rotation of orbitals and spin."""
    d = [torch.as_tensor(shells_wigner(s, rotation)) for s in (left, right)]
    vector = channel_rotation(spin, shells_wigner((1,), rotation))
    return (vector @ (d[0] @ x @ d[1].T).flatten(2)).view_as(x)


def transposed(spin, x: torch.Tensor) -> torch.Tensor:
    signs = [c.adjoint for c in spin.channels for _ in range(2 * c.degree + 1)]
    return x.mT * torch.tensor(signs)[:, None, None]


def into(layout, x: torch.Tensor) -> np.ndarray:
    return (x.flatten(1).numpy() @ layout.matrix.T).reshape(len(x), layout.n_slots, layout.n_irreps)


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_round_trip_and_mask(left, right, spin):
    layout, x = pair_layout(left, right, 8, spin), blocks(left, right, spin)
    coefficients = into(layout, x)
    assert layout.mask.sum() == spin.n_channels * size(left) * size(right)
    rows = layout.matrix[layout.mask.ravel()]
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-12)
    np.testing.assert_allclose(coefficients.reshape(5, -1) @ layout.matrix, x.flatten(1), atol=1e-12)
    assert (coefficients[:, ~layout.mask] == 0).all()


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_a_rotation_about_the_edge_rotates_so2_features(left, right, spin):
    layout, x, a = pair_layout(left, right, 8, spin), blocks(left, right, spin), 0.7
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    before, after = into(layout, x), into(layout, turned(spin, x, about_z, left, right))
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-12)
    for m in range(1, 9):
        even, odd = before[:, 2 * m - 1], before[:, 2 * m]
        np.testing.assert_allclose(after[:, 2 * m - 1], np.cos(m * a) * even - np.sin(m * a) * odd, atol=1e-12)
        np.testing.assert_allclose(after[:, 2 * m], np.sin(m * a) * even + np.cos(m * a) * odd, atol=1e-12)


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_a_mirror_flips_odd_halves_and_pseudoscalars(left, right, spin):
    layout, x = pair_layout(left, right, 8, spin), blocks(left, right, spin)
    mirror = [np.concatenate([np.where(np.arange(-l, l + 1) < 0, -1.0, 1.0) for l in s]) for s in (left, right)]
    axial = channel_rotation(
        spin, -np.diag([-1.0, 1.0, 1.0])
    ).diagonal()  # y -> -y changes the signs of x and z of an axial vector
    there = torch.as_tensor(mirror[0][:, None] * mirror[1]) * x * axial[:, None, None]
    before, after = into(layout, x), into(layout, there)
    np.testing.assert_allclose(after[:, 0], layout.parity * before[:, 0], atol=1e-12)
    np.testing.assert_allclose(after[:, 1::2], before[:, 1::2], atol=1e-12)
    np.testing.assert_allclose(after[:, 2::2], -before[:, 2::2], atol=1e-12)


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize(("left", "right"), SHELLS)
def test_coefficients_of_the_reversed_edge(left, right, spin):
    layout, back = pair_layout(left, right, 8, spin), pair_layout(right, left, 8, spin)
    x = blocks(left, right, spin)
    reverse = into(back, turned(spin, transposed(spin, x), HALF_TURN, right, left))
    column, sign = layout.reversal
    np.testing.assert_allclose(sign * reverse[..., column], into(layout, x), atol=1e-12)


@pytest.mark.parametrize(("spin", "free"), [("none", 91), ("collinear", 2 * 91), ("spinor", 91 + 3 * 78)])
def test_onsite_layout_is_complete_for_hermitian_blocks(spin, free):
    shells, spin = (0, 0, 1, 1, 2), Spin(spin)
    layout, x = onsite_layout(shells, 5, spin), blocks(shells, shells, spin)
    x = (x + transposed(spin, x)).flatten(1).numpy()
    np.testing.assert_allclose(x @ layout.matrix.T @ layout.matrix, x, atol=1e-12)
    rows = layout.matrix[layout.mask.ravel()]
    np.testing.assert_allclose(rows @ rows.T, np.eye(free), atol=1e-12)


@pytest.mark.parametrize("spin", Spin)
def test_onsite_irreps_rotate_by_their_degree(spin):
    shells, rotation = (0, 0, 1, 1, 2), random_rotation(np.random.default_rng(6))
    layout, x = onsite_layout(shells, 5, spin), blocks(shells, shells, spin)
    x = x + transposed(spin, x)
    before, after = (
        (y.flatten(1).numpy() @ layout.matrix.T).reshape(5, 36, -1)
        for y in (x, turned(spin, x, rotation, shells, shells))
    )
    d = shells_wigner(tuple(range(6)), rotation)
    np.testing.assert_allclose(after, np.einsum("ab,sbk->sak", d, before), atol=1e-12)


@pytest.mark.parametrize("spin", Spin)
def test_the_hermitian_mean_is_that_of_the_blocks(spin):
    shells = (0, 1, 2)
    layout, x = pair_layout(shells, shells, 8, spin), blocks(shells, shells, spin)
    y = torch.as_tensor(np.random.default_rng(1).normal(size=x.shape))
    backward = into(layout, turned(spin, transposed(spin, y), HALF_TURN, shells, shells))
    expected = into(layout, (x + y) / 2)
    np.testing.assert_allclose(layout.hermitian_mean(into(layout, x), backward), expected, atol=1e-12)


@pytest.mark.parametrize("spin", Spin)
def test_onsite_irreps_are_all_columns_of_the_mask(spin):
    layout = onsite_layout((0, 0, 1, 2), 5, spin)
    mask = np.zeros_like(layout.mask)
    for degree, parity, columns, _ in layout.irreps:
        mask[degree**2 : (degree + 1) ** 2, columns] = True
        assert ((columns < layout.n_proper) == (parity > 0)).all()
    np.testing.assert_array_equal(mask, layout.mask)
    places = np.concatenate([x.place for x in layout.irreps])
    np.testing.assert_array_equal(places, np.arange(len(places)))


def test_frames_of_reversed_edges_differ_by_signs():
    vectors = torch.as_tensor(np.random.default_rng(2).normal(size=(6, 3)))
    ahead, back, signs = frames(vectors, 4), frames(-vectors, 4), torch.as_tensor(reversal_signs(4))
    torch.testing.assert_close(ahead.mT @ ahead, torch.eye(25, dtype=torch.float64).expand(6, 25, 25))
    torch.testing.assert_close(back, signs[:, None] * ahead)
    assert [order_rows(2, m) for m in range(3)] == [(0, 3), (3, 7), (7, 9)]


def test_frames_rotate_vectors_to_the_axis():
    vectors = torch.as_tensor(np.random.default_rng(3).normal(size=(4, 3)))
    rotations = shells_frames((1,), [torch.from_numpy(edge_wigner(l, vectors)) for l in range(2)])
    turned = torch.einsum("eab,eb->ea", rotations, vectors[:, [1, 2, 0]])
    expected = torch.zeros(4, 3, dtype=torch.float64)
    expected[:, 1] = vectors.norm(dim=1)
    torch.testing.assert_close(turned, expected)
