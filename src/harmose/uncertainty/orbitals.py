"""From the errors of blocks to those of orbital energies, to first order.

An error dH moves level n by `c_n^dagger dH c_n` (c^dagger S c = 1). Where its elements are independent, of size sigma_B in
block B of atoms i and j, with p_in the sum of |c|^2 over the orbitals of atom i,

    s_n^2 = sum over stored blocks of  (w_B sigma_B)^2 p_in p_jn                 w = 1 on site, 2 for a pair and its reverse

Elements are not independent: the factors of `calibration` make up for that, and for whatever else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.physics.eigen import is_periodic, solve, spin_orbitals

KINDS = ("occupied", "unoccupied", "homo", "lumo", "gap", "gamma")
"""Of energies with a bound of their own. `gamma`: any band of a crystal at Gamma."""


@dataclass(frozen=True, eq=False)
class OrbitalEnergies:
    """Energies (n,) in eV and their spreads (n,), of molecules (both spins sorted together), or of crystals at Gamma.

    `n_occupied` is None for crystals. homo, lumo, gap: energy and spread; None where there is none.
    """

    energies: np.ndarray
    spreads: np.ndarray
    n_occupied: int | None = None

    def kinds(self) -> np.ndarray:
        """Which of `KINDS` each level is of (n,)."""
        if self.n_occupied is None:
            return np.full(len(self.energies), KINDS.index("gamma"))
        return (np.arange(len(self.energies)) >= self.n_occupied).astype(int)

    def frontier(self) -> dict[str, tuple[float, float]]:
        """HOMO, LUMO and gap with their spreads, those that exist."""
        n, found = self.n_occupied, {}
        if n:
            found["homo"] = self._at(n - 1)
        if n is not None and n < len(self.energies):
            found["lumo"] = self._at(n)
        if len(found) == 2:
            (a, s), (b, t) = found["homo"], found["lumo"]
            found["gap"] = b - a, float(np.hypot(s, t))
        return found

    def _at(self, k: int) -> tuple[float, float]:
        return float(self.energies[k]), float(self.spreads[k])


def orbital_energies(h: BlockMatrix, s: BlockMatrix, spreads: np.ndarray, n_electrons: float | None) -> OrbitalEnergies:
    """Of H with S and the spread of every block (B,) in eV; molecules with a number of electrons, and crystals.

    `MatrixError` as of `physics.eigen.solve`.
    """
    if is_periodic(h) or n_electrons is None:
        energies, coefficients = solve(h, s)
        shape = energies.shape[-1]
        sets = list(zip(energies.reshape(-1, shape), coefficients.reshape(-1, *coefficients.shape[-2:]), strict=True))
        n_occupied = None
    else:
        found = spin_orbitals(h, s, n_electrons)
        sets, n_occupied = [(x.energies, x.coefficients) for x in found], sum(x.n_occupied for x in found)
    e = np.concatenate([energies for energies, _ in sets])
    spread = np.concatenate([orbital_spreads(h, c, spreads) for _, c in sets])
    # of two spins the lowest levels of both are filled
    order = np.argsort(e, kind="stable")
    return OrbitalEnergies(e[order], spread[order], n_occupied)


def orbital_spreads(h: BlockMatrix, coefficients: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """s_n (n_levels,) of this module's equation; coefficients (n, n_levels), spinors (2n, n_levels)."""
    squares = (np.abs(coefficients) ** 2).reshape(-1, h.n_orbitals, coefficients.shape[1]).sum(0)
    population = np.add.reduceat(squares, h.orbital_starts[:-1])
    i, j = h.keys[:, 0], h.keys[:, 1]
    weight = np.where(np.arange(len(spreads)) < len(h.numbers), 1.0, 4.0) * spreads**2
    pairs = np.zeros((len(population), len(population)))
    np.add.at(pairs, (i, j), weight)
    return np.sqrt(np.einsum("in,ij,jn->n", population, pairs, population, optimize=True))


def compared(
    found: OrbitalEnergies, reference: Sequence[float] | np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind: |error| in eV against the reference energies (n,), ascending, and the spreads."""
    reference, kinds, out = np.asarray(reference), found.kinds(), {}
    error = np.abs(found.energies - reference)
    for k, name in enumerate(KINDS):
        if (kinds == k).any():
            out[name] = error[kinds == k], found.spreads[kinds == k]
    other = OrbitalEnergies(reference, found.spreads, found.n_occupied).frontier()
    for name, (value, spread) in found.frontier().items():
        out[name] = np.array([abs(value - other[name][0])]), np.array([spread])
    return out
