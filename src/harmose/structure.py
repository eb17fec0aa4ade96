"""Checks on `ase.Atoms`, the structure type at harmose's boundary."""

import numpy as np
from ase import Atoms
from vesin import NeighborList

from harmose.errors import StructureError

MIN_DISTANCE = 0.3
"""Closer atoms (angstrom) are a mistake in the file: the H2 bond is 0.74."""


def check_structure(atoms: Atoms, where: str = "structure") -> None:
    """Raise `StructureError` unless the structure has atoms, finite positions, a usable cell and no atoms on top of another."""
    if len(atoms) == 0:
        raise StructureError(f"{where}: expected at least one atom, got none")
    if not np.isfinite(atoms.positions).all():
        bad = int(np.argmin(np.isfinite(atoms.positions).all(axis=1)))
        raise StructureError(f"{where}: expected finite positions, got {atoms.positions[bad].tolist()} for atom {bad}")
    if (atoms.numbers < 1).any():
        bad = int(np.argmax(atoms.numbers < 1))
        raise StructureError(f"{where}: expected chemical elements, got atomic number {atoms.numbers[bad]} for atom {bad}")
    if atoms.pbc.any():
        _check_cell(atoms, where)
    i, j, _, d = neighbour_pairs(atoms, MIN_DISTANCE)
    if len(d):
        k = int(np.argmin(d))
        raise StructureError(
            f"{where}: expected atoms at least {MIN_DISTANCE} angstrom apart, got {d[k]:.3f} between atoms {i[k]} and {j[k]}"
        )


def _check_cell(atoms: Atoms, where: str) -> None:
    cell = atoms.cell.complete().array
    volume = float(np.linalg.det(cell)) if np.isfinite(cell).all() else 0.0
    if abs(volume) < 1e-6:
        raise StructureError(f"{where}: expected a cell with a volume, got {volume:.3g} cubic angstrom")
    if volume < 0:
        raise StructureError(f"{where}: expected a right-handed cell, got a left-handed one (volume {volume:.3f})")


def neighbour_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each pair within `cutoff` (angstrom) once: first atom, second atom, lattice vector R (P, 3), distance (P,)."""
    if atoms.pbc.any() and not atoms.pbc.all():
        # vesin knows fully periodic or not at all: give the free directions a cell that no pair can cross.
        atoms = _with_free_directions_padded(atoms, cutoff)
    i, j, shift, distance = NeighborList(cutoff=cutoff, full_list=False).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=bool(atoms.pbc.all()), quantities="ijSd"
    )
    return i.astype(np.int64), j.astype(np.int64), shift.astype(np.int64), distance


def _with_free_directions_padded(atoms: Atoms, cutoff: float) -> Atoms:
    padded = atoms.copy()
    cell = atoms.cell.complete().array.copy()
    for axis in np.flatnonzero(~atoms.pbc):
        others = [a for a in range(3) if a != axis]
        normal = np.cross(cell[others[0]], cell[others[1]])
        normal /= np.linalg.norm(normal)
        cell[axis] = normal * (np.ptp(atoms.positions @ normal) + 2 * cutoff + 1.0)
    padded.cell = cell
    padded.pbc = True
    return padded
