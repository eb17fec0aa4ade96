"""The filter of corrections: what it leaves, what it takes, that it turns and that ghost states go."""

import numpy as np
import pytest
from scipy.linalg import eigh

from harmose.physics.overlap_filter import filtered
from harmose.so3.wigner import random_rotation


@pytest.fixture
def correction(water_sample):
    sample = water_sample(0)
    return sample.hamiltonian - sample.prior, sample.overlap


def test_without_it_nothing_changes_and_with_much_of_it_nothing_is_left(correction):
    dh, s = correction
    np.testing.assert_allclose(filtered(dh, s, 0.0).values, dh.values, atol=1e-10)
    assert np.abs(filtered(dh, s, 1e6).values).max() < 1e-8 * np.abs(dh.values).max()


def test_in_eigenvectors_of_s_it_is_the_factor_of_its_equation(correction):
    dh, s = correction
    sizes, v = np.linalg.eigh(s.dense())
    products = np.outer(sizes, sizes)
    found = v.T @ filtered(dh, s, 0.3).dense() @ v
    np.testing.assert_allclose(found, v.T @ dh.dense() @ v * products / (products + 0.09), atol=1e-9)


def test_it_turns_with_the_molecule(correction):
    dh, s = correction
    rotation = random_rotation(np.random.default_rng(0))
    turned = filtered(dh.rotate(rotation), s.rotate(rotation), 0.2)
    np.testing.assert_allclose(turned.values, filtered(dh, s, 0.2).rotate(rotation).values, atol=1e-9)


def test_errors_where_the_overlap_is_small_make_no_ghost_states():
    """Two orbitals that are nearly one: an error of 0.01 is a level that is off by 20 without the filter, less than 1 with it."""
    s = np.array([[1.0, 0.999], [0.999, 1.0]])
    error = np.array([[-0.01, 0.01], [0.01, -0.01]])
    sizes, v = np.linalg.eigh(s)
    products = np.outer(sizes, sizes)
    filtered = v @ (v.T @ error @ v * products / (products + 0.08**2)) @ v.T
    assert abs(eigh(error, s)[0][0]) > 15
    assert abs(eigh(filtered, s)[0][0]) < 1
