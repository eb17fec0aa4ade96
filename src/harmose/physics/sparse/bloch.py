"""Bloch sums as sparse matrices: H(k) of `physics.bloch` without a dense matrix in between.

    H(k) = sum_R exp(2 pi i k . R) H(R)

The matrix is real where H(R) and all phases are real: at Gamma, and where k is half a reciprocal vector. Blocks of zeros are
kept, so that H and S of one graph have one pattern.
"""

from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.physics.bloch import check_kpoints
from harmose.spin import Spin

GAMMA = (0.0, 0.0, 0.0)
Matrix: TypeAlias = "scipy.sparse.csr_matrix | scipy.sparse.bsr_matrix"


def sparse_at(
    operator: BlockMatrix,
    kpoint: ArrayLike = GAMMA,
    spin: Spin | None = None,
    blocked: bool = False,
    dtype: type | np.dtype | None = None,
) -> tuple[Matrix, ...]:
    """Return the operator at one k-point (3,) as one matrix (n, n), or two for collinear spins, in the operator's unit.

    A spinor operator is one complex matrix (2n, 2n) with the spin blocks [[uu, ud], [du, dd]]. `spin` is the spin of the H that
    an overlap of spin none belongs to; the overlap is repeated as in `eigen.at_kpoints`. `blocked`: BSR matrices, without an
    index for each value, where all atoms have the same number of orbitals (otherwise, and for spinors, CSR). `dtype` of the
    values is float64 or complex128 by default. Raises `MatrixError` for more than one k-point.
    """
    k = check_kpoints(kpoint)
    if len(k) != 1:
        raise MatrixError(f"sparse matrices: expected one k-point, got {len(k)}")
    phases = _phases(operator, k[0])
    build = operator.rows.bsr if blocked and operator.rows.block_size is not None else operator.rows.csr
    if dtype is not None and phases is not None and np.iscomplexobj(phases):
        dtype = np.result_type(dtype, np.complex64)
    values = operator.values
    if operator.spin is Spin.SPINOR:
        csr = operator.rows.csr
        uu, ud, du, dd = (csr(values[c], values[a].conj(), phases, dtype) for c, a in enumerate((0, 2, 1, 3)))
        matrices = (scipy.sparse.bmat([[uu, ud], [du, dd]], format="csr"),)
    else:
        matrices = tuple(build(component, component, phases, dtype) for component in values)
    spin = operator.spin if spin is None else spin
    if operator.spin is spin:
        return matrices
    if operator.spin is not Spin.NONE:
        raise MatrixError(f"expected an operator of spin none or {spin}, got {operator.spin}")
    return matrices * 2 if spin is Spin.COLLINEAR else (scipy.sparse.block_diag(matrices * 2, format="csr"),)


def pencils(
    h: BlockMatrix, s: BlockMatrix, kpoint: ArrayLike = GAMMA, dtype: type | np.dtype | None = None
) -> list[tuple[Matrix, Matrix]]:
    """Return H(k) and S(k) of each spin from `sparse_at`, as BSR matrices where possible."""
    both = (sparse_at(x, kpoint, h.spin, blocked=True, dtype=dtype) for x in (h, s))
    return list(zip(*both, strict=True))


def _phases(operator: BlockMatrix, kpoint: np.ndarray) -> np.ndarray | None:
    """Return the phase of each stored block (N + P,): None where all are 1, real where they are 1 and -1."""
    cells = operator.keys[:, 2:]
    if not kpoint.any() or not cells.any():
        return None
    used = kpoint[cells.any(axis=0)]
    if (2 * used % 1 == 0).all():
        return np.cos(np.pi * np.round(2 * cells @ kpoint))
    return np.exp(2j * np.pi * cells @ kpoint)


def shifted(h: Matrix, s: Matrix, shift: float) -> Matrix:
    """Return H + shift S, without a search for the union of their patterns where these are the same."""
    factor = np.asarray(shift, s.data.real.dtype)
    alike = h.format == s.format and h.data.shape == s.data.shape
    if alike and np.array_equal(h.indptr, s.indptr) and np.array_equal(h.indices, s.indices):
        return type(h)((h.data + factor * s.data, h.indices, h.indptr), shape=h.shape)
    return (h + factor * s).asformat(h.format)
