"""Orbital energies and coefficients: the generalized eigenproblem of a localized, non-orthogonal basis.

    H(k) c = e S(k) c,        c_i^dagger S c_j = delta_ij

LAPACK's solver for a definite pair (through Cholesky's factor of S; Golub and Van Loan, Matrix Computations, 8.7) at each
k-point, real for molecules and at Gamma, complex elsewhere and for spinors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.physics.bloch import bloch_sum, check_kpoints
from harmose.physics.density import occupied_orbitals
from harmose.spin import Spin


def eigenvalues(h: BlockMatrix, s: BlockMatrix | None, kpoints: ArrayLike | None = None) -> np.ndarray:
    """Solve H(k) c = e S(k) c for all energies e.

    Args:
        h: Hamiltonian in eV, any spin.
        s: Overlap; of spin none or of the spin of H.
        kpoints: Fractional coordinates (n_k, 3). Default: Gamma, the only one for a molecule.

    Returns:
        Energies in eV, ascending: (n_k, n) for n orbitals; collinear (2, n_k, n); spinor (n_k, 2n).

    Raises:
        MatrixError: No S; H and S of different atoms or basis; values that are not finite; an S(k) that is not positive
            definite.

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> atoms = molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(atoms)
        >>> energies = harmose.eigenvalues(h, harmose.overlap(atoms, h.basis))
        >>> energies.shape
        (1, 24)
        >>> bool(energies[0, 4] < energies[0, 5] - 5)  # the gap behind five occupied orbitals
        True
    """
    h_k, s_k, k = _pairs(h, s, kpoints)
    return np.array(list(_lapack(h_k, s_k, k, eigvals_only=True))).reshape(h_k.shape[:-1])


def solve(h: BlockMatrix, s: BlockMatrix | None, kpoints: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the energies of `eigenvalues` and coefficients (n_k, n, n_bands), collinear (2, n_k, n, n_bands).

    Column b of `coefficients[k]` belongs to `energies[k, b]` and is normalised to c^dagger S c = 1. Its rows are orbitals
    in H's order (spinor: all up, then all down), in the lattice gauge. Real at Gamma unless spinor. Raises as `eigenvalues`.
    """
    h_k, s_k, k = _pairs(h, s, kpoints)
    energies, coefficients = zip(*_lapack(h_k, s_k, k), strict=True)
    return np.array(energies).reshape(h_k.shape[:-1]), np.array(coefficients).reshape(h_k.shape)


@dataclass(frozen=True, eq=False)
class MolecularOrbitals:
    """Orbitals of a closed shell (doubly occupied), of one spin, or spinors (2n of them, complex).

    `energies` (n,) in eV, ascending; `coefficients` (n, n), one column for each orbital.
    """

    energies: np.ndarray
    coefficients: np.ndarray
    n_occupied: int

    @property
    def homo(self) -> float | None:
        """Energy of the highest occupied orbital in eV; None without electrons."""
        return float(self.energies[self.n_occupied - 1]) if self.n_occupied else None

    @property
    def lumo(self) -> float | None:
        """Energy of the lowest empty orbital in eV; None when the basis has no empty one."""
        return float(self.energies[self.n_occupied]) if self.n_occupied < len(self.energies) else None

    @property
    def gap(self) -> float | None:
        """LUMO - HOMO in eV."""
        return None if self.homo is None or self.lumo is None else self.lumo - self.homo


def frontier(orbitals: Sequence[MolecularOrbitals]) -> tuple[float | None, float | None, float | None]:
    """Return HOMO, LUMO and gap of both spins together, in eV; None for what does not exist."""
    homo = max((x.homo for x in orbitals if x.homo is not None), default=None)
    lumo = min((x.lumo for x in orbitals if x.lumo is not None), default=None)
    return homo, lumo, None if homo is None or lumo is None else lumo - homo


def molecular_orbitals(h: BlockMatrix, s: BlockMatrix | None, n_electrons: float) -> MolecularOrbitals:
    """Return the orbitals of a molecule, of which the lowest are occupied, by two electrons each or, for spinors, by one.

    Raises `MatrixError` for a collinear or periodic H, an odd or impossible number of electrons, and as `solve`.
    """
    if h.spin is Spin.COLLINEAR:
        raise MatrixError("orbitals: expected one set (spin none or spinor), got spin collinear (see `spin_orbitals`)")
    return spin_orbitals(h, s, n_electrons)[0]


def spin_orbitals(
    h: BlockMatrix, s: BlockMatrix | None, n_electrons: float, occupied: Sequence[int] | None = None
) -> tuple[MolecularOrbitals, ...]:
    """Return `molecular_orbitals` for any spin: two sets, up and down, for collinear spins, otherwise one.

    `occupied` is the number of occupied orbitals of each set; default: the lowest of all. Raises as `molecular_orbitals`.
    """
    if is_periodic(h):
        raise MatrixError("orbitals: expected a molecule, got blocks between periodic images; `bands` is for crystals")
    energies, coefficients = solve(h, s)
    energies, coefficients = (x.reshape(-1, *x.shape[-k:]) for k, x in ((1, energies), (2, coefficients)))
    if occupied is None:
        per_orbital = 2 if h.spin is Spin.NONE else 1
        lowest = np.argsort(energies, axis=None, kind="stable")[: _n_occupied(n_electrons, per_orbital, energies.size)]
        occupied = [int((lowest // energies.shape[1] == k).sum()) for k in range(len(energies))]
    return tuple(MolecularOrbitals(e, c, n) for e, c, n in zip(energies, coefficients, occupied, strict=True))


def _n_occupied(n_electrons: float, per_orbital: int, n_orbitals: int) -> int:
    """Return the number of orbitals that the electrons fill."""
    if per_orbital == 2:
        return occupied_orbitals(n_electrons, n_orbitals)
    count = round(n_electrons)
    if abs(n_electrons - count) > 1e-6 or not 0 <= count <= n_orbitals:
        raise MatrixError(f"expected a whole number of electrons, at most {n_orbitals}, got {n_electrons:g}")
    return count


def is_periodic(operator: BlockMatrix) -> bool:
    """True if a stored pair crosses into another cell."""
    return bool(operator.keys[:, 2:].any())


def same_orbitals(a: BlockMatrix, b: BlockMatrix) -> bool:
    """True if two operators have the same atoms with the same shells; their basis sets may differ in other elements."""
    if not np.array_equal(a.numbers, b.numbers):
        return False
    return a.basis == b.basis or a.basis.restricted(a.numbers) == b.basis.restricted(b.numbers)


def _pairs(h: BlockMatrix, s: BlockMatrix | None, kpoints: ArrayLike | None) -> tuple[np.ndarray, ...]:
    """Return H(k) and S(k), both (n_k, n, n) or, collinear, (2, n_k, n, n), and the k-points (n_k, 3)."""
    s = check_pair(h, s)
    k = check_kpoints(np.zeros((1, 3)) if kpoints is None else kpoints)
    return at_kpoints(h, k, h.spin), at_kpoints(s, k, h.spin), k


def at_kpoints(operator: BlockMatrix, kpoints: np.ndarray, spin: Spin) -> np.ndarray:
    """Return the operator at each k-point in the shape of a Hamiltonian of `spin`: an S of spin none is repeated."""
    if operator.spin is Spin.SPINOR or (is_periodic(operator) and kpoints.any()):
        matrices = bloch_sum(operator, kpoints)
    else:
        # the same real matrix at every k-point
        dense = operator.dense()[..., None, :, :]
        matrices = np.broadcast_to(dense, (*dense.shape[:-3], len(kpoints), *dense.shape[-2:]))
    if operator.spin is spin:
        return matrices
    if spin is Spin.COLLINEAR:
        return np.stack([matrices, matrices])
    zero = np.zeros_like(matrices)
    return np.block([[matrices, zero], [zero, matrices]])


def overlap_at_gamma(s: BlockMatrix, spin: Spin) -> np.ndarray:
    """Return S at Gamma (n, n) in the shape of one set of orbitals of an H of `spin`: spinors (2n, 2n)."""
    matrices = at_kpoints(s, np.zeros((1, 3)), spin)
    return matrices.reshape(-1, *matrices.shape[-2:])[0]


def _lapack(h: np.ndarray, s: np.ndarray, kpoints: np.ndarray, **options: bool) -> Iterator[Any]:
    """Yield the result of `scipy.linalg.eigh` for each matrix of H and S (..., n_k, n, n), in order."""
    n = h.shape[-1]
    for index, (h_k, s_k) in enumerate(zip(h.reshape(-1, n, n), s.reshape(-1, n, n), strict=True)):
        try:
            yield scipy.linalg.eigh(h_k, s_k, **options)
        except np.linalg.LinAlgError:
            k, lowest = kpoints[index % len(kpoints)].tolist(), np.linalg.eigvalsh(s_k)[0]
            raise MatrixError(f"S is not positive definite at k-point {k}: smallest eigenvalue {lowest:.3e}") from None


def check_pair(h: BlockMatrix, s: BlockMatrix | None) -> BlockMatrix:
    """Return S; raises `MatrixError` unless it belongs to H and both are finite."""
    if s is None:
        raise MatrixError("orbital energies need the overlap S beside H: the basis is not orthogonal; got no S")
    if not same_orbitals(h, s):
        raise MatrixError(
            f"expected H and S of the same atoms and basis, got {len(h.numbers)} atoms in {h.basis.name} and "
            f"{len(s.numbers)} in {s.basis.name}"
        )
    if s.spin not in (Spin.NONE, h.spin):
        raise MatrixError(f"expected S of spin none or {h.spin}, got {s.spin}")
    for name, operator in (("H", h), ("S", s)):
        if not np.isfinite(operator.values).all():
            raise MatrixError(f"expected finite values in {name}, got NaN or infinity")
    return s
