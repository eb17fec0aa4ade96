"""DeepH's format of today (DeepH-pack 1, DeepH-dock): a folder with POSCAR, info.json, hamiltonian.h5 and overlap.h5.

    POSCAR             the structure, atoms in the order of the matrices
    info.json          spinful, fermi_energy_eV, elements_orbital_map (the l of each element's shells), orthogonal_basis,
                       numbers of atoms and orbitals, and in some occupation (electrons)
    hamiltonian.h5     atom_pairs (B, 5): Rx, Ry, Rz, i, j, atoms from 0; entries: the blocks end to end, each by rows,
    overlap.h5         H in eV; their chunk_shapes (B, 2) and chunk_boundaries (B + 1,)

Both directions of a pair are written. Orbitals are m = -l..l without Condon-Shortley sign, the order inside. Spin:
`io.deeph_blocks`. Files that harmose writes also keep the basis set (n, radii, name) in info.json as "harmose_basis", which
DeepH does not look at.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.io import read as read_structure

from harmose.core.basis import BasisSet
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.deeph.blocks import (
    RawOperator,
    checked_degrees,
    flag,
    make_sample,
    number,
    read_info,
    spinful_entries,
    written_blocks,
)
from harmose.io.disassembly import Blocks
from harmose.io.hdf5 import numbers, open_hdf5
from harmose.so3.conventions import E3NN
from harmose.spin import Spin

BOX = 20.0
"""Angstrom of vacuum around a molecule that has no cell: the format wants one."""


def read_deeph(folder: str | Path, basis: BasisSet | None = None) -> Sample:
    """The sample of a folder; H in eV as in the file, `fermi_level` and `n_electrons` where info.json has them.

    `basis` (default: measured, see `io.assembly.covering_radii`) must reach every block. A folder without periodic pairs is
    read as a molecule. Raises `FormatError`, `MatrixError`, `BasisError` or `StructureError` with file and block.
    """
    folder = Path(folder)
    info, structure = read_info(folder / "info.json"), read_poscar(folder / "POSCAR")
    degrees = _degrees(info, structure, folder / "info.json")
    if info.get("split_hkb") or info.get("hamiltonian_storage") not in (None, "full"):
        raise FormatError(f"{folder / 'info.json'}: expected a whole Hamiltonian in hamiltonian.h5, got split storage "
                          "(split_hkb); DeepH-dock writes the whole one")  # fmt: skip
    spinful = flag(info, "spinful", folder / "info.json")
    if not (folder / "hamiltonian.h5").is_file():
        raise FormatError(f"{folder}: expected hamiltonian.h5, got a folder without H")
    h = _read_operator(folder / "hamiltonian.h5")
    s = None
    if (folder / "overlap.h5").is_file() or not flag(info, "orthogonal_basis", folder / "info.json"):
        if not (folder / "overlap.h5").is_file():
            raise FormatError(f"{folder}: expected overlap.h5 beside hamiltonian.h5, got H without S")
        s = _read_operator(folder / "overlap.h5")
    if basis is None and isinstance(info.get("harmose_basis"), dict):
        basis = BasisSet.from_json(json.dumps(info["harmose_basis"]))
    return make_sample(
        folder,
        structure,
        degrees,
        h,
        s,
        spinful,
        E3NN,
        basis,
        fermi_level=number(info, "fermi_energy_eV", folder / "info.json"),
        n_electrons=number(info, "occupation", folder / "info.json"),
        provenance={"format": "deeph"},
    )


def read_poscar(path: Path) -> Atoms:
    """The structure, periodic; `FormatError` for what ASE does not read."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        atoms = read_structure(path, format="vasp")
    except Exception as error:  # ASE's parsers raise anything
        raise FormatError(f"{path}: expected a POSCAR, got something else ({error})") from None
    assert isinstance(atoms, Atoms)
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def _degrees(info: dict[str, Any], structure: Atoms, path: Path) -> dict[int, tuple[int, ...]]:
    table = info.get("elements_orbital_map")
    if not isinstance(table, dict):
        raise FormatError(f"{path}: expected elements_orbital_map, the l of each element's shells, got {table!r}")
    degrees = {}
    for symbol, ls in table.items():
        if symbol not in atomic_numbers:
            raise FormatError(f"{path}: elements_orbital_map: expected chemical elements, got {symbol!r}")
        degrees[atomic_numbers[symbol]] = checked_degrees(ls, f"{path}: elements_orbital_map: {symbol}")
    for z in np.unique(structure.numbers).tolist():
        if z not in degrees:
            raise FormatError(
                f"{path}: elements_orbital_map: expected {chemical_symbols[z]} as in POSCAR, got {list(table)}"
            )
    n_orbitals = sum(2 * l + 1 for z in structure.numbers.tolist() for l in degrees[z])
    for key, expected in (("atoms_quantity", len(structure)), ("orbits_quantity", n_orbitals)):
        if info.get(key, expected) != expected:
            raise FormatError(
                f"{path}: {key}: expected {expected} by POSCAR and elements_orbital_map, got {info[key]!r}"
            )
    return {z: degrees[z] for z in np.unique(structure.numbers).tolist()}


def _read_operator(path: Path) -> RawOperator:
    with open_hdf5(path) as file:
        pairs, shapes, bounds, entries = (
            numbers(file, name) for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries")
        )
    n = len(pairs) if pairs.ndim else -1
    if pairs.shape != (n, 5) or shapes.shape != (n, 2) or bounds.shape != (n + 1,) or entries.ndim != 1:
        raise FormatError(f"{path}: expected atom_pairs (B, 5), chunk_shapes (B, 2), chunk_boundaries (B + 1,) and flat "
                          f"entries, got {pairs.shape}, {shapes.shape}, {bounds.shape}, {entries.shape}")  # fmt: skip
    if not all(table.dtype.kind in "iu" for table in (pairs, shapes, bounds)):
        raise FormatError(f"{path}: expected whole numbers in atom_pairs, chunk_shapes and chunk_boundaries")
    pairs, shapes, bounds = (table.astype(np.int64) for table in (pairs, shapes, bounds))
    # as floats: absurd shapes must not overflow into plausible sizes
    ends = np.concatenate([[0.0], np.cumsum(shapes.astype(np.float64).prod(axis=1))])
    if (shapes < 0).any() or not np.array_equal(bounds, ends) or bounds[-1] != len(entries):
        raise FormatError(f"{path}: chunk_boundaries, chunk_shapes and the {len(entries)} entries do not fit together")
    return RawOperator(str(path), pairs[:, [3, 4, 0, 1, 2]], shapes, entries)


def write_deeph(folder: str | Path, sample: Sample) -> None:
    """Write a sample as a new folder, which appears complete or not at all; `FormatError` when `folder` exists.

    Collinear samples become spinful ones whose spins do not couple. H0, energies and provenance have no place in the format.
    Raises `FormatError` for a sample without S.
    """
    h, s = written_blocks(sample, E3NN)
    with atomic_path(folder, overwrite=False) as hidden:
        hidden.mkdir()
        (hidden / "POSCAR").write_text(_poscar(sample.structure, sample.name))
        (hidden / "info.json").write_text(json.dumps(_new_info(sample)) + "\n")
        spinful = sample.spin is not Spin.NONE
        _write_operator(hidden / "hamiltonian.h5", h, spinful_entries(h) if spinful else h.values[0], 1 + spinful)
        _write_operator(hidden / "overlap.h5", s, s.values[0], 1)


def _new_info(sample: Sample) -> dict[str, Any]:
    h = sample.hamiltonian
    elements = dict.fromkeys(sample.structure.numbers.tolist())
    return {
        "atoms_quantity": len(sample.structure),
        "orbits_quantity": h.n_orbitals,
        "orthogonal_basis": False,
        "spinful": sample.spin is not Spin.NONE,
        "fermi_energy_eV": sample.fermi_level,
        "elements_orbital_map": {chemical_symbols[z]: list(sample.basis.degrees(z)) for z in elements},
        **({} if sample.n_electrons is None else {"occupation": sample.n_electrons}),
        "harmose_basis": json.loads(sample.basis.to_json()),
    }


def _write_operator(path: Path, blocks: Blocks, entries: np.ndarray, factor: int) -> None:
    with h5py.File(path, "w") as file:
        file["atom_pairs"] = blocks.keys[:, [2, 3, 4, 0, 1]]
        file["chunk_shapes"] = factor * blocks.shapes
        file["chunk_boundaries"] = factor**2 * blocks.offsets
        file["entries"] = entries


def with_cell(structure: Atoms) -> Atoms:
    """The structure, or, where it has no whole cell, the structure in a box with `BOX` of vacuum in its free directions."""
    if structure.cell.rank == 3:
        return structure
    boxed = structure.copy()
    extent = np.ptp(boxed.positions, axis=0).max() + BOX
    cell = structure.cell.complete().array
    free = np.logical_not(structure.cell.array.any(axis=1))
    boxed.cell = np.where(free[:, None], cell * extent, cell)
    return boxed


def _poscar(structure: Atoms, title: str) -> str:
    structure = with_cell(structure)
    symbols = np.array(structure.get_chemical_symbols())
    # Atoms stay in their order: an element that comes again begins a new column.
    first = np.flatnonzero(np.append(True, symbols[1:] != symbols[:-1]))
    counts = np.diff(np.append(first, len(symbols)))
    rows = [" ".join(f"{x!r}" for x in row) for row in structure.cell.array.tolist() + structure.positions.tolist()]
    head = [
        " ".join(title.split()) or "harmose",
        "1.0",
        *rows[:3],
        " ".join(symbols[first]),
        " ".join(map(str, counts)),
    ]
    return "\n".join([*head, "Cartesian", *rows[3:]]) + "\n"
