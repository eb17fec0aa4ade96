"""The operator whose spectrum the kernel polynomial method resolves, for a non-orthogonal basis: a resolvent times S.

    A = H + c S,        A^-1 S c_i = c_i / (e_i + c),        c above all -e_i

Its eigenvalues, 1 / (e + c), are all in (0, 1 / (e_min + c)]. S^-1 H would do as well, but in a basis of molecular quality
S is nearly singular (condition number 4000 in DZVP-MOLOPT), and its inverse is neither short-ranged nor cheap. A is tame: where S is
small, H is large, because functions that cancel each other almost have a high kinetic energy. And as a map of energies,
1 / (e + c) packs the empty states up to hundreds of eV, of which a basis has most and nobody looks at, into a corner.

The inverse of A is a sparse approximate one, improved by one Newton step, which is a polynomial in it:

    Z = G^dagger G  (`local_inverse`),        M = 2 Z - Z A Z = G^dagger (2 - B) G,        B = G A G^dagger

M S is self-adjoint in the inner product of S whatever the error of M is, and has real eigenvalues; those of states near the
window are wrong by the square of the error of Z there (`Resolvent.spread` bounds it: all eigenvalues of B are in that range).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from harmose.errors import MatrixError
from harmose.physics.sparse.bloch import shifted
from harmose.physics.sparse.fsai import local_inverse
from harmose.physics.sparse.row_blocks import Panels, columns_of, panels

NEAR = 1e-3
"""Orbitals that overlap by more than this are near, when the inverse is approximated."""
FAR = 1e-7
"""Smaller overlaps are left out."""
STEPS = 30
"""Of Lanczos, for the ends of a spectrum."""


@dataclass(frozen=True, eq=False)
class Resolvent:
    """M S of one spin at one k-point: `s`, `a` and `g` as panels, and the shift c in eV."""

    s: Panels
    a: Panels
    g: Panels
    shift: float

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(self.s.values[0], self.a.values[0])

    @property
    def n(self) -> int:
        return self.s.n

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """M x, close to A^-1 x: (n, v)."""
        z = self.g.gram(x)
        return 2 * z - self.g.gram(self.a @ z)

    def _b(self, x: np.ndarray) -> np.ndarray:
        return self.g @ (self.a @ self.g.adjoint(x))

    @cached_property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest eigenvalue of B = G A G^dagger, 1 where Z is exact. `MatrixError` where M is no inverse."""
        low, high = lanczos_ends(self._b, None, self.n, self.dtype)
        if low <= 0 or high >= 1.9:
            raise MatrixError(
                f"density of states: H + {self.shift:g} S has no sparse inverse (spread {low:.2f} to {high:.2f}, expected "
                "within 0 and 1.9)"
            )
        return low, high

    @cached_property
    def highest(self) -> float:
        """The greatest eigenvalue of M S, 1 / (e_min + c)."""
        _, high = lanczos_ends(lambda x: self.inverse(self.s @ x), lambda x: self.s @ x, self.n, self.dtype)
        return high

    def start(self, random: np.ndarray) -> np.ndarray:
        """Vectors x (n, v) with the covariance M, from ones with the covariance 1: x = G^dagger (2 - B)^1/2 random.

        Then the mean of x^dagger S f(M S) x is the sum of lambda f(lambda) over all states, lambda = 1 / (e + c).
        """
        low, high = self.spread
        low, high = max(low - 0.1, 0.0), min(high + 0.05, 1.95)
        root = np.polynomial.Chebyshev.interpolate(lambda x: np.sqrt(2 - x), 16, domain=[low, high])
        middle, half = (high + low) / 2, (high - low) / 2
        previous, current = random, (self._b(random) - middle * random) / half
        total = root.coef[0] * previous + root.coef[1] * current
        for coefficient in root.coef[2:]:
            previous, current = current, 2 * (self._b(current) - middle * current) / half - previous
            total += coefficient * current
        return self.g.adjoint(total.astype(self.dtype))


def resolvent(
    h: sparse.csr_matrix | sparse.bsr_matrix,
    s: sparse.csr_matrix | sparse.bsr_matrix,
    rows: list[np.ndarray],
    shift: float,
    dtype: np.dtype,
) -> Resolvent:
    """Of H and S, the orbitals of each cluster, and c in eV; `dtype` of the panels.

    `MatrixError` where H + c S is not positive definite.
    """
    a = shifted(h, s, shift)
    overlapping = _kept(s, _block_sizes(s) > NEAR)
    g = local_inverse(a.astype(dtype, copy=False), rows, [columns_of(overlapping, of_cluster) for of_cluster in rows])
    return Resolvent(panels(_kept(s, _block_sizes(s) > FAR), rows, dtype), panels(a, rows, dtype), g, shift)


def _block_sizes(matrix) -> np.ndarray:
    """The largest value of each block, or of each value itself."""
    return np.abs(matrix.data).max(axis=(1, 2)) if matrix.format == "bsr" else np.abs(matrix.data)


def _kept(matrix, keep: np.ndarray):
    """The matrix with these blocks, or values, alone."""
    pointers = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr].astype(matrix.indptr.dtype)
    return type(matrix)((matrix.data[keep], matrix.indices[keep], pointers), shape=matrix.shape)


def lanczos_ends(apply, metric, n: int, dtype: np.dtype, steps: int = STEPS) -> tuple[float, float]:
    """Bounds of the spectrum of an operator that is self-adjoint in the inner product `metric` (None: the plain one).

    The ends of Lanczos's tridiagonal matrix, moved outward by the last residual.
    """
    random = np.random.default_rng(0)
    q = random.normal(size=(n, 1)).astype(dtype)
    m = q if metric is None else metric(q)
    norm = np.sqrt(np.vdot(q, m).real)
    q, m = q / norm, m / norm
    previous, diagonal, beside, beta = np.zeros_like(q), [], [], 0.0
    for _ in range(min(steps, n)):
        w = apply(q) - beta * previous
        alpha = float(np.vdot(m, w).real)
        w = w - alpha * q
        previous = q
        m = w if metric is None else metric(w)
        beta = float(np.sqrt(max(np.vdot(w, m).real, 0.0)))
        diagonal.append(alpha)
        if beta < 1e-10 * abs(alpha):
            break
        beside.append(beta)
        q, m = (w / beta).astype(dtype), m / beta
    size = len(diagonal)
    matrix = np.diag(diagonal) + np.diag(beside[: size - 1], 1) + np.diag(beside[: size - 1], -1)
    values, vectors = np.linalg.eigh(matrix)
    last = beta * np.abs(vectors[-1])
    return float((values - last).min()), float((values + last).max())
