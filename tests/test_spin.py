"""Spin kinds: components, adjoints, channels, and the part that is odd under time reversal."""

import numpy as np
import pytest

from harmose.spin import PAULI, Spin, absolute, magnetic_part, time_reversal_error


@pytest.mark.parametrize(
    ("name", "components", "dtype"), [("none", 1, "float64"), ("collinear", 2, "float64"), ("spinor", 4, "complex128")]
)
def test_components_and_number_type(name, components, dtype):
    spin = Spin(name)
    assert spin.n_components == components
    assert spin.dtype == np.dtype(dtype)
    assert str(spin) == name


@pytest.mark.parametrize("spin", Spin)
def test_adjoint_of_a_stack_of_blocks(spin):
    generator = np.random.default_rng(0)
    blocks = generator.normal(size=(spin.n_components, 5, 2, 3)).astype(spin.dtype)
    if spin is Spin.SPINOR:
        blocks = blocks + 1j * generator.normal(size=blocks.shape)
    adjoint = spin.adjoint(blocks)
    assert adjoint.shape == (spin.n_components, 5, 3, 2)
    assert np.array_equal(spin.adjoint(adjoint), blocks)
    if spin is not Spin.SPINOR:
        assert np.array_equal(adjoint[:, 2], blocks[:, 2].transpose(0, 2, 1))


def test_adjoint_of_a_spinor_block_is_that_of_the_whole_matrix():
    """In the order uu, ud, du, dd the four blocks of ((uu, ud), (du, dd))^dagger."""
    generator = np.random.default_rng(1)
    blocks = generator.normal(size=(4, 2, 3)) + 1j * generator.normal(size=(4, 2, 3))
    whole = np.block([[blocks[0], blocks[1]], [blocks[2], blocks[3]]])
    uu, ud, du, dd = Spin.SPINOR.adjoint(blocks)
    assert np.array_equal(np.block([[uu, ud], [du, dd]]), whole.conj().T)


@pytest.mark.parametrize("spin", Spin)
def test_channels_there_and_back(spin):
    channels = np.random.default_rng(2).normal(size=(spin.n_channels, 3, 4))
    values = spin.from_channels(channels)
    assert values.shape == (spin.n_components, 3, 4)
    assert values.dtype == spin.dtype
    np.testing.assert_allclose(spin.to_channels(values), channels, atol=1e-15)
    assert np.square(channels).sum() == pytest.approx(np.square(np.abs(values)).sum())


def test_channels_of_a_spinor_are_pauli_components():
    h0, hx, hy, hz = np.random.default_rng(3).normal(size=(4, 3, 3))
    sigma = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    blocks = np.einsum("kst,kab->stab", sigma, np.stack([h0 + 0j, 1j * hx, 1j * hy, 1j * hz])).reshape(4, 3, 3)
    np.testing.assert_allclose(Spin.SPINOR.to_channels(blocks), np.sqrt(2) * np.stack([h0, hy, hz, hx]), atol=1e-14)
    np.testing.assert_allclose(magnetic_part(blocks), 0, atol=1e-14)
    np.testing.assert_allclose(PAULI @ PAULI.conj().T, np.eye(4), atol=1e-15)


def test_time_reversal_keeps_channels_and_changes_the_sign_of_the_magnetic_part():
    """T H T^-1 = sigma_y H* sigma_y."""
    generator = np.random.default_rng(4)
    blocks = generator.normal(size=(4, 5)) + 1j * generator.normal(size=(4, 5))
    uu, ud, du, dd = blocks.conj()
    reversed_ = np.stack([dd, -du, -ud, uu])
    np.testing.assert_allclose(Spin.SPINOR.to_channels(reversed_), Spin.SPINOR.to_channels(blocks), atol=1e-14)
    np.testing.assert_allclose(magnetic_part(reversed_), -magnetic_part(blocks), atol=1e-14)


def test_time_reversal_error_is_the_largest_magnetic_element():
    field_along_z = np.array([0.01, 0, 0, -0.01], dtype=complex)[:, None]
    assert time_reversal_error(field_along_z) == pytest.approx(0.01 * np.sqrt(2))
    assert time_reversal_error(np.eye(4, dtype=complex)[[0]].T + np.eye(4)[[3]].T) == 0  # the identity
    assert time_reversal_error(np.zeros((4, 0), dtype=complex)) == 0


@pytest.mark.parametrize("spin", Spin)
def test_channels_of_the_adjoint(spin):
    generator = np.random.default_rng(5)
    blocks = generator.normal(size=(spin.n_components, 2, 3)).astype(spin.dtype)
    if spin is Spin.SPINOR:
        blocks = blocks + 1j * generator.normal(size=blocks.shape)
    signs = np.repeat([c.adjoint for c in spin.channels], [2 * c.degree + 1 for c in spin.channels])
    expected = signs[:, None, None] * spin.to_channels(blocks).swapaxes(1, 2)
    np.testing.assert_allclose(spin.to_channels(spin.adjoint(blocks)), expected, atol=1e-14)


def test_absolute_counts_real_and_imaginary_parts():
    assert absolute(np.array([-2.0, 3.0])).tolist() == [2, 3]
    assert absolute(np.array([-2.0 + 4j])).tolist() == [3]
