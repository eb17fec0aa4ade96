"""DeepH's current format (DeepH-pack 1, DeepH-dock): a folder with POSCAR, info.json, hamiltonian.h5 and overlap.h5.

    POSCAR             the structure, atoms in the order of the matrices
    info.json          spinful, fermi_energy_eV, elements_orbital_map (the l of each element's shells), orthogonal_basis,
                       numbers of atoms and orbitals, sometimes occupation (number of electrons)
    hamiltonian.h5     H in eV: atom_pairs (B, 5): Rx, Ry, Rz, i, j, atoms from 0; entries: the blocks one after the other,
    overlap.h5         each by rows; chunk_shapes (B, 2); chunk_boundaries (B + 1,). S in the same layout
    hamiltonian_pred.h5   a predicted H, not exactly Hermitian; read if there is no hamiltonian.h5

Both directions of a pair are stored. Orbitals are m = -l..l without the Condon-Shortley sign, as in harmose. For spin see
`io.deeph.blocks`. harmose also writes the basis set (n, radii, name), the spin kind and the periodic directions to info.json as
"harmose_basis", "harmose_spin" and "harmose_pbc"; DeepH ignores them. Initial magnetic moments have no place.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from harmose.core.basis import BasisSet, n_orbitals
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.core.species import atomic_number_of, species_of, symbol_of
from harmose.errors import FormatError
from harmose.io.deeph.blocks import (
    RawOperator,
    has_overlap,
    make_overlap,
    make_sample,
    spinful_entries,
    written_blocks,
)
from harmose.io.deeph.files import hamiltonian_file, missing_in_deeph
from harmose.io.deeph.info import Info, checked_degrees
from harmose.io.disassembly import Blocks
from harmose.io.hdf5 import h5py, numbers, open_hdf5
from harmose.io.overlaps import Overlap
from harmose.io.structures import with_cell
from harmose.so3.conventions import E3NN
from harmose.spin import Spin


def read_deeph(folder: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a folder. H in eV; `fermi_level` (eV) and `n_electrons` are set if info.json has them.

    A Fermi level of exactly 0 counts as unknown, since converters write it as default. Without hamiltonian.h5, the H that
    DeepH predicted is read, as a prediction. `basis` must cover every block; default: `io.assembly.covering_radii`. A
    folder without pairs across cells is read as a molecule. Raises `FormatError`, `MatrixError`, `BasisError` or
    `StructureError` with file and block.
    """
    folder = Path(folder)
    info, structure = Info(folder / "info.json"), read_poscar(folder / "POSCAR")
    structure.pbc = info.pbc()
    degrees = _degrees(info, structure)
    if info.get("split_hkb") or info.get("hamiltonian_storage") not in (None, "full"):
        raise FormatError(f"{info.path}: expected a whole Hamiltonian in hamiltonian.h5, got split storage "
                          "(split_hkb); DeepH-dock writes the whole one")  # fmt: skip
    path = hamiltonian_file(folder)
    if path is None:
        raise FormatError(missing_in_deeph(folder) or f"{folder}: expected hamiltonian.h5, got a folder without H")
    predicted = path.name != "hamiltonian.h5"
    h, s = replace(_read_operator(path), predicted=predicted), None
    if has_overlap(folder / "overlap.h5", orthogonal=info.flag("orthogonal_basis")):
        s = _read_operator(folder / "overlap.h5")
    return make_sample(
        folder,
        structure,
        degrees,
        h,
        s,
        info.flag("spinful"),
        E3NN,
        _own_basis(info) if basis is None else basis,
        info.spin(),
        fermi_level=info.fermi_level("fermi_energy_eV"),
        n_electrons=info.number("occupation"),
        provenance={"format": "deeph", **({"kind": "prediction"} if predicted else {})},
    )


def read_deeph_overlap(folder: str | Path, basis: BasisSet | None = None) -> Overlap:
    """Read S of a folder, with or without H; arguments and errors as in `read_deeph`."""
    folder = Path(folder)
    info, structure = Info(folder / "info.json"), read_poscar(folder / "POSCAR")
    structure.pbc = info.pbc()
    degrees, raw = _degrees(info, structure), _read_operator(folder / "overlap.h5")
    basis = _own_basis(info) if basis is None else basis
    return make_overlap(folder, structure, degrees, raw, info.flag("spinful"), E3NN, basis)


def _own_basis(info: Info) -> BasisSet | None:
    """Return the basis set that harmose wrote to info.json, if it did."""
    own = info.get("harmose_basis")
    return BasisSet.from_json(json.dumps(own)) if isinstance(own, dict) else None


def read_poscar(path: Path) -> Atoms:
    """Read a periodic structure; `FormatError` if ASE cannot read it."""
    from ase.io import read  # takes 0.5 s

    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with path.open(
            encoding="utf-8", errors="replace"
        ) as file:  # by its name, ASE would expand patterns in the path
            atoms = read(file, format="vasp")
    except Exception:  # ASE's parsers raise many types
        raise FormatError(f"{path}: expected a POSCAR, got something else; copy it again, or write it again") from None
    assert isinstance(atoms, Atoms)
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def _degrees(info: Info, structure: Atoms) -> list[tuple[int, ...]]:
    """Return the l of each shell of each atom, checked against the structure."""
    path, table = info.path, info.get("elements_orbital_map")
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
    counts = {
        "atoms_quantity": len(structure),
        "orbits_quantity": sum(n_orbitals(degrees[z]) for z in structure.numbers.tolist()),
    }
    for key, expected in counts.items():
        if info.get(key, expected) != expected:
            raise FormatError(
                f"{path}: {key}: expected {expected} by POSCAR and elements_orbital_map, got {info.get(key)!r}"
            )
    return [degrees[z] for z in structure.numbers.tolist()]


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
    # Floats, because the product of two wrong, very large integers can overflow to a plausible size.
    ends = np.concatenate([[0.0], np.cumsum(shapes.astype(np.float64).prod(axis=1))])
    if (shapes < 0).any() or not np.array_equal(bounds, ends) or bounds[-1] != len(entries):
        raise FormatError(f"{path}: chunk_boundaries, chunk_shapes and the {len(entries)} entries do not fit together")
    return RawOperator(str(path), pairs[:, [3, 4, 0, 1, 2]], shapes, entries)


def write_deeph(folder: str | Path, sample: Sample) -> None:
    """Write a sample to a new folder, which appears complete or not at all.

    A collinear sample becomes a spinful one without coupling of its spins. The format has no place for H0, energies and
    provenance. `FormatError` if `folder` exists, or for a sample without S or with several sets of orbitals of an element.
    """
    _check_one_set_of_orbitals(sample)
    h, s = written_blocks(sample, E3NN)
    with atomic_path(folder, overwrite=False) as hidden:
        hidden.mkdir()
        (hidden / "POSCAR").write_text(_poscar(sample.structure, sample.name), encoding="utf-8")
        (hidden / "info.json").write_text(json.dumps(_new_info(sample)) + "\n")
        spinful = sample.spin is not Spin.NONE
        _write_operator(hidden / "hamiltonian.h5", h, spinful_entries(h) if spinful else h.values[0], 1 + spinful)
        _write_operator(hidden / "overlap.h5", s, s.values[0], 1)


def _check_one_set_of_orbitals(sample: Sample) -> None:
    species = np.unique(species_of(sample.structure)).tolist()
    further = [z for z in species if len({s for s in species if atomic_number_of(s) == atomic_number_of(z)}) > 1]
    if further:
        raise FormatError(f"sample {sample.name}: expected one set of orbitals for each element, as elements_orbital_map holds them, "
                          f"got {' and '.join(map(symbol_of, further))}; the format deeph-legacy has those of each atom")  # fmt: skip


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
        "harmose_spin": sample.spin.value,
        "harmose_pbc": sample.structure.pbc.tolist(),
    }


def _write_operator(path: Path, blocks: Blocks, entries: np.ndarray, factor: int) -> None:
    with h5py.File(path, "w") as file:
        file["atom_pairs"] = blocks.keys[:, [2, 3, 4, 0, 1]]
        file["chunk_shapes"] = factor * blocks.shapes
        file["chunk_boundaries"] = factor**2 * blocks.offsets
        file["entries"] = entries


def _poscar(structure: Atoms, title: str) -> str:
    structure = with_cell(structure)
    symbols = np.array(structure.get_chemical_symbols())
    # Atoms keep their order, so an element may have several columns.
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
