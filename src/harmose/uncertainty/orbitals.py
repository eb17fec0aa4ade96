"""Spreads of orbital energies from those of blocks, to first order.

An error dH shifts energy e_n by `c_n^dagger dH c_n` (c^dagger S c = 1). If its elements are independent, with standard
deviation sigma_B in block B of atoms i and j, then with the sum p_in of |c_n|^2 over the orbitals of atom i

    s_n^2 = sum over stored blocks of  (w_B sigma_B)^2 p_in p_jn                 w = 1 on site, 2 for a pair and its reverse

Elements are not independent; the factors and powers of `calibration` correct for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.physics.eigen import MolecularOrbitals, is_periodic, overlap_at_gamma, solve, spin_orbitals
from harmose.physics.ghosts import Ghosts, molecular_ghosts, on_site_of
from harmose.physics.occupations import electrons_per_state
from harmose.spin import Spin

ORBITAL_KINDS = ("occupied", "unoccupied", "homo", "lumo", "gap", "gamma")
"""Kinds of energies with bounds of their own. `gamma`: any band of a crystal at Gamma."""


@dataclass(frozen=True, eq=False)
class OrbitalEnergies:
    """Orbital energies with their spreads: of a molecule, both spins together, or bands of a crystal at Gamma.

    Attributes:
        energies: in eV, ascending (n,).
        spreads: in eV (n,).
        n_occupied: number of occupied orbitals; None for crystals.
        ghosts: ghost levels up to the LUMO (`physics.ghosts`), or of crystals among as many bands at Gamma as the electrons
            of a cell fill.
    """

    energies: np.ndarray
    spreads: np.ndarray
    n_occupied: int | None = None
    ghosts: Ghosts = field(default_factory=Ghosts)

    def kinds(self) -> np.ndarray:
        """Return the place of each energy's kind in `ORBITAL_KINDS` (n,)."""
        if self.n_occupied is None:
            return np.full(len(self.energies), ORBITAL_KINDS.index("gamma"))
        return (np.arange(len(self.energies)) >= self.n_occupied).astype(int)

    def frontier(self) -> dict[str, tuple[float, float]]:
        """Return energy and spread of "homo", "lumo" and "gap", those that exist."""
        n, out = self.n_occupied, {}
        if n:
            out["homo"] = self._at(n - 1)
        if n is not None and n < len(self.energies):
            out["lumo"] = self._at(n)
        if len(out) == 2:
            (homo, homo_spread), (lumo, lumo_spread) = out["homo"], out["lumo"]
            out["gap"] = lumo - homo, float(np.hypot(homo_spread, lumo_spread))
        return out

    def _at(self, k: int) -> tuple[float, float]:
        return float(self.energies[k]), float(self.spreads[k])


def orbital_energies(h: BlockMatrix, s: BlockMatrix, spreads: np.ndarray, n_electrons: float | None) -> OrbitalEnergies:
    """Solve H c = e S c, and return the energies with their spreads, and the ghost levels among them.

    Args:
        h: Hamiltonian in eV.
        s: Overlap.
        spreads: Of the blocks of H, in eV (B,).
        n_electrons: Number of electrons of the molecule or of a cell; None gives all energies the kind `gamma`, as crystals
            have it, and no ghost levels.

    Raises:
        MatrixError: As `physics.eigen.solve`.
    """
    if is_periodic(h) or n_electrons is None:
        orbitals, n_occupied = _at_gamma(h, s, n_electrons or 0.0), None
    else:
        orbitals = spin_orbitals(h, s, n_electrons)
        n_occupied = sum(x.n_occupied for x in orbitals)
    energies = np.concatenate([x.energies for x in orbitals])
    spread = np.concatenate([orbital_spreads(h, x.coefficients, spreads) for x in orbitals])
    order = np.argsort(energies, kind="stable")  # the lowest energies of both spins are occupied
    if n_electrons is None:
        return OrbitalEnergies(energies[order], spread[order])
    ghosts = molecular_ghosts(orbitals, overlap_at_gamma(s, h.spin), on_site_of(s, h.spin))
    return OrbitalEnergies(energies[order], spread[order], n_occupied, ghosts)


def _at_gamma(h: BlockMatrix, s: BlockMatrix, electrons: float) -> tuple[MolecularOrbitals, ...]:
    """Return the bands at Gamma of each spin, of which as many count as occupied as the electrons of a cell fill."""
    energies, coefficients = solve(h, s)
    n, n_spins = energies.shape[-1], 2 if h.spin is Spin.COLLINEAR else 1
    filled = min(int(electrons / (electrons_per_state(h.spin) * n_spins)), n)
    sets = zip(energies.reshape(-1, n), coefficients.reshape(-1, n, n), strict=True)
    return tuple(MolecularOrbitals(e, c, filled) for e, c in sets)


def orbital_spreads(h: BlockMatrix, coefficients: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Return s_n (n,) of this module's equation from spreads of blocks (B,) and coefficients (N, n), of spinors (2N, n)."""
    squares = (np.abs(coefficients) ** 2).reshape(-1, h.n_orbitals, coefficients.shape[1]).sum(0)
    population = np.add.reduceat(squares, h.orbital_starts[:-1])
    i, j = h.keys[:, 0], h.keys[:, 1]
    weight = np.zeros((len(population), len(population)))
    np.add.at(weight, (i, j), (h.multiplicity * spreads) ** 2)
    return np.sqrt(np.einsum("in,ij,jn->n", population, weight, population, optimize=True))


def orbital_errors(
    predicted: OrbitalEnergies, reference: Sequence[float] | np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return by kind the absolute errors and the spreads, in eV, against reference energies (n,), ascending."""
    reference, kinds, out = np.asarray(reference), predicted.kinds(), {}
    error = np.abs(predicted.energies - reference)
    for k, name in enumerate(ORBITAL_KINDS):
        if (kinds == k).any():
            out[name] = error[kinds == k], predicted.spreads[kinds == k]
    exact = OrbitalEnergies(reference, predicted.spreads, predicted.n_occupied).frontier()
    for name, (value, spread) in predicted.frontier().items():
        out[name] = np.array([abs(value - exact[name][0])]), np.array([spread])
    return out
