"""The one-particle density matrix of a closed shell from dense H and S (see `crystal_density` for blocks and other spins).

    H c_i = e_i S c_i,    c_i^T S c_j = delta_ij,    D = 2 sum_{i <= N/2} c_i c_i^T,    Tr(D S) = N

with the N/2 lowest orbitals doubly occupied (Szabo and Ostlund, Modern Quantum Chemistry, eq. 3.145).
"""

import numpy as np
import scipy

from harmose.errors import MatrixError


def density_from_dense(h: np.ndarray, s: np.ndarray, n_electrons: float) -> np.ndarray:
    """Return the density matrix (n, n) of H and S (n, n), in their order of orbitals; energies in any unit.

    Raises `MatrixError` for an odd or impossible number of electrons and for an S that is not positive definite.
    """
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
