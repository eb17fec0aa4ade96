"""Ghost levels of a predicted H: low energies from errors of H in nearly dependent directions of the basis.

    H c = e S c,    c^dagger S c = 1,        r = |S c| / |c|

An error dH moves a level by c^dagger dH c, which may be as large as |c|^2 |dH|, and |c|^2 >= 1 / r. r is the eigenvalue of S if
c is its eigenvector, and an average of eigenvalues otherwise. Where S has an eigenvalue s near zero, the energy of its
eigenvector is v^dagger H v / s: kinetic energy, far above the LUMO in any Hamiltonian of DFT. A prediction that is too low by a
small amount there turns it into a level among or below the occupied ones: a ghost, of small r. The occupied levels of DFT have
r of order one, if the orbitals of each atom are orthonormal. Those of a basis set are not, so that

    r^2 = y^dagger D^-1 y / c^dagger D c,        y = S c,        D = the blocks of S within one atom

is used. The numerator is the sum over atoms of the squared projection of the level on the orbitals of the atom, the denominator
that of the squared norm of the part that is made of them. Which functions represent the orbitals of an atom does not matter. They
may be nearly dependent, also in DFT: a level whose |S c| / |c| is small is a ghost only if it is very small (`WITHIN_ATOMS`).
docs/uncertainty.md has the measurements.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from harmose.core.blocks import BlockMatrix
from harmose.errors import GhostLevels
from harmose.physics.eigen import MolecularOrbitals
from harmose.spin import Spin

OCCUPIED_LIMIT = 0.65
"""Least r of an occupied level. In DFT it is 0.78 (a compressed molecule) or more."""

EMPTY_LIMIT = 0.2
"""Least r of an empty level up to the LUMO, or near the Fermi level. In DFT it is 0.26 or more, in diffuse basis sets 0.22."""

WITHIN_ATOMS = 2.6
"""A level counts with r = 2.6 |S c| / |c| if that is less. Occupied levels of DFT have |S c| / |c| of 0.3 (silver, CRENBL) or more."""

EMPTY_WINDOW = 1.0
"""eV. In crystals the empty levels up to this far above the Fermi level are checked."""

CHECKED_KPOINTS = 8
"""Most k-points at which bands are checked: energies alone, without coefficients, take half the time or less."""


@dataclass(frozen=True, eq=False)
class Ghosts:
    """Ghost levels: `energies` (g,) in eV, ascending; `ratios` (g,) are their r of this module, `kpoints` (g, 3) are fractional.

    False as a condition if there are none.
    """

    energies: np.ndarray = field(default_factory=lambda: np.empty(0))
    ratios: np.ndarray = field(default_factory=lambda: np.empty(0))
    kpoints: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))

    def __len__(self) -> int:
        return len(self.energies)

    def describe(self) -> str:
        """Return one line for a warning."""
        low, high, at_k = self.energies.min(), self.energies.max(), len(np.unique(self.kpoints, axis=0))
        range_ = f"at {low:.2f} eV" if len(self) == 1 else f"from {low:.2f} to {high:.2f} eV"
        where = f" at {at_k} k-point{'s' if at_k > 1 else ''}" if self.kpoints.any() else ""
        return (
            f"{len(self)} ghost level{'s' if len(self) > 1 else ''} {range_}{where} (smallest ratio |S c| / |c| {self.ratios.min():.2g}, "
            f"in DFT at least {EMPTY_LIMIT:g}, occupied {OCCUPIED_LIMIT:g}): expect wrong orbitals"
        )


@dataclass(frozen=True, eq=False)
class OnSite:
    """The blocks of S within one atom, D of this module's equation, and D^-1: sparse (n, n)."""

    overlap: Any
    inverse: Any


def on_site(blocks: Sequence[np.ndarray], spin: Spin = Spin.NONE) -> OnSite:
    """Return D from its blocks, one for each atom, for levels of an H of `spin`: spinors have all up orbitals first."""
    blocks = [*blocks] * (2 if spin is Spin.SPINOR else 1)
    inverse = [np.linalg.inv(block) for block in blocks]
    return OnSite(*(scipy.sparse.block_diag(x, format="csr") for x in (blocks, inverse)))


def on_site_of(s: BlockMatrix, spin: Spin) -> OnSite:
    """Return D of an overlap S of spin none or `spin`; images of an atom in other cells are other atoms."""
    blocks = (s.block(i, i) for i in range(len(s.numbers)))
    return on_site([block if s.spin is Spin.NONE else block[0] for block in blocks], spin)


def overlap_ratios(coefficients: np.ndarray, s: Any, atoms: OnSite) -> np.ndarray:
    """Return r (..., m) of coefficients (..., n, m), one column for each level, and S or S(k) (..., n, n), dense or sparse."""
    c, y = coefficients, s @ coefficients
    by_atoms = np.sqrt(_squares(y, atoms.inverse) / _squares(c, atoms.overlap))
    return np.minimum(by_atoms, WITHIN_ATOMS * np.linalg.norm(y, axis=-2) / np.linalg.norm(c, axis=-2))


def _squares(x: np.ndarray, matrix: Any) -> np.ndarray:
    """Return x^dagger M x of each column: (..., m) from (..., n, m) and a sparse M (n, n)."""
    columns = np.moveaxis(x, -2, 0)
    product = (matrix @ columns.reshape(len(columns), -1)).reshape(columns.shape)
    return (columns.conj() * product).sum(axis=0).real


def find_ghosts(
    energies: np.ndarray,
    ratios: np.ndarray,
    fermi_level: float,
    highest: float | None = None,
    kpoints: np.ndarray | None = None,
) -> Ghosts:
    """Return the levels with r below `OCCUPIED_LIMIT` up to the Fermi level, and below `EMPTY_LIMIT` up to `highest`.

    Args:
        energies: In eV (m,), or at each k-point (n_k, m), collinear (2, n_k, m).
        ratios: r of the levels, from `overlap_ratios`, in the same shape; NaN for levels that are not to be checked.
        fermi_level: Energy in eV of the highest occupied level, or any below the lowest empty one.
        highest: Highest energy in eV that is checked; default: `EMPTY_WINDOW` above the Fermi level.
        kpoints: Fractional coordinates (n_k, 3); default Gamma.
    """
    highest = fermi_level + EMPTY_WINDOW if highest is None else highest
    limits = np.where(energies <= fermi_level, OCCUPIED_LIMIT, EMPTY_LIMIT)
    found = (ratios < limits) & (energies <= highest)  # False for NaN
    k = np.zeros((1, 3)) if kpoints is None else kpoints
    at = np.broadcast_to(k if energies.ndim == 1 else k[:, None, :], (*energies.shape, 3))[found]
    order = np.argsort(energies[found], kind="stable")
    return Ghosts(energies[found][order], ratios[found][order], at[order])


def molecular_ghosts(orbitals: Sequence[MolecularOrbitals], s: np.ndarray, atoms: OnSite) -> Ghosts:
    """Return the ghosts up to the LUMO among the orbitals of all spins, with S (n, n), which is that of each spin."""
    parts = []
    for each in orbitals:
        homo = -np.inf if each.homo is None else each.homo
        lumo = homo if each.lumo is None else each.lumo
        n = each.n_occupied + 1  # those above are not checked
        ratios = overlap_ratios(each.coefficients[:, :n], s, atoms)
        parts.append(find_ghosts(each.energies[:n], ratios, homo, lumo))
    energies, ratios, kpoints = (
        np.concatenate([getattr(x, name) for x in parts]) for name in ("energies", "ratios", "kpoints")
    )
    order = np.argsort(energies, kind="stable")
    return Ghosts(energies[order], ratios[order], kpoints[order])


def warn_of_ghosts(ghosts: Ghosts, stacklevel: int = 2) -> None:
    """Warn `GhostLevels` if there are any. `stacklevel` counts from the caller: 2 is the line that called that."""
    if ghosts:
        warnings.warn(ghosts.describe(), GhostLevels, stacklevel=stacklevel + 1)
