"""DeepH's first format (DeepH-pack 0.2, DeepH-E3): a folder of small files, one HDF5 dataset for each block.

    lat.dat, site_positions.dat   lattice vectors and positions, angstrom, one in each column
    element.dat                   atomic number of each atom
    orbital_types.dat             the l of each atom's shells, one line for each atom
    info.json                     isspinful, fermi_level (eV), isorthogonal, nsites, norbits
    hamiltonians.h5, overlaps.h5  dataset "[Rx, Ry, Rz, i, j]", atoms from 1: the block (n_i, n_j), H in eV
    hamiltonians_pred.h5          a predicted H, not exactly Hermitian; read if there is no hamiltonians.h5
    rh.h5, rh_pred.h5, rc.h5      blocks in a local frame of each pair, and the frame's axes as columns; read if there is neither

Orbitals are in OpenMX's order, without Condon-Shortley sign: p x, y, z; d z2, x2-y2, xy, xz, yz; f z3, xz2, yz2,
z(x2-y2), xyz, x(x2-3y2), y(3x2-y2). For spin see `io.deeph.blocks`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet, n_orbitals
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.core.species import species_of
from harmose.errors import FormatError
from harmose.io.deeph.blocks import (
    RawOperator,
    has_overlap,
    make_overlap,
    make_sample,
    spinful_entries,
    written_blocks,
)
from harmose.io.deeph.files import missing_in_deeph_legacy
from harmose.io.deeph.info import Info, checked_degrees
from harmose.io.disassembly import Blocks
from harmose.io.hdf5 import h5py, numbers, open_hdf5
from harmose.io.overlaps import Overlap
from harmose.io.structures import with_cell
from harmose.so3.conventions import OPENMX
from harmose.so3.wigner import wigner_d
from harmose.spin import Spin

KEY = re.compile(r"\[\s*(-?\d{1,9})" + r"\s*,\s*(-?\d{1,9})" * 4 + r"\s*\]")


def read_deeph_legacy(folder: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a folder. H in eV; `fermi_level` (eV) is set if info.json has it and it is not 0, which is a default.

    `basis` must cover every block; default: `io.assembly.covering_radii`. A folder without pairs across cells is read as a
    molecule. Raises `FormatError`, `MatrixError`, `BasisError` or `StructureError` with file and block.
    """
    folder = Path(folder)
    info, structure = Info(folder / "info.json"), _structure(folder)
    structure.pbc = info.pbc()
    degrees = _degrees(folder / "orbital_types.dat", structure)
    spinful = info.flag("isspinful")
    h, s = _read_hamiltonian(folder, structure, degrees, spinful), None
    if has_overlap(folder / "overlaps.h5", orthogonal=info.flag("isorthogonal")):
        s = _read_operator(folder / "overlaps.h5")
    return make_sample(
        folder,
        structure,
        degrees,
        h,
        s,
        spinful,
        OPENMX,
        basis,
        info.spin(),
        n_electrons=info.number("harmose_electrons"),
        fermi_level=info.fermi_level("fermi_level"),
        provenance={"format": "deeph-legacy", **({"kind": "prediction"} if h.predicted else {})},
    )


def read_deeph_legacy_overlap(folder: str | Path, basis: BasisSet | None = None) -> Overlap:
    """Read S of a folder, with or without H; arguments and errors as in `read_deeph_legacy`."""
    folder = Path(folder)
    info, structure = Info(folder / "info.json"), _structure(folder)
    structure.pbc = info.pbc()
    degrees, raw = _degrees(folder / "orbital_types.dat", structure), _read_operator(folder / "overlaps.h5")
    return make_overlap(folder, structure, degrees, raw, info.flag("isspinful"), OPENMX, basis)


def _table(path: Path, rows: int | None = None) -> np.ndarray:
    """Read the numbers (rows, columns) of a text file."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        table = np.array([[float(word) for word in line.split()] for line in _text(path).splitlines() if line.strip()])
    except ValueError:  # also for lines of different length
        raise FormatError(
            f"{path}: expected a table of numbers, got other words or lines of different length; copy it again, or write it again"
        ) from None
    if table.ndim != 2 or (rows is not None and len(table) != rows):
        raise FormatError(f"{path}: expected a table of {rows or 'some'} rows, got shape {table.shape}")
    return table


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _structure(folder: Path) -> Atoms:
    cell, positions = _table(folder / "lat.dat", 3).T, _table(folder / "site_positions.dat", 3).T
    elements = _table(folder / "element.dat").ravel()
    if cell.shape != (3, 3) or len(positions) != len(elements):
        raise FormatError(f"{folder}: expected three lattice vectors and as many positions as elements, got {len(cell)}, "
                          f"{len(positions)} and {len(elements)}")  # fmt: skip
    if not all(z == int(z) and 0 < z < 119 for z in elements):
        raise FormatError(f"{folder / 'element.dat'}: expected atomic numbers, got {elements.tolist()[:5]}")
    return Atoms(elements.astype(int), positions, cell=cell, pbc=True)


def _degrees(path: Path, structure: Atoms) -> list[tuple[int, ...]]:
    """Return the l of the shells of each atom."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    lines = [tuple(line.split()) for line in _text(path).splitlines() if line.strip()]
    if len(lines) != len(structure):
        raise FormatError(f"{path}: expected the shells of {len(structure)} atoms, got {len(lines)} lines")
    checked = {
        words: checked_degrees([int(word) if word.isdecimal() else word for word in words], str(path))
        for words in set(lines)
    }
    return [checked[words] for words in lines]


def _read_hamiltonian(folder: Path, structure: Atoms, degrees: Sequence[tuple[int, ...]], spinful: bool) -> RawOperator:
    for name in ("hamiltonians.h5", "hamiltonians_pred.h5"):
        if (folder / name).is_file():
            return replace(_read_operator(folder / name), predicted="pred" in name)
    for name in ("rh.h5", "rh_pred.h5"):
        if (folder / name).is_file():
            if spinful:
                raise FormatError(
                    f"{folder / name}: expected hamiltonians.h5 for a spinful calculation, got local frames only"
                )
            rotated = replace(_read_operator(folder / name), predicted="pred" in name)
            return _out_of_local_frames(rotated, folder / "rc.h5", structure, degrees)
    raise FormatError(missing_in_deeph_legacy(folder) or f"{folder}: expected hamiltonians.h5, got a folder without H")


def _read_operator(path: Path) -> RawOperator:
    with open_hdf5(path) as file:
        names = list(file)
        blocks = [numbers(file, name) for name in names]
    bad = next((name for name, block in zip(names, blocks) if not KEY.fullmatch(name) or block.ndim != 2), None)
    if bad is not None:
        raise FormatError(f"{path}: expected datasets '[Rx, Ry, Rz, i, j]' with a block (n_i, n_j) each, got {bad!r}")
    if not blocks:
        raise FormatError(f"{path}: expected blocks, got an empty file")
    keys = np.array([[int(x) for x in name[1:-1].split(",")] for name in names], dtype=np.int64)
    keys = np.column_stack([keys[:, 3:] - 1, keys[:, :3]])
    return RawOperator(
        str(path), keys, np.array([b.shape for b in blocks]), np.concatenate([b.ravel() for b in blocks])
    )


def _out_of_local_frames(
    rotated: RawOperator, frames: Path, structure: Atoms, degrees: Sequence[tuple[int, ...]]
) -> RawOperator:
    """Return H = D(Q) H' D(Q)^T, where the columns of Q are the axes of each pair's frame."""
    axes = _read_operator(frames)
    position = {tuple(key): k for k, key in enumerate(axes.keys.tolist())}
    missing = [key for key in map(tuple, rotated.keys.tolist()) if key not in position]
    if missing or (axes.shapes != 3).any():
        raise FormatError(
            f"{frames}: expected the axes (3, 3) of every block of {rotated.where}, got {len(missing)} missing"
        )
    q = axes.entries.reshape(-1, 3, 3)[[position[tuple(key)] for key in rotated.keys.tolist()]]
    if not np.allclose(q @ q.transpose(0, 2, 1), np.eye(3), atol=1e-5):
        raise FormatError(f"{frames}: expected orthonormal axes, got others")
    if rotated.keys[:, :2].max() >= len(structure) or rotated.keys[:, :2].min() < 0:
        raise FormatError(f"{rotated.where}: expected blocks of {len(structure)} atoms, got others")
    starts = np.cumsum(rotated.shapes.prod(axis=1)) - rotated.shapes.prod(axis=1)
    different = {own: k for k, own in enumerate(dict.fromkeys(degrees))}
    shells, kind_of_atom = list(different), np.array([different[own] for own in degrees])
    kinds, which = np.unique(kind_of_atom[rotated.keys[:, :2]], axis=0, return_inverse=True)
    entries = rotated.entries.astype(np.float64)
    for kind, (left, right) in enumerate(kinds.tolist()):
        index = np.flatnonzero(which.ravel() == kind)
        d1, d2 = _frame_wigner(shells[left], q[index]), _frame_wigner(shells[right], q[index])
        n1, n2 = d1.shape[1], d2.shape[1]
        if (rotated.shapes[index] != (n1, n2)).any():
            raise FormatError(
                f"{rotated.where}: expected blocks of shape {(n1, n2)} by the shells of their atoms, got others"
            )
        where = starts[index][:, None, None] + np.arange(n1 * n2).reshape(n1, n2)
        entries[where] = d1 @ entries[where] @ d2.transpose(0, 2, 1)
    return replace(rotated, entries=entries)


def _frame_wigner(degrees: Sequence[int], q: np.ndarray) -> np.ndarray:
    """Return D(Q) of an atom's shells in OpenMX's order: (B, 3, 3) -> (B, n, n)."""
    n = n_orbitals(degrees)
    inside = np.zeros((len(q), n, n))
    start = 0
    for l in degrees:
        shell = slice(start, start + 2 * l + 1)
        inside[:, shell, shell] = wigner_d(l, q)
        start += 2 * l + 1
    index, _ = OPENMX.indices(degrees)
    out = np.empty_like(inside)
    out[:, index[:, None], index] = inside
    return out


def write_deeph_legacy(folder: str | Path, sample: Sample) -> None:
    """Write a sample to a new folder, which appears complete or not at all.

    A collinear sample becomes a spinful one without coupling of its spins. The format has no place for H0, energies, radii
    and provenance. `FormatError` if `folder` exists, or for a sample without S.
    """
    h, s = written_blocks(sample, OPENMX)
    structure, spinful = with_cell(sample.structure), sample.spin is not Spin.NONE
    with atomic_path(folder, overwrite=False) as hidden:
        hidden.mkdir()
        cell = structure.cell.array
        for name, table in (
            ("lat.dat", cell.T),
            ("rlat.dat", 2 * np.pi * np.linalg.inv(cell)),
            ("site_positions.dat", structure.positions.T),
        ):
            np.savetxt(hidden / name, table, fmt="%.17g")
        np.savetxt(hidden / "element.dat", structure.numbers, fmt="%d")
        lines = ["  ".join(map(str, sample.basis.degrees(z))) for z in species_of(structure).tolist()]
        (hidden / "orbital_types.dat").write_text("\n".join(lines) + "\n")
        info = {
            "nsites": len(structure),
            "isorthogonal": False,
            "isspinful": spinful,
            "norbits": sample.hamiltonian.n_orbitals,
            "fermi_level": sample.fermi_level,
            "harmose_spin": sample.spin.value,  # these three are ignored by DeepH
            "harmose_electrons": sample.n_electrons,
            "harmose_pbc": sample.structure.pbc.tolist(),
        }
        (hidden / "info.json").write_text(json.dumps(info) + "\n")
        _write_operator(hidden / "hamiltonians.h5", h, spinful_entries(h) if spinful else h.values[0], 1 + spinful)
        _write_operator(hidden / "overlaps.h5", s, s.values[0], 1)


def _write_operator(path: Path, blocks: Blocks, entries: np.ndarray, factor: int) -> None:
    ends = factor**2 * blocks.offsets
    with h5py.File(path, "w") as file:
        for (i, j, *cell), start, end, shape in zip(blocks.keys.tolist(), ends, ends[1:], factor * blocks.shapes):
            file[str([*cell, i + 1, j + 1])] = entries[start:end].reshape(shape)
