"""Bloch sums: the real-space blocks of an operator as matrices at k-points.

    H(k) = sum_R exp(2 pi i k . R) H(R)

with k in fractions of the reciprocal lattice vectors and R in whole lattice vectors. This is the lattice gauge: the
phase counts cells, not distances between atoms, so that H(k + G) = H(k). (In the atom gauge, with a phase for the vector
between the two atoms, the coefficients differ by a phase per orbital; energies are the same.)
"""

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.spin import Spin


def bloch_sum(operator: BlockMatrix, kpoints: ArrayLike) -> np.ndarray:
    """Return H(k) for each of `kpoints` (n_k, 3), complex and Hermitian, in the operator's unit.

    Shape (n_k, n, n) for spin none, (2, n_k, n, n) for collinear, (n_k, 2n, 2n) for spinor with the spin blocks
    [[uu, ud], [du, dd]]. The block of a reversed pair is the adjoint of the stored one. Raises `MatrixError` for k-points
    of another shape or not finite.
    """
    kpoints = check_kpoints(kpoints)
    if operator.spin is Spin.COLLINEAR:
        return np.stack([_hermitian_sum(operator, kpoints, [component]) for component in (0, 1)])
    return _hermitian_sum(operator, kpoints, range(operator.spin.n_components))


def check_kpoints(kpoints: ArrayLike) -> np.ndarray:
    """Return `kpoints`, (n_k, 3) or (3,), as float64 (n_k, 3). Raises `MatrixError` for another shape or infinite values."""
    k = np.asarray(kpoints, dtype=np.float64)
    k = k[None] if k.shape == (3,) else k
    if k.ndim != 2 or k.shape[1] != 3 or not len(k):
        raise MatrixError(f"k-points: expected fractional coordinates of shape (n_k, 3), got {k.shape}")
    if not np.isfinite(k).all():
        raise MatrixError("k-points: expected finite coordinates, got NaN or infinity")
    return k


def _hermitian_sum(operator: BlockMatrix, kpoints: np.ndarray, components: Sequence[int]) -> np.ndarray:
    """Return on-site blocks + pairs with their phases + the adjoint of the latter: (n_k, m, m), m = n or 2n."""
    block, row, col = operator.indices
    cells, cell_of_block = np.unique(operator.keys[:, 2:], axis=0, return_inverse=True)
    cell = cell_of_block.ravel()[block]
    size = operator.n_orbitals * (2 if operator.spin is Spin.SPINOR else 1)
    is_onsite, stored = operator.is_onsite, {True: [], False: []}
    for component in components:
        # spinor components uu, ud, du, dd fill the four quarters; otherwise there is one quarter
        down_row, down_col = divmod(component, 2) if operator.spin is Spin.SPINOR else (0, 0)
        place = (row + down_row * operator.n_orbitals) * size + col + down_col * operator.n_orbitals
        for onsite in (True, False):
            where = is_onsite == onsite
            stored[onsite].append((operator.values[component, where], cell[where], place[where]))
    phases = np.exp(2j * np.pi * kpoints @ cells.T)  # (n_k, n_cells)
    diagonal, pairs = (_phased(stored[onsite], phases, size) for onsite in (True, False))
    return diagonal + pairs + pairs.conj().transpose(0, 2, 1)


def _phased(parts: list, phases: np.ndarray, size: int) -> np.ndarray:
    """Return sum_R phase(k, R) X(R), (n_k, size, size), from the values, cells and flat places of X."""
    values, cell, place = (np.concatenate(column) for column in zip(*parts))
    # one row per R, one column per matrix element that occurs anywhere
    occurring, column = np.unique(place, return_inverse=True)
    table = scipy.sparse.csr_matrix((values, (column, cell)), shape=(len(occurring), phases.shape[1]))
    out = np.zeros((len(phases), size * size), dtype=np.complex128)
    out[:, occurring] = (table @ phases.T).T
    return out.reshape(-1, size, size)
