"""Wigner matrices D of real spherical harmonics, m = -l..l, for rotations Q of (x, y, z): `Y(Q x) = D(Q) Y(x)`.

The harmonics are those of `so3.harmonics`; p is (y, z, x). e3nn has the same order and sign for vectors in the order
(y, z, x). With Z-Y-Z Euler angles `Q = Rz(a) Ry(b) Rz(c)`, and with the constant matrix `K = D(Rx(-pi/2))`,
`D(Ry(b)) = K D(Rz(b)) K^T`: a Wigner matrix costs a few small products and no matrix exponential.
"""

from functools import lru_cache

import numpy as np
import scipy  # imports its subpackages on first use

from harmose.errors import StructureError
from harmose.so3.harmonics import complex_to_real


@lru_cache(maxsize=32)
def _quarter_turn(l: int) -> np.ndarray:
    """K(l) = D(Rx(-pi/2)) = exp(i pi/2 L_x) in float64, from the angular momentum matrix L_x."""
    m = np.arange(-l, l + 1)
    raising = np.diag(np.sqrt(l * (l + 1) - m[:-1] * (m[:-1] + 1)), -1)
    to_real = complex_to_real(l)
    # Shipped models amplify rounding errors of K up to 10^7 times: another formula would move their H by 1e-8 eV.
    return np.ascontiguousarray(
        (to_real.conj() @ scipy.linalg.expm(0.25j * np.pi * (raising + raising.T)) @ to_real.T).real
    )


def _then_about_z(matrix: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """matrix @ D(Rz(angle)), for matrices (..., n, 2l+1) and angles (...)."""
    l = matrix.shape[-1] // 2
    phase = angle[..., None, None] * np.arange(-l, l + 1, dtype=angle.dtype)
    # D has cos(m a) on the diagonal and on the anti-diagonal, column m, sin(m a). At m = 0 the two meet and sin is 0.
    return matrix * np.cos(phase) + matrix[..., ::-1] * np.sin(phase)


def _then_about_y(matrix: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """matrix @ D(Ry(angle)), for matrices (..., n, 2l+1) and angles (...)."""
    k = _quarter_turn(matrix.shape[-1] // 2).astype(angle.dtype, copy=False)
    turned = _then_about_z(matrix @ k, angle)
    return (turned.reshape(-1, len(k)) @ k.T).reshape(turned.shape)  # one product instead of one for each angle


def wigner_d(l: int, rotation: np.ndarray) -> np.ndarray:
    """D(l)(Q), shape (..., 2l+1, 2l+1), for proper rotations Q, shape (..., 3, 3), in their number type."""
    q = np.asarray(rotation)
    if l == 0:
        return np.ones((*q.shape[:-2], 1, 1), q.dtype)
    # Exact and cheap for l = 1: the rotation itself, in the order (y, z, x).
    if l == 1:
        return q[..., [[1], [2], [0]], [1, 2, 0]]
    # sin b e^{ia} = (Q_xz, Q_yz) and cos b = Q_zz; Ry(-b) Rz(-a) Q is the rotation by c about z.
    a = np.arctan2(q[..., 1, 2], q[..., 0, 2])
    b = np.arctan2(np.hypot(q[..., 0, 2], q[..., 1, 2]), q[..., 2, 2])
    # Second row of Rz(-a) Q is (sin c, cos c, 0).
    row = np.cos(a)[..., None] * q[..., 1, :] - np.sin(a)[..., None] * q[..., 0, :]
    about_z = _then_about_z(np.eye(2 * l + 1, dtype=q.dtype), a)
    return _then_about_z(_then_about_y(about_z, b), np.arctan2(row[..., 0], row[..., 1]))


def edge_wigner(l: int, vectors: np.ndarray) -> np.ndarray:
    """D(l) (E, 2l+1, 2l+1) of the rotation `Ry(-beta) Rz(-alpha)` that takes each vector (E, 3) to the +z axis.

    alpha and beta are the azimuth and polar angle of the vector; for vectors along z the azimuth is atan2(0, 0) = 0.
    """
    x, y, z = np.asarray(vectors).T
    alpha, beta = np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)
    return _then_about_z(_then_about_y(np.eye(2 * l + 1, dtype=x.dtype), -beta), -alpha)


@lru_cache(maxsize=32)
def half_turn(l: int) -> np.ndarray:
    """Diagonal (2l+1,) of D(l) for half a turn about x, from the frame of an edge to that of the reversed edge."""
    m = np.arange(-l, l + 1)
    return np.where((l + m) % 2, -1.0, 1.0) * np.where(m < 0, -1.0, 1.0)


def check_rotation(rotation: np.ndarray) -> np.ndarray:
    """`rotation` as float64 (3, 3). Raises `StructureError` unless it is a proper rotation to 1e-6."""
    q = np.asarray(rotation, dtype=np.float64)
    if q.shape != (3, 3) or not np.allclose(q @ q.T, np.eye(3), atol=1e-6) or np.linalg.det(q) < 0:
        raise StructureError(f"expected a proper 3x3 rotation matrix, got {q.tolist()}")
    return q


def shells_wigner(degrees: tuple[int, ...], rotation: np.ndarray) -> np.ndarray:
    """Block-diagonal D of shells with these l, shape (n_orbitals, n_orbitals), float64."""
    q = check_rotation(rotation)
    sizes = [2 * l + 1 for l in degrees]
    out = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for l, size in zip(degrees, sizes, strict=True):
        out[start : start + size, start : start + size] = wigner_d(l, q)
        start += size
    return out


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    """A uniformly distributed proper rotation (3, 3), from a unit quaternion."""
    w, x, y, z = (lambda q: q / np.linalg.norm(q))(generator.normal(size=4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
