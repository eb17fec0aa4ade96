"""Bloch sums against plain loops over the stored blocks, for all spins, several images and several elements."""

import numpy as np
import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.errors import MatrixError
from harmose.physics.bloch import bloch_sum
from harmose.spin import Spin

BASIS = BasisSet("sp", {1: (Shell(1, 0),), 6: (Shell(2, 0), Shell(2, 1))}, {1: 3.0, 6: 3.0})
NUMBERS = np.array([6, 1])
PAIRS = np.array(
    [[0, 0, 0, 0, 1], [0, 0, 1, -1, 0], [0, 1, -1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 2, 1, -1], [1, 1, 0, 1, 0]]
)
KPOINTS = np.array([[0, 0, 0], [0.5, 0, 0], [0.1, -0.3, 0.7]])


def crystal(spin: Spin, seed: int = 0) -> BlockMatrix:
    """Random blocks whose on-site ones are Hermitian."""
    empty = empty_matrix(BASIS, NUMBERS, PAIRS, spin)
    generator = np.random.default_rng(seed)
    values = generator.normal(size=empty.values.shape).astype(spin.dtype)
    if spin is Spin.SPINOR:
        values += 1j * generator.normal(size=values.shape)
    for atom, n in enumerate(empty.orbital_counts):
        where = slice(empty.offsets[atom], empty.offsets[atom + 1])
        block = values[:, where].reshape(-1, n, n)
        values[:, where] = ((block + spin.adjoint(block)) / 2).reshape(len(block), -1)
    return empty.with_values(values)


def by_loops(h: BlockMatrix, k: np.ndarray) -> np.ndarray:
    """(n_components, n, n): every pair and its reverse, one after the other."""
    out = np.zeros((h.spin.n_components, h.n_orbitals, h.n_orbitals), dtype=complex)
    start = h.orbital_starts
    keys = [tuple(key) for key in h.keys.tolist()]
    keys += [(j, i, -x, -y, -z) for i, j, x, y, z in keys if i != j or any((x, y, z))]
    for i, j, *cell in keys:
        block = h.block(i, j, cell).reshape(-1, h.orbital_counts[i], h.orbital_counts[j])
        out[:, start[i] : start[i + 1], start[j] : start[j + 1]] += np.exp(2j * np.pi * np.dot(k, cell)) * block
    return out


@pytest.mark.parametrize("spin", list(Spin))
def test_sum_over_all_blocks_and_their_reverses(spin):
    h = crystal(spin)
    h_k = bloch_sum(h, KPOINTS)
    for index, k in enumerate(KPOINTS):
        expected = by_loops(h, k)
        if spin is Spin.SPINOR:
            expected = np.block([[expected[0], expected[1]], [expected[2], expected[3]]])[None]
        got = h_k[:, index] if spin is Spin.COLLINEAR else h_k[None, index]
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("spin", list(Spin))
def test_hermitian_periodic_and_dense_at_gamma(spin):
    h = crystal(spin)
    h_k = bloch_sum(h, KPOINTS)
    np.testing.assert_allclose(h_k, h_k.conj().swapaxes(-1, -2), atol=1e-12)
    np.testing.assert_allclose(bloch_sum(h, KPOINTS + [1, -2, 3]), h_k, atol=1e-12)
    gamma = h_k[:, 0] if spin is Spin.COLLINEAR else h_k[0]
    np.testing.assert_allclose(gamma, h.dense(), atol=1e-12)


def test_real_operators_are_conjugate_at_minus_k():
    h = crystal(Spin.NONE)
    np.testing.assert_allclose(bloch_sum(h, -KPOINTS), bloch_sum(h, KPOINTS).conj(), atol=1e-12)


def test_one_kpoint_needs_no_second_axis():
    assert bloch_sum(crystal(Spin.NONE), np.array([0.5, 0, 0])).shape == (1, 5, 5)


@pytest.mark.parametrize("kpoints", [[[0.0, 0.5]], [0.0], [[0, 0, np.nan]], [[[0.0, 0, 0]]], np.zeros((0, 3))])
def test_kpoints_of_another_shape_are_refused(kpoints):
    with pytest.raises(MatrixError, match="k-points: expected"):
        bloch_sum(crystal(Spin.NONE), np.array(kpoints))
