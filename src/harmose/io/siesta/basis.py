"""SIESTA's files of atoms and orbitals: `.ion.nc`, `.ion.xml`, `.ORB_INDX`, `.XV`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmose.core.basis import Shell
from harmose.errors import FormatError
from harmose.io.siesta.ion_nc import Ion, read_ion
from harmose.units import BOHR


@dataclass(frozen=True)
class Species:
    """One species of SIESTA's input: its label, and its shells in SIESTA's order."""

    label: str
    shells: tuple[Shell, ...]

    @property
    def n_orbitals(self) -> int:
        return sum(shell.n_orbitals for shell in self.shells)


def ion_file(folder: Path, label: str) -> Path | None:
    """Return `label.ion.nc` or `label.ion.xml` in `folder`; None if there is neither."""
    paths = (folder / (label + ending) for ending in (".ion.nc", ".ion.xml"))
    return next((path for path in paths if path.is_file()), None)


def find_ion(folder: Path, label: str) -> Ion | None:
    """Read the ion file of a species; None if there is none."""
    path = ion_file(folder, label)
    return None if path is None else read_ion(path)


@dataclass(frozen=True)
class OrbitalTable:
    """The home cell's orbitals from `.ORB_INDX`, arrays (n_orbitals,). `atom` counts from 0; `reach` is in angstrom."""

    atom: np.ndarray
    label: np.ndarray
    n: np.ndarray
    l: np.ndarray
    m: np.ndarray
    zeta: np.ndarray
    reach: np.ndarray

    def species(self) -> tuple[list[Species], np.ndarray]:
        """Return the species, and the index of the species of each atom (N,)."""
        _, first = np.unique(self.atom, return_index=True)
        labels, example, which = np.unique(self.label[first], return_index=True, return_inverse=True)
        return [Species(str(label), self._shells(atom)) for label, atom in zip(labels, example)], which

    def _shells(self, atom: int) -> tuple[Shell, ...]:
        start = (self.atom == atom) & (self.m == -self.l)
        return tuple(Shell(*s) for s in zip(self.n[start].tolist(), self.l[start].tolist(), self.zeta[start].tolist()))

    @property
    def reaches(self) -> dict[str, float]:
        """Reach (angstrom) of the longest orbital of each species."""
        labels, which = np.unique(self.label, return_inverse=True)
        longest = np.zeros(len(labels))
        np.maximum.at(longest, which, self.reach)
        return dict(zip(labels.tolist(), longest.tolist()))


def read_orbital_table(path: Path) -> OrbitalTable:
    """Read `.ORB_INDX`: columns io ia is spec iao n l m z p sym rc isc(3) iuo, the home cell's orbitals first."""
    try:
        with path.open(errors="replace") as file:
            n = int(file.readline().split()[0])
            if not 0 < n <= path.stat().st_size:
                raise ValueError(f"{n} orbitals")
            file.readline()  # an empty line, then the names of the columns
            file.readline()
            rows = np.array([file.readline().split() for _ in range(n)])
        if rows.shape != (n, 16):
            raise ValueError(f"rows of another form than 16 columns ({rows.shape})")
        number = {name: rows[:, k].astype(int) for name, k in (("atom", 1), ("n", 5), ("l", 6), ("m", 7), ("zeta", 8))}
        reach = rows[:, 11].astype(float) * BOHR
    except (ValueError, IndexError, OSError):
        raise FormatError(
            f"{path}: expected a SIESTA table of orbitals, got a damaged one; copy it again, or run SIESTA again"
        ) from None
    return OrbitalTable(number["atom"] - 1, rows[:, 3], number["n"], number["l"], number["m"], number["zeta"], reach)


def read_atomic_numbers(path: Path) -> np.ndarray:
    """Read the atomic numbers (N,) of `.XV`.

    Three lines of the cell, the number of atoms, and for each atom species, atomic number, position, velocity.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
        n = int(lines[3])
        rows = np.array([line.split() for line in lines[4 : 4 + n]])
        if n < 1 or rows.shape != (n, 8):
            raise ValueError(f"{n} atoms in rows of shape {rows.shape}")
        return rows[:, 1].astype(int)
    except (ValueError, IndexError, OSError):
        raise FormatError(
            f"{path}: expected SIESTA's positions and velocities, got a damaged file; copy it again, or run SIESTA again"
        ) from None
