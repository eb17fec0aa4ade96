"""The operator whose spectrum the kernel polynomial method resolves, for a non-orthogonal basis: a resolvent times S.

    A = H + c S,        A^-1 S c_i = c_i / (e_i + c),        c above all -e_i

Its eigenvalues, 1 / (e + c), are all in (0, 1 / (e_min + c)]. S^-1 H has the spectrum of H itself, but in a basis of molecular
quality S is nearly singular (condition number 4000 in DZVP-MOLOPT), and its inverse is neither short-ranged nor cheap. A is well
conditioned: where S is small, H is large, because functions that cancel each other almost have a high kinetic energy. And as a map
of energies, 1 / (e + c) compresses the empty states up to hundreds of eV, which are most of a basis and of no interest.

The inverse of A is a sparse approximate one (`fsai`), improved by one Newton step, which is a polynomial in it:

    Z = G^dagger G,        M = 2 Z - Z A Z = G^dagger (2 - B) G,        B = G A G^dagger

M S is self-adjoint in the inner product of S whatever the error of M is, and has real eigenvalues; those of states near the
window are wrong by the square of the error of Z there (all eigenvalues of B are within `Resolvent.spread`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.linalg import eigh_tridiagonal

from harmose.errors import MatrixError
from harmose.physics.sparse.bloch import Matrix, shifted
from harmose.physics.sparse.fsai import approximate_inverse
from harmose.physics.sparse.row_blocks import RowBlocks, columns_of, row_blocks
from harmose.physics.sparse.settings import DEFAULT, SparseSettings

Apply = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Resolvent:
    """M S of one spin at one k-point, from S, A and G as row blocks, and the shift c in eV."""

    s: RowBlocks
    a: RowBlocks
    g: RowBlocks
    shift: float
    settings: SparseSettings = field(default=DEFAULT)

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(self.s.values[0], self.a.values[0])

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.s.n

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Return M x, close to A^-1 x, for x (n, v)."""
        z = self.g.gram(x)
        return 2 * z - self.g.gram(self.a @ z)

    def _b(self, x: np.ndarray) -> np.ndarray:
        return self.g @ (self.a @ self.g.adjoint(x))

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Bounds of the eigenvalues of B, which are 1 where Z is exact. Raises `MatrixError` where M is no inverse."""
        low, high = lanczos_bounds(self._b, None, self.n, self.dtype, self.settings.lanczos_steps)
        if low <= 0 or high >= 1.9:
            raise MatrixError(
                f"density of states: H + {self.shift:g} S has no sparse inverse (spread {low:.2f} to {high:.2f}, expected "
                "within 0 and 1.9)"
            )
        return low, high

    @cached_property
    def highest(self) -> float:
        """Upper bound of the eigenvalues of M S, close to 1 / (e_min + c)."""
        apply, steps = (lambda x: self.inverse(self.s @ x)), self.settings.lanczos_steps
        return lanczos_bounds(apply, lambda x: self.s @ x, self.n, self.dtype, steps)[1]

    def start(self, random: np.ndarray) -> np.ndarray:
        """Return vectors x = G^dagger (2 - B)^1/2 r (n, v), which have the covariance M where `random` r have the covariance 1.

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
    h: Matrix, s: Matrix, rows: list[np.ndarray], shift: float, dtype: np.dtype, settings: SparseSettings = DEFAULT
) -> Resolvent:
    """Return the operator of H and S (eV) with the shift c (eV); `rows` are the rows of each cluster, `dtype` that of the blocks.

    Raises `MatrixError` where H + c S is not positive definite.
    """
    a = shifted(h, s, shift)
    overlapping = _drop_below(s, settings.neighbour_overlap)
    neighbours = [columns_of(overlapping, of_cluster) for of_cluster in rows]
    g = approximate_inverse(a.astype(dtype, copy=False), rows, neighbours)
    s = _drop_below(s, settings.least_overlap)
    return Resolvent(row_blocks(s, rows, dtype), row_blocks(a, rows, dtype), g, shift, settings)


def _drop_below(matrix: Matrix, limit: float) -> Matrix:
    """Return the matrix with those of its blocks (BSR) or values (CSR) that have an absolute value above `limit`."""
    sizes = np.abs(matrix.data).max(axis=(1, 2)) if matrix.format == "bsr" else np.abs(matrix.data)
    keep = sizes > limit
    pointers = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr].astype(matrix.indptr.dtype)
    return type(matrix)((matrix.data[keep], matrix.indices[keep], pointers), shape=matrix.shape)


def lanczos_bounds(apply: Apply, metric: Apply | None, n: int, dtype: np.dtype, steps: int) -> tuple[float, float]:
    """Return bounds of the spectrum of an operator that is self-adjoint in the inner product `metric` (None: the plain one).

    They are the ends of Lanczos's tridiagonal matrix, moved outward by the last residual. ARPACK would need the inverse of the metric.
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
    values, vectors = eigh_tridiagonal(diagonal, beside[: len(diagonal) - 1])
    last = beta * np.abs(vectors[-1])
    return float((values - last).min()), float((values + last).max())
