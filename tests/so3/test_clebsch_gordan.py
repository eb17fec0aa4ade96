"""Clebsch-Gordan coefficients: e3nn's numbers and signs, orthogonality, covariance."""

import itertools
from importlib import import_module

import numpy as np
import pytest
import torch

from harmose.so3.clebsch_gordan import clebsch_gordan
from harmose.so3.wigner import random_rotation, wigner_d


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


PAIRS = list(itertools.product(range(7), repeat=2))


@pytest.mark.parametrize(("l1", "l2"), PAIRS)
def test_same_as_e3nn(l1, l2):
    for l in range(abs(l1 - l2), min(l1 + l2, 11) + 1):  # e3nn has tables up to l = 11
        reference = o3().wigner_3j(l1, l2, l, dtype=torch.float64).numpy() * np.sqrt(2 * l + 1)
        np.testing.assert_allclose(clebsch_gordan(l1, l2, l), np.moveaxis(reference, -1, 0), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("l1", "l2"), [*PAIRS, (8, 8), (12, 3)])
def test_all_l_together_are_an_orthogonal_matrix(l1, l2):
    rows = [clebsch_gordan(l1, l2, l).reshape(2 * l + 1, -1) for l in range(abs(l1 - l2), l1 + l2 + 1)]
    matrix = np.concatenate(rows)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye((2 * l1 + 1) * (2 * l2 + 1)), atol=1e-13)


@pytest.mark.parametrize(("l1", "l2", "l"), [(1, 1, 1), (2, 1, 3), (3, 2, 4), (8, 8, 8)])
def test_rotating_both_factors_rotates_the_product(l1, l2, l):
    q = random_rotation(np.random.default_rng(0))
    d1, d2, d = (wigner_d(degree, q) for degree in (l1, l2, l))
    table = clebsch_gordan(l1, l2, l)
    np.testing.assert_allclose(np.einsum("mn,nij->mij", d, table), d1.T @ table @ d2, atol=1e-13)


def test_coefficients_by_hand():
    np.testing.assert_array_equal(clebsch_gordan(0, 0, 0), [[[1.0]]])
    np.testing.assert_allclose(clebsch_gordan(1, 1, 0)[0], np.eye(3) / np.sqrt(3), atol=1e-15)
    np.testing.assert_allclose(clebsch_gordan(0, 1, 1)[:, 0], np.eye(3), atol=1e-15)
    vector_product = clebsch_gordan(1, 1, 1)
    np.testing.assert_allclose(vector_product, -vector_product.transpose(0, 2, 1), atol=1e-15)


def test_elements_that_vanish_by_symmetry_are_zero():
    assert np.count_nonzero(clebsch_gordan(1, 1, 1)) == 6
    assert np.abs(clebsch_gordan(6, 6, 6)[clebsch_gordan(6, 6, 6) != 0]).min() > 1e-6
