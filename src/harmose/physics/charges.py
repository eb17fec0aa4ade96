"""What the electrons of a cheap Hamiltonian H0 do: its density matrix and charges, as covariant features of a molecule.

Charges are self-consistent to first order: they shift H0 by their own electrostatic potential, here in the
orthogonalized basis (H0' = S^-1/2 H0 S^-1/2; a, b orbitals, i, j atoms),

    P = f(H0' + diag V),   q_i = sum_{a of i} P_aa - Z_i,   V_i = sum_j q_j / sqrt(r_ij^2 + (a_i + a_j)^2),

as in the tight binding of Elstner et al., Phys. Rev. B 58, 7260 (1998), with covalent radii for the a_i. What H0 lacks of H
is mostly what its electrons would do to it, all over the molecule; P and q say it, for a few diagonalizations (features of
this kind: Qiao et al., OrbNet, J. Chem. Phys. 153, 124111 (2020)).
"""

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.special import expit

from harmose.core.blocks import BlockMatrix, block_values
from harmose.errors import MatrixError
from harmose.units import BOHR, HARTREE

TEMPERATURE = 0.01
"""Hartree, of the occupations: levels that cross change places smoothly."""
LEAST_RADIUS = 0.55
"""Angstrom; hydrogen's charge is softer than its covalent radius has it."""
CONVERGED = 1e-9
"""Of the potentials, in Hartree."""
MOST_CYCLES = 200
HISTORY = 6
"""Cycles that Anderson's mixing looks back on."""


@dataclass(frozen=True)
class ChargeState:
    """Of one molecule: `density` P in the orthogonalized basis, electrons in excess of Z `charge` (N,), `potential` (N,) in
    Hartree."""

    density: BlockMatrix
    charge: np.ndarray
    potential: np.ndarray


def charge_state(prior: BlockMatrix, overlap: BlockMatrix, positions: np.ndarray, n_electrons: float) -> ChargeState:
    """P, q and V of a molecule without spin from H0 (eV) and S; positions (N, 3) in angstrom.

    Raises `MatrixError` for an overlap that is not positive definite.
    """
    s, h = overlap.dense(), prior.dense() / HARTREE
    sizes, vectors = eigh(s)
    if sizes[0] <= 0:
        raise MatrixError(f"expected a positive definite overlap, got one with the eigenvalue {sizes[0]:.2g}")
    inverse_root = (vectors / np.sqrt(sizes)) @ vectors.T
    h = inverse_root @ h @ inverse_root
    atom = np.repeat(np.arange(len(prior.numbers)), prior.orbital_counts)
    kernel = coulomb(prior.numbers, positions)

    def filled(potential: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels, orbitals = eigh(h + np.diag(potential[atom]), driver="evd")
        p = (orbitals * occupations(levels, n_electrons)) @ orbitals.T
        return p, np.bincount(atom, np.diag(p), len(prior.numbers)) - prior.numbers

    potential = fixed_point(lambda v: kernel @ filled(v)[1], np.zeros(len(prior.numbers)))
    p, charge = filled(potential)
    return ChargeState(block_values((p + p.T) / 2, prior, name="P"), charge, potential)


def coulomb(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """1 / sqrt(r^2 + (a_i + a_j)^2) between atoms (N, N), in Hartree."""
    radius = np.maximum(covalent_radii[numbers], LEAST_RADIUS)
    separation = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return BOHR / np.sqrt(separation**2 + (radius[:, None] + radius) ** 2)


def occupations(levels: np.ndarray, n_electrons: float) -> np.ndarray:
    """Two electrons to a level, Fermi-Dirac at `TEMPERATURE`."""

    def count(mu: float) -> np.ndarray:
        return 2 * expit((mu - levels) / TEMPERATURE)

    low, high = levels[0] - 1, levels[-1] + 1
    return count(brentq(lambda mu: count(mu).sum() - n_electrons, low, high, xtol=1e-14, rtol=1e-15))


def fixed_point(step, x: np.ndarray, mixing: float = 0.3) -> np.ndarray:
    """x = step(x) by Anderson's mixing; the last x where `MOST_CYCLES` do not suffice."""
    steps: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    for _ in range(MOST_CYCLES):
        residual = step(x) - x
        if np.abs(residual).max(initial=0.0) < CONVERGED:
            break
        change = mixing * residual
        if residuals:
            differences = np.stack([residual - r for r in residuals], 1)
            moves = np.stack([x - y for y in steps], 1)
            share = np.linalg.lstsq(differences, residual, rcond=1e-10)[0]
            change = change - (moves + mixing * differences) @ share
        steps, residuals = [*steps, x][-HISTORY:], [*residuals, residual][-HISTORY:]
        x = x + change
    return x
