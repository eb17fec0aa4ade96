"""The overlap filter of corrections: limits, equation, rotation, ghost states."""

import numpy as np
import pytest
from scipy.linalg import eigh

from harmose.physics.overlap_filter import filter_correction
from harmose.so3.wigner import random_rotation


@pytest.fixture
def correction(water_sample):
    sample = water_sample(0)
    return sample.hamiltonian - sample.prior, sample.overlap


def test_limits(correction):
    dh, s = correction
    np.testing.assert_allclose(filter_correction(dh, s, 0.0).values, dh.values, atol=1e-10)
    assert np.abs(filter_correction(dh, s, 1e6).values).max() < 1e-8 * np.abs(dh.values).max()


def test_factors_in_the_eigenbasis_of_the_overlap(correction):
    dh, s = correction
    sizes, v = np.linalg.eigh(s.dense())
    products = np.outer(sizes, sizes)
    found = v.T @ filter_correction(dh, s, 0.3).dense() @ v
    np.testing.assert_allclose(found, v.T @ dh.dense() @ v * products / (products + 0.09), atol=1e-9)


def test_rotation(correction):
    dh, s = correction
    rotation = random_rotation(np.random.default_rng(0))
    turned = filter_correction(dh.rotate(rotation), s.rotate(rotation), 0.2)
    np.testing.assert_allclose(turned.values, filter_correction(dh, s, 0.2).rotate(rotation).values, atol=1e-9)


def test_no_ghost_state_of_two_nearly_equal_orbitals():
    """An error of 0.01 changes an energy by 20 without the filter, by less than 1 with it."""
    s = np.array([[1.0, 0.999], [0.999, 1.0]])
    error = np.array([[-0.01, 0.01], [0.01, -0.01]])
    sizes, v = np.linalg.eigh(s)
    products = np.outer(sizes, sizes)
    filtered = v @ (v.T @ error @ v * products / (products + 0.08**2)) @ v.T
    assert abs(eigh(error, s)[0][0]) > 15
    assert abs(eigh(filtered, s)[0][0]) < 1
