"""Real spherical harmonics against e3nn's, and how they turn."""

from importlib import import_module

import numpy as np
import pytest
import torch

from harmose.so3.harmonics import degree_of_slot, real_harmonics
from harmose.so3.wigner import random_rotation, wigner_d


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


L_MAX = 8


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    v = np.random.default_rng(3).normal(size=(40, 3))
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    return np.concatenate([v / np.linalg.norm(v, axis=1, keepdims=True), axes])


@pytest.mark.parametrize("l", range(L_MAX + 1))
def test_same_as_e3nn(directions, l):
    vectors = torch.as_tensor(directions)[:, [1, 2, 0]]
    expected = o3().spherical_harmonics(l, vectors, normalize=True, normalization="integral").numpy().T
    np.testing.assert_allclose(real_harmonics(L_MAX, directions)[l * l : (l + 1) ** 2], expected, atol=1e-13)


def test_rotation_by_wigner_matrices(directions):
    rotation = random_rotation(np.random.default_rng(0))
    turned, y = real_harmonics(L_MAX, directions @ rotation.T), real_harmonics(L_MAX, directions)
    for l in range(L_MAX + 1):
        rows = slice(l * l, (l + 1) ** 2)
        np.testing.assert_allclose(turned[rows], wigner_d(l, rotation) @ y[rows], atol=1e-12)


def test_shapes():
    np.testing.assert_allclose(real_harmonics(0, np.eye(3)), np.sqrt(1 / (4 * np.pi)))
    assert real_harmonics(2, np.zeros((0, 3))).shape == (9, 0)


def test_degree_of_slot():
    assert degree_of_slot(0).tolist() == [0]
    assert degree_of_slot(2).tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 2]
