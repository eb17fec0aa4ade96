"""The one-particle density matrix of a closed shell, from H and S.

    H c_i = e_i S c_i,    c_i^T S c_j = delta_ij,    D = 2 sum_{i <= N/2} c_i c_i^T,    Tr(D S) = N

with the N/2 lowest orbitals doubly occupied (Szabo and Ostlund, Modern Quantum Chemistry, eq. 3.145).
"""

import numpy as np
import scipy

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.spin import Spin


def density_matrix(h: BlockMatrix, s: BlockMatrix, n_electrons: float) -> BlockMatrix:
    """Return the density matrix of a molecule without spin in the blocks of H, without units.

    Blocks outside the graph are dropped: H and S vanish there, so that Tr(D H) and Tr(D S) lose nothing. `dense_density` has
    all of D. Raises `MatrixError` as it does.
    """
    _, row, col = h.indices
    return h.with_values(dense_density(h, s, n_electrons)[None, row, col])


def dense_density(h: BlockMatrix, s: BlockMatrix, n_electrons: float) -> np.ndarray:
    """Return the density matrix (n, n), orbitals in the order of H.

    Raises `MatrixError` for other spins, a periodic structure, an odd or impossible number of electrons, H and S of
    different blocks, and an S that is not positive definite.
    """
    if h.spin is not Spin.NONE:
        raise MatrixError(f"density matrix: expected a closed shell (spin none), got spin {h.spin}")
    if h.pairs[:, 2:].any():
        raise MatrixError(
            "density matrix: expected a molecule, got blocks between periodic images (see `crystal_density`)"
        )
    if s.n_orbitals != h.n_orbitals or not np.array_equal(s.numbers, h.numbers):
        sizes = f"{h.n_orbitals} and {s.n_orbitals} orbitals"
        raise MatrixError(f"density matrix: expected H and S of the same atoms, got {sizes}")
    return density_from_dense(h.dense(), s.dense(), n_electrons)


def density_from_dense(h: np.ndarray, s: np.ndarray, n_electrons: float) -> np.ndarray:
    """Return the density matrix of H and S (n, n) in any orbital order, energies in any unit; see `dense_density`."""
    n_occupied = occupied_orbitals(n_electrons, len(h))
    if n_occupied == 0:
        return np.zeros_like(h)
    try:
        _, c = scipy.linalg.eigh(h, s, subset_by_index=[0, n_occupied - 1])  # (n, n_occupied)
    except np.linalg.LinAlgError:
        raise MatrixError("density matrix: expected a positive definite S, got one that is not") from None
    return 2 * c @ c.T


def occupied_orbitals(n_electrons: float, n_orbitals: int) -> int:
    """Return the number of doubly occupied orbitals; raises `MatrixError` for an odd or impossible number of electrons."""
    count = round(n_electrons / 2)
    if abs(n_electrons - 2 * count) > 1e-6 or not 0 <= count <= n_orbitals:
        raise MatrixError(f"expected an even number of electrons, at most {2 * n_orbitals}, got {n_electrons:g}")
    return count
