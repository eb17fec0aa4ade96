"""Checks of structures (`ase.Atoms`), and their pairs of neighbours."""

from collections.abc import Iterator, Mapping
from typing import Any

import lazy_loader
import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.data import chemical_symbols

from harmose.errors import StructureError

vesin = lazy_loader.load("vesin")  # imported on first use, since it imports torch

MIN_DISTANCE = 0.3
"""Smallest distance of two atoms in angstrom; the H2 bond is 0.74."""

MAX_EXTENT = 1e5
"""Largest coordinate in angstrom; neighbour lists overflow far beyond it."""

MIN_SPACING = 1e-3
"""Smallest distance of lattice planes in angstrom; a cell with less counts as one without volume."""

UNSTATED = (".", "?", None)
"""Occupancies of a CIF file that are not stated, which means full."""


def check_structure(atoms: Atoms, where: str = "structure") -> None:
    """Raise `StructureError` unless there are atoms at finite positions, not too close, in a cell with a volume.

    Cells may be left-handed: nothing here depends on the order of the lattice vectors.
    Error messages begin with `where`.
    """
    check_atoms(atoms, where)
    i, j, _, distance = neighbour_pairs(atoms, MIN_DISTANCE, where)
    check_distances(i, j, distance, where)


def check_atoms(atoms: Atoms, where: str = "structure") -> None:
    """Raise `StructureError` unless there are atoms, all of chemical elements, on sites that are fully occupied."""
    if len(atoms) == 0:
        raise StructureError(f"{where}: expected at least one atom, got none")
    numbers = np.asarray(atoms.numbers)
    known = (numbers >= 1) & (numbers < len(chemical_symbols)) & (numbers == np.floor(numbers))
    if not known.all():
        bad = int(np.argmin(known))
        raise StructureError(f"{where}: expected chemical elements, got atomic number {numbers[bad]} for atom {bad}")
    _check_occupied(atoms, where)


def _check_occupied(atoms: Atoms, where: str) -> None:
    """Raise `StructureError` for a site that is partly empty or shared by elements, as in CIF files of disordered crystals."""
    for site, shares in _occupancies(atoms):
        stated = {name: share for name, share in shares.items() if share not in UNSTATED}
        occupied = {name: share for name, share in stated.items() if share != 0}
        if stated and not (len(occupied) == 1 and _is_full(*occupied.values())):
            got = " and ".join(f"{name} {share}".strip() for name, share in stated.items())
            raise StructureError(
                f"{where}: expected sites that one element occupies fully, got occupancy {got} of {site}; "
                f"give an ordered structure"
            )


def _occupancies(atoms: Atoms) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield sites, and the shares of elements in each: of ASE's CIF reader, and of columns of other files."""
    sites = atoms.info.get("occupancy")
    if isinstance(sites, Mapping):
        kinds = atoms.arrays.get("spacegroup_kinds")
        present = None if kinds is None else set(map(str, kinds.tolist()))
        for kind, shares in sites.items():
            if present is None or str(kind) in present:
                yield f"site {kind}", shares
    for name in ("occupancy", "occupancies"):
        for k, share in enumerate(atoms.arrays.get(name, ())):
            yield f"atom {k}", {"": share}


def _is_full(share: Any) -> bool:
    try:
        return abs(float(share) - 1) < 1e-3
    except (TypeError, ValueError):
        return False


def check_distances(i: np.ndarray, j: np.ndarray, distance: np.ndarray, where: str = "structure") -> None:
    """Raise `StructureError` for a pair of atoms (P,) that is closer than `MIN_DISTANCE`."""
    if distance.min(initial=np.inf) < MIN_DISTANCE:
        k = int(np.argmin(distance))
        raise StructureError(
            f"{where}: expected atoms at least {MIN_DISTANCE} angstrom apart, "
            f"got {distance[k]:.3f} between atoms {i[k]} and {j[k]}"
        )


def _check_positions(atoms: Atoms, where: str) -> None:
    usable = (np.abs(atoms.positions) < MAX_EXTENT).all(axis=1)  # False for NaN, too
    if not usable.all():
        bad = int(np.argmin(usable))
        raise StructureError(
            f"{where}: expected finite positions within {MAX_EXTENT:.0e} angstrom, "
            f"got {atoms.positions[bad].tolist()} for atom {bad}"
        )


def _check_cell(atoms: Atoms, where: str) -> None:
    cell = atoms.cell.array
    if not (np.abs(cell) < MAX_EXTENT).all():
        raise StructureError(f"{where}: expected a finite cell within {MAX_EXTENT:.0e} angstrom, got {cell.tolist()}")
    missing = atoms.pbc & ~cell.any(axis=1)
    if missing.any():
        raise StructureError(
            f"{where}: expected a lattice vector for each periodic direction, got none for {'abc'[np.argmax(missing)]}"
        )
    cell = _periodic_cell(atoms)
    volume = float(cell[0] @ np.cross(cell[1], cell[2]))
    areas = np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    if not abs(volume) > MIN_SPACING * areas.max():  # NaN for parallel vectors
        raise StructureError(f"{where}: expected a cell with a volume, got {volume:.3g} cubic angstrom")


def neighbour_pairs(
    atoms: Atoms, cutoff: float, where: str = "structure"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of atoms closer than `cutoff` (angstrom): i (P,), j (P,), cells R of j (P, 3), distances (P,); each once.

    Raises `StructureError`, which begins with `where`, for positions or a cell that are not finite or too large, and
    for a cell without volume.
    """
    _check_positions(atoms, where)
    if atoms.pbc.any():
        _check_cell(atoms, where)
    if len(atoms) == 0 or cutoff <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64), np.zeros(0)
    if atoms.pbc.any() and not atoms.pbc.all():
        # vesin takes three periodic directions or none: give the others lattice vectors that no pair can cross.
        atoms = _made_periodic(atoms, cutoff)
    i, j, shift, distance = vesin.NeighborList(cutoff=_search_radius(atoms, cutoff), full_list=False).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=bool(atoms.pbc.all()), quantities="ijSd"
    )
    near = distance < cutoff
    return i[near].astype(np.int64), j[near].astype(np.int64), shift[near].astype(np.int64), distance[near]


def _search_radius(atoms: Atoms, cutoff: float) -> float:
    """`cutoff`, or more for long or flat structures: vesin 0.6.2 can divide by zero and crash with over 1e5 bins."""
    if atoms.pbc.all():
        extent = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)  # distance of lattice planes
    else:
        extent = np.ptp(atoms.positions, axis=0)
    radius = cutoff
    while np.prod(np.maximum(extent / radius, 1.0)) > 5e4:
        radius *= 1.2
    return radius


def _periodic_cell(atoms: Atoms) -> np.ndarray:
    """Lattice vectors (3, 3); directions that are not periodic have a unit vector at right angles to all others."""
    with np.errstate(invalid="ignore"):
        return Cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)).complete().array


def _made_periodic(atoms: Atoms, cutoff: float) -> Atoms:
    """The structure with all directions periodic, and vacuum wider than `cutoff` along those that were not."""
    cell = _periodic_cell(atoms)
    extent = np.ptp(atoms.positions @ cell.T, axis=0) + 2 * cutoff + 1.0
    return Atoms(
        atoms.numbers,
        positions=atoms.positions,
        cell=np.where(atoms.pbc[:, None], cell, cell * extent[:, None]),
        pbc=True,
    )
