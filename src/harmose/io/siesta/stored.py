"""Content of a SIESTA file with H and S, whichever it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harmose.io.siesta.basis import Species
from harmose.spin import Spin


@dataclass(frozen=True, eq=False)
class Stored:
    """H and S in SIESTA's order of orbitals; H in eV with the energy zero of `.EIG`. None: the file does not say it.

    Attributes:
        positions: in angstrom (N, 3).
        cell: lattice vectors as rows (3, 3), in angstrom.
        n_cells: number of cells (3,) in each direction; all 1 for a run with the Gamma point only.
        species: the species, each with its shells.
        species_of_atom: index of the species of each atom (N,).
        counts: number of orbitals of each atom (N,).
        rows: orbital (nnz,) in the home cell.
        cols: orbital (nnz,) in cell R.
        cells: R (nnz, 3).
        h: H (n_components, nnz).
        s: S (nnz,).
        spin: spin kind of H.
        fermi_level: in eV.
        has_fermi_level: False for the oldest files, which have no place for it.
        n_electrons: number of valence electrons.
        numbers: atomic numbers (N,).
        valence: valence electrons of each species by its label.
        reaches: reach (angstrom) of each species by its label, its longest orbital plus the longest projector of all.
    """

    positions: np.ndarray
    cell: np.ndarray
    n_cells: np.ndarray
    species: list[Species] | None
    species_of_atom: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    cells: np.ndarray
    h: np.ndarray
    s: np.ndarray
    spin: Spin
    fermi_level: float | None
    n_electrons: float | None
    numbers: np.ndarray | None = None
    reaches: Mapping[str, float] | None = None
    has_fermi_level: bool = True
    valence: Mapping[str, float] | None = None


def known(value: float) -> float | None:
    """Return a number of a file, or None for one that was never set: infinite, NaN, absurdly large, or exactly zero.

    SIESTA writes an infinite Fermi level if it computed no density (`HSetupOnly`), and sisl zeros if it knows none.
    """
    return value if np.isfinite(value) and 0 < abs(value) < 1e30 else None
