"""Test of a predicted density before the first SCF cycle. A rejected density costs one Fock build.

For any initial density D, PySCF builds the Fock matrix F(D) and fills its lowest orbitals, which gives D'. The guard
computes the number of electrons that this first step moves out of the occupied space of D,

    m = N - Tr(D S D' S) / g        g = 2 (closed shell), 1 (for each spin)        0 <= m <= N

and rejects D if m / N is above `LIMIT`. m needs no other Fock build and no threshold in energy, and m / N does not
depend on the size of the molecule. m is zero only for the converged D. The orbital gradient |FDS - SDF| is a worse
test: it also vanishes for self-consistent states with a hole below the Fermi level, where m is at least one. For
ethanol PySCF's huckel guess has half the gradient of minao but takes 13 cycles instead of 9; it moves 5.5 electrons,
minao 2.7.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import scf

from harmose.errors import OutsideDomain

LIMIT = 0.005
"""Largest fraction of the electrons that the first step may move; PySCF's minao guess moves 8 to 10 %.

`benchmarks/scf_guard.py` has 90 perturbed starts of five molecules (random errors, Fock matrices of other geometries
and of superposed atoms, shifted atoms). Below 0.5 % none took more cycles than minao; below 2 % none took more than one
more; all that took at least two more moved above 5 %.
"""


@dataclass
class Guard:
    """PySCF's `pre_kernel` hook of a mean field that starts from `density`, which it accepts or rejects.

    A rejected density is replaced by that of the guess `fallback` before the first cycle; `mf.init_guess` becomes
    `fallback`, and `OutsideDomain` is warned. A kernel that starts from another density (`dm0`, a geometry scan) is
    left alone.

    Attributes:
        density: predicted density matrix in PySCF's order.
        fallback: PySCF's guess before the prediction, a name or a density matrix.
        energy: energy in Hartree of the accepted density, an upper bound of the ground state's; infinite if rejected.
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
        reason = f"the first SCF step moves {moved:.1f} electrons"
        warnings.warn(rejection(reason, self.fallback), OutsideDomain, stacklevel=2)
        _replace(mf, density, kernel["vhf"], mf.get_init_guess(mf.mol, self.fallback))


def rejection(reason: str, fallback: Any) -> str:
    """Warning for a rejected density."""
    name = fallback if isinstance(fallback, str) else "its own guess"
    return f"the predicted density is too poor ({reason}): the SCF starts from {name} instead"


def moved_electrons(mf: Any, density: np.ndarray, potential: Any, core: np.ndarray, s: np.ndarray) -> float:
    """Electrons m that the first step moves, for an idempotent density; infinite if F(D) cannot be diagonalized."""
    try:
        energies, orbitals = mf.eig(mf.get_fock(core, s, potential, density), s)
    except (ValueError, np.linalg.LinAlgError):
        return np.inf
    filled = np.asarray(mf.make_rdm1(orbitals, mf.get_occ(energies, orbitals)))
    electrons = 2 if density.ndim == 2 and not isinstance(mf, scf.ghf.GHF) else 1
    all_electrons = np.einsum("...ij,ji->...", density, s).sum()
    common = np.einsum("...ij,...ji->...", density @ s, filled @ s).sum() / electrons
    return float((all_electrons - common).real)


def _replace(mf: Any, density: np.ndarray, potential: Any, other: np.ndarray) -> None:
    """Overwrite the kernel's density and potential in place with those of the density `other`."""
    density[...] = other
    new = mf.get_veff(mf.mol, density)
    potential[...] = new
    for name, value in getattr(new, "__dict__", {}).items():  # Coulomb and exchange energies and matrices
        setattr(potential, name, value)
