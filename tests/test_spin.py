"""What a spin kind means for an operator's values."""

import numpy as np
import pytest

from harmose.spin import Spin


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
