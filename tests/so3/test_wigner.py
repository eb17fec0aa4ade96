"""Wigner matrices against e3nn's, their group laws, and their accuracy where Euler angles are ill-defined."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from harmose.errors import StructureError
from harmose.so3.wigner import check_rotation, edge_wigner, random_rotation, shells_wigner, wigner_d


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


TOLERANCE = {np.float32: 5e-6, np.float64: 2e-14}
DTYPES = tuple(TOLERANCE)
DEGREES = range(9)
POLES = {
    "identity": np.eye(3),
    "pi about x": np.diag([1.0, -1.0, -1.0]),
    "pi about y": np.diag([-1.0, 1.0, -1.0]),
    "pi about z": np.diag([-1.0, -1.0, 1.0]),
}


def harmonics(l, points):
    """e3nn's real harmonics of (x, y, z) points, order m = -l..l: e3nn wants (y, z, x)."""
    return o3().spherical_harmonics(l, torch.as_tensor(points)[..., [1, 2, 0]], normalize=True).numpy()


def matrix_from_harmonics(l, rotation):
    """The D that solves Y(Qx) = D Y(x) on many points, with no Euler angle anywhere."""
    points = np.random.default_rng(7).normal(size=(100, 3))
    before, after = harmonics(l, points), harmonics(l, points @ rotation.T)
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def rotations(count, seed=0):
    return np.stack([random_rotation(g) for g in [np.random.default_rng(seed)] for _ in range(count)])


@pytest.fixture
def e3nn_in_float64():
    """e3nn builds its generators in torch's default dtype; in float32 its Wigner matrices are good to 1e-6 only."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("e3nn_in_float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l", DEGREES)
def test_same_as_e3nn(l, dtype):
    q = rotations(50)
    reference = o3().Irrep(l, 1).D_from_matrix(torch.as_tensor(q[:, [1, 2, 0]][:, :, [1, 2, 0]])).numpy()
    d = wigner_d(l, q.astype(dtype))
    assert d.dtype == dtype
    # e3nn computes Euler angles with acos, which costs some digits in float64
    np.testing.assert_allclose(d, reference, rtol=0, atol=max(TOLERANCE[dtype], 1e-12))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l", DEGREES)
def test_rotates_harmonics(l, dtype):
    for rotation in rotations(5, seed=1):
        np.testing.assert_allclose(
            wigner_d(l, rotation.astype(dtype)), matrix_from_harmonics(l, rotation), atol=TOLERANCE[dtype]
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("pole", POLES)
def test_is_accurate_near_the_poles(pole, distance, dtype):
    generator = np.random.default_rng(2)
    for _ in range(4):
        axis = generator.normal(size=3)
        near = Rotation.from_rotvec(distance * axis / np.linalg.norm(axis)).as_matrix()
        about_z = Rotation.from_rotvec([0, 0, generator.uniform(0, 6)]).as_matrix()
        rotation = (near @ POLES[pole] @ about_z).astype(dtype)
        for l in (2, 4, 8):
            reference = matrix_from_harmonics(l, rotation.astype(float))
            np.testing.assert_allclose(wigner_d(l, rotation), reference, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l", DEGREES)
def test_is_an_orthogonal_representation(l, dtype):
    q1, q2 = rotations(20, seed=3).astype(dtype), rotations(20, seed=4).astype(dtype)
    d1, d2 = wigner_d(l, q1), wigner_d(l, q2)
    transposed = d1.transpose(0, 2, 1)
    close = partial(np.testing.assert_allclose, rtol=0)
    close(wigner_d(l, q1 @ q2), d1 @ d2, atol=2 * TOLERANCE[dtype])
    close(d1 @ transposed, np.broadcast_to(np.eye(2 * l + 1), d1.shape), atol=TOLERANCE[dtype])
    close(wigner_d(l, q1.transpose(0, 2, 1)), transposed, atol=2 * TOLERANCE[dtype])
    close(np.linalg.det(d1.astype(float)), 1, atol=10 * TOLERANCE[dtype])


def test_l_1_is_the_rotation_in_the_order_y_z_x():
    rotation = rotations(1)[0]
    vector = np.array([0.3, -1.2, 0.7])
    turned = wigner_d(1, rotation) @ vector[[1, 2, 0]]
    np.testing.assert_allclose(turned, (rotation @ vector)[[1, 2, 0]], atol=1e-14)


@pytest.mark.parametrize("l", [0, 1, 2, 3])
def test_keeps_leading_axes(l):
    assert wigner_d(l, rotations(6).reshape(2, 3, 3, 3)).shape == (2, 3, 2 * l + 1, 2 * l + 1)
    assert wigner_d(l, np.zeros((0, 3, 3))).shape == (0, 2 * l + 1, 2 * l + 1)
    assert edge_wigner(l, np.zeros((0, 3))).shape == (0, 2 * l + 1, 2 * l + 1)


EDGES = {
    "general": [0.3, -1.2, 0.7],
    "along +z": [0.0, 0.0, 2.0],
    "along -z": [0.0, 0.0, -2.0],
    "along -z, negative zero": [-0.0, -0.0, -1.0],
    "near +z": [1e-6, -2e-6, 1.0],
    "near -z": [-3e-7, 1e-7, -1.0],
    "in the plane": [-1.0, 0.0, 0.0],
    "denormal azimuth": [1e-30, 1e-30, 1.0],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_edge_wigner_takes_the_edge_to_z(edge, dtype):
    vector, z = np.array([edge], dtype), np.array([0.0, 0.0, 1.0])
    for l in DEGREES:
        d = edge_wigner(l, vector)[0].astype(float)
        turned = d @ harmonics(l, vector[0].astype(float))
        np.testing.assert_allclose(turned, harmonics(l, z), rtol=0, atol=3 * TOLERANCE[dtype] * (l + 1))
        np.testing.assert_allclose(d @ d.T, np.eye(2 * l + 1), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_edge_wigner_is_one_rotation_for_all_degrees(edge, dtype):
    vector = np.array([edge], dtype)
    back = np.array([2, 0, 1])  # D(1) acts on (y, z, x)
    rotation = edge_wigner(1, vector).astype(float)[:, back][:, :, back]
    for l in DEGREES:
        expected = wigner_d(l, rotation)
        np.testing.assert_allclose(edge_wigner(l, vector), expected, rtol=0, atol=2 * TOLERANCE[dtype] * (l + 1))


def test_shells_wigner_is_block_diagonal():
    rotation = rotations(1)[0]
    d = shells_wigner((0, 2, 1), rotation)
    assert d.shape == (9, 9)
    np.testing.assert_allclose(d[1:6, 1:6], matrix_from_harmonics(2, rotation), atol=1e-13)
    np.testing.assert_allclose(d[6:, 6:], rotation[[1, 2, 0]][:, [1, 2, 0]], atol=1e-13)
    assert d[0, 0] == 1
    outside = d.copy()
    for shell in (slice(0, 1), slice(1, 6), slice(6, 9)):
        outside[shell, shell] = 0
    assert not outside.any()


BAD_ROTATIONS = {
    "inversion": -np.eye(3),
    "scaled": 1.01 * np.eye(3),
    "two-dimensional": np.eye(2),
    "NaN": np.full((3, 3), np.nan),
}


@pytest.mark.parametrize("matrix", BAD_ROTATIONS.values(), ids=BAD_ROTATIONS)
def test_other_matrices_raise(matrix):
    with pytest.raises(StructureError, match="expected a proper 3x3 rotation matrix, got"):
        check_rotation(matrix)
    with pytest.raises(StructureError, match="expected a proper 3x3 rotation matrix, got"):
        shells_wigner((0, 1), matrix)


def test_random_rotations_are_proper_and_uniform():
    q = rotations(4000, seed=5)
    np.testing.assert_allclose(q @ q.transpose(0, 2, 1), np.broadcast_to(np.eye(3), q.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(q), 1, atol=1e-12)
    # Haar measure: <Q> = 0 and <Q_ij Q_kl> = delta_ik delta_jl / 3
    second = np.einsum("nij,nkl->ijkl", q, q) / len(q)
    expected = np.einsum("ik,jl->ijkl", np.eye(3), np.eye(3)) / 3
    assert abs(q.mean(axis=0)).max() < 0.05
    assert abs(second - expected).max() < 0.05
    assert np.array_equal(random_rotation(np.random.default_rng(9)), random_rotation(np.random.default_rng(9)))
