"""The guard of a predicted start: a poor guess is noticed in the first Fock matrix, and costs that one Fock build.

PySCF builds F(D) of the guess D anyway, then fills the lowest orbitals of F(D) to get D'. The guard counts the electrons which
that first step moves out of the guess's occupied space,

    m = N - Tr(D S D' S) / g        g = 2 (closed shell), 1 (for each spin)        0 <= m <= N

and refuses the guess when m / N is above `LIMIT`. m needs no further Fock build, no threshold in energy, and does not depend
on the size of the molecule. It is zero for the converged D only. The orbital gradient |FDS - SDF| is not enough: it also
vanishes for self-consistent states with a hole below the Fermi level (there m is whole electrons), and PySCF's huckel
guess has half the gradient of minao on ethanol but takes 13 cycles instead of 9; it moves 5.5 electrons, minao 2.7.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import scf

from harmose.errors import OutsideDomain

LIMIT = 0.005
"""Fraction of the electrons that the first step may move; PySCF's minao moves 8 to 10 %.

`benchmarks/scf_guard.py`, 90 spoiled starts of five molecules (random errors, Fock matrices of other geometries and of superposed
atoms, shifted atoms): below 0.5 % none took more cycles than minao, below 2 % none more than one more, and all that
took two or more moved above 5 %.
"""


@dataclass
class Guard:
    """PySCF's `pre_kernel` hook of a mean field that starts from `density`.

    When the density is refused, that of the `fallback` guess takes its place before the first cycle, `mf.init_guess` becomes
    `fallback`, and `OutsideDomain` is warned of. One Fock build is lost then, none otherwise. A kernel that starts from
    another density (`dm0`, a geometry scan) is left alone. `energy`: of the accepted density, in Hartree; no
    state that the SCF is after lies above it.
    """

    density: np.ndarray
    fallback: Any
    energy: float = np.inf

    def __call__(self, kernel: Mapping[str, Any]) -> None:
        mf, density = kernel["mf"], kernel["dm"]
        self.energy = np.inf
        if not np.array_equal(density, self.density):
            return
        moved = moved_electrons(mf, density, kernel["vhf"], kernel["h1e"], kernel["s1e"])
        if moved <= LIMIT * mf.mol.nelectron:
            self.energy = float(kernel["e_tot"])
            return
        mf.init_guess = self.fallback
        warnings.warn(
            refusal(f"one step from it moves {moved:.1f} electrons", self.fallback), OutsideDomain, stacklevel=2
        )
        _replace(mf, density, kernel["vhf"], mf.get_init_guess(mf.mol, self.fallback))


def refusal(reason: str, fallback: Any) -> str:
    name = fallback if isinstance(fallback, str) else "its own guess"
    return f"the predicted density is no start for the SCF ({reason}): it starts from {name}"


def moved_electrons(mf: Any, density: np.ndarray, potential: Any, core: np.ndarray, s: np.ndarray) -> float:
    """m of this module's equation for an idempotent density; infinite where F(D) has no orbitals."""
    try:
        energies, orbitals = mf.eig(mf.get_fock(core, s, potential, density), s)
    except (ValueError, np.linalg.LinAlgError):
        return np.inf
    filled = np.asarray(mf.make_rdm1(orbitals, mf.get_occ(energies, orbitals)))
    electrons = 2 if density.ndim == 2 and not isinstance(mf, scf.ghf.GHF) else 1
    here = np.einsum("...ij,ji->...", density, s).sum()
    return float((here - _overlap(density, filled, s) / electrons).real)


def _overlap(density: np.ndarray, filled: np.ndarray, s: np.ndarray) -> complex:
    """Tr(D S D' S), over spins."""
    return np.einsum("...ij,...ji->...", density @ s, filled @ s).sum()


def _replace(mf: Any, density: np.ndarray, potential: Any, other: np.ndarray) -> None:
    """The kernel's own density and potential become those of `other`, in place: it holds no other reference to them."""
    density[...] = other
    new = mf.get_veff(mf.mol, density)
    potential[...] = new
    for name, value in getattr(new, "__dict__", {}).items():  # Coulomb and exchange energies and matrices
        setattr(potential, name, value)
