"""Self-consistent Loewdin charges and density matrix of a cheap Hamiltonian H0: covariant features of a molecule.

Charges are self-consistent to first order: they shift H0 by their own electrostatic potential, here in the
orthogonalized basis (H0' = S^-1/2 H0 S^-1/2; a, b orbitals, i, j atoms),

    P = f(H0' + diag V),   q_i = sum_{a of i} P_aa - Z_i,   V_i = sum_j q_j / sqrt(r_ij^2 + (a_i + a_j)^2),

as in the tight binding of Elstner et al., Phys. Rev. B 58, 7260 (1998), with covalent radii for the a_i. Most of H - H0 is
the response of the electrons of the whole molecule; P and q describe it, for a few diagonalizations (features of
this kind: Qiao et al., OrbNet, J. Chem. Phys. 153, 124111 (2020)).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from ase.data import covalent_radii

from harmose.core.blocks import BlockMatrix, block_values
from harmose.core.species import atomic_numbers_of
from harmose.errors import MatrixError
from harmose.physics.occupations import solve_chemical_potential
from harmose.units import BOHR, HARTREE

TEMPERATURE = 0.01
"""Electronic temperature in Hartree: occupations stay smooth where two orbital energies cross."""
MIN_RADIUS = 0.55
"""Angstrom, in place of hydrogen's covalent radius: its charge is softer."""
CONVERGED = 1e-9
"""Largest change of a potential (Hartree) between two cycles that are self-consistent."""
MAX_CYCLES = 200
MIXING = 0.3
"""Part of the residual that is added to the potential of a molecule too large for its response."""
RESPONSE_NUMBERS = 2 * 10**7
"""Largest number of products of orbitals whose response is computed."""
HISTORY = 6
"""Earlier cycles that Anderson mixing combines."""


class UnconvergedCharges(UserWarning):
    """Charges that are not self-consistent: the last ones are used."""


@dataclass(frozen=True)
class ChargeState:
    """Density matrix `density` (P), and for each atom `charge` (N,), electrons in excess of Z, and `potential` (N,) in Hartree.

    P is that of the orthogonalized basis.
    """

    density: BlockMatrix
    charge: np.ndarray
    potential: np.ndarray


def charge_state(prior: BlockMatrix, overlap: BlockMatrix, positions: np.ndarray, n_electrons: float) -> ChargeState:
    """Return P, q and V of a molecule without spin from H0 (eV), S and positions (N, 3) in angstrom.

    Warns (`UnconvergedCharges`) where the charges are not self-consistent. Raises `MatrixError` for an overlap that is not
    positive definite and for more electrons than the orbitals hold.
    """
    s, h = overlap.dense(), prior.dense() / HARTREE
    sizes, vectors = scipy.linalg.eigh(s)
    if sizes[0] <= 0:
        raise MatrixError(f"expected a positive definite overlap, got one with the eigenvalue {sizes[0]:.2g}")
    inverse_root = (vectors / np.sqrt(sizes)) @ vectors.T
    h = inverse_root @ h @ inverse_root
    atom = np.repeat(np.arange(len(prior.numbers)), prior.orbital_counts)
    numbers = atomic_numbers_of(prior.numbers)
    kernel = coulomb(numbers, positions)

    @lru_cache(maxsize=1)  # the first and the last potential are asked for twice
    def solve(potential: bytes) -> tuple[np.ndarray, np.ndarray]:
        return scipy.linalg.eigh(h + np.diag(np.frombuffer(potential)[atom]), driver="evd")

    def density_and_charge(potential: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energies, orbitals = solve(potential.tobytes())
        p = (orbitals * thermal_occupations(energies, n_electrons)) @ orbitals.T
        return p, np.bincount(atom, np.diag(p), len(numbers)) - numbers

    start = np.zeros(len(numbers))
    if len(atom) ** 3 <= RESPONSE_NUMBERS:  # Newton's step where the molecule is neutral
        energies, orbitals = solve(start.tobytes())
        slope = kernel @ response(energies, orbitals, thermal_occupations(energies, n_electrons), atom)
        mixing = np.linalg.inv(np.eye(len(numbers)) - slope)
    else:
        mixing = MIXING * np.eye(len(numbers))
    potential, residual = fixed_point(lambda v: kernel @ density_and_charge(v)[1], start, mixing)
    if not residual < CONVERGED:
        warnings.warn(
            f"charges: not self-consistent after {MAX_CYCLES} cycles; the potential changes by {residual:.1e} Hartree, "
            f"expected below {CONVERGED:g}",
            UnconvergedCharges,
            stacklevel=2,
        )
    p, charge = density_and_charge(potential)
    # P of conjugated molecules is longer than the reach of orbitals; no feature reads it there.
    return ChargeState(block_values((p + p.T) / 2, prior, name="P", dropped=np.inf), charge, potential)


def coulomb(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return 1 / sqrt(r^2 + (a_i + a_j)^2) between atoms (N, N), in Hartree."""
    radius = np.maximum(covalent_radii[numbers], MIN_RADIUS)
    separation = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return BOHR / np.sqrt(separation**2 + (radius[:, None] + radius) ** 2)


def thermal_occupations(energies: np.ndarray, n_electrons: float) -> np.ndarray:
    """Return the electrons (0 to 2) in each of the ascending `energies` (n,) in Hartree: Fermi-Dirac at `TEMPERATURE`."""

    def filled(mu: float) -> np.ndarray:
        return 2 * scipy.special.expit((mu - energies) / TEMPERATURE)

    ends = energies[0] - 1, energies[-1] + 1
    return filled(solve_chemical_potential(lambda mu: filled(mu).sum(), n_electrons, *ends))


def response(energies: np.ndarray, orbitals: np.ndarray, occupations: np.ndarray, atom: np.ndarray) -> np.ndarray:
    """Return dq/dV (N, N) of Loewdin charges to first order, at a constant number of electrons.

    `orbitals` (n, n) are columns, in an orthonormal basis whose functions belong to the atoms `atom` (n,), ascending.
    """
    share = occupations / 2
    slope = -2 * share * (1 - share) / TEMPERATURE
    of_one, of_other = np.flatnonzero(share > 1e-10), np.flatnonzero(share < 1 - 1e-10)
    gap = energies[of_one, None] - energies[of_other]
    change = occupations[of_one, None] - occupations[of_other]
    close = np.abs(gap) < 1e-6
    factor = np.where(close, slope[of_one, None], change / np.where(close, 1, gap))
    # a pair of fractionally filled orbitals comes twice, any other one once and stands for both orders
    factor *= np.where(np.isin(of_one, of_other)[:, None] & np.isin(of_other, of_one), 1, 2)
    products = orbitals[:, of_one, None] * orbitals[:, None, of_other]
    starts = np.searchsorted(atom, np.arange(atom[-1] + 1))
    products = np.add.reduceat(products, starts).reshape(len(starts), -1)
    out = (products * factor.ravel()) @ products.T
    if slope.any():
        of_level = np.add.reduceat(orbitals**2, starts) @ slope
        out -= np.outer(of_level, of_level) / slope.sum()
    return out


def fixed_point(
    step: Callable[[np.ndarray], np.ndarray], x: np.ndarray, mixing: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return x with step(x) = x by Anderson mixing, and the largest |step(x) - x|; the last x after `MAX_CYCLES`.

    The first step is `mixing` (n, n) times the residual: exact where it is the inverse of 1 - d step/dx of a linear step.

    `scipy.optimize.anderson` takes as many steps, but stops elsewhere within the tolerance: the matrices of a trained model
    would change by 4e-8 eV.
    """
    steps: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    error = np.inf
    for _ in range(MAX_CYCLES):
        residual = step(x) - x
        error = float(np.abs(residual).max(initial=0.0))
        if error < CONVERGED:
            break
        change = mixing @ residual
        if residuals:
            differences = np.stack([residual - r for r in residuals], 1)
            moves = np.stack([x - y for y in steps], 1)
            share = np.linalg.lstsq(differences, residual, rcond=1e-10)[0]
            change = change - (moves + mixing @ differences) @ share
        steps, residuals = [*steps, x][-HISTORY:], [*residuals, residual][-HISTORY:]
        x = x + change
    return x, error
