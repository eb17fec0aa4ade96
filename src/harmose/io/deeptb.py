"""DeePTB's data folders (DeePTB, dftio): text files of the structure, and blocks in HDF5.

    atomic_numbers.dat    atomic number of each atom, for all frames or for each
    positions.dat         positions of all frames, one below the other; angstrom, or fractional by info.json
    cell.dat, pbc.dat     lattice vectors as rows, for all frames or for each, angstrom; three numbers, 0 or 1
    basis.dat             {'Si': '2s2p1d'}: two s, two p and one d shell
    hamiltonians.h5       a group for each frame, from 0; in it a dataset "i_j_Rx_Ry_Rz", atoms from 0: the block in eV
    overlaps.h5           the same for S; pairs that it lacks are zero
    info.json             optional, here or in the folder above: pos_type, pbc

Orbitals are m = -l..l, without the Condon-Shortley sign, as in harmose. One direction of a pair may be missing. Values are
float32 in many files. The format has no Fermi level, number of electrons or spin.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.data import atomic_numbers, chemical_symbols

from harmose.core.basis import LETTERS, BasisSet, Shell
from harmose.core.sample import Sample
from harmose.core.species import species_of, with_species
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.assembly import (
    Rules,
    covering_radii,
    from_blocks,
    hamiltonian_rules,
    overlap_rules,
)
from harmose.io.hdf5 import h5py, numbers, open_hdf5
from harmose.io.species import number_species

H, S = "hamiltonians.h5", "overlaps.h5"
DESCRIPTION = ("atomic_numbers.dat", "positions.dat", "cell.dat", "basis.dat")
LEAST_RADIUS = 3.5
"""Smallest orbital radius (angstrom), as for DeepH's formats: the files have no radii."""

KEY = re.compile(r"(-?\d{1,9})" + r"_(-?\d{1,9})" * 4)
SINGLE = 2e-6
"""Precision of float32 values near 10 eV, for comparisons of a block with the reversed one."""


def is_deeptb(path: Path) -> bool:
    """True for a folder with structure, basis set and H of DeePTB, and for the H of one of its frames."""
    folder, _ = _split(path)
    return all((folder / name).is_file() for name in (*DESCRIPTION, H))


def missing_in_deeptb(path: Path) -> str | None:
    """Return what a folder of DeePTB lacks; None for other folders."""
    if not (path / "atomic_numbers.dat").is_file() or is_deeptb(path):
        return None
    lacking = [name for name in (*DESCRIPTION, H) if not (path / name).is_file()]
    hint = " (dftio's band.yml tells which matrices it writes)" if lacking == [H] else ""
    return f"{path}: expected a data folder of DeePTB, got one without {', '.join(lacking)}{hint}"


def frames(path: Path) -> Mapping[str, Path]:
    """Return the frames of a folder by their numbers, each as the path of its group in H; the folder if it has one frame."""
    with open_hdf5(path / H) as file:
        names = sorted(file, key=lambda name: (len(name), name))
    return {"": path} if len(names) == 1 else {name: path / H / name for name in names}


def read_deeptb(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a folder of one frame, or the frame `folder/hamiltonians.h5/NUMBER`. H in eV.

    Energies and the number of electrons are None: the format has none. `basis` must cover every block; default:
    `io.assembly.covering_radii`. Raises `FormatError`, `MatrixError`, `BasisError` or `StructureError` with the file.
    """
    folder, name = _split(Path(path))
    names = list(frames(folder).values())
    if name is None and len(names) > 1:
        raise FormatError(f"{folder}: expected the name of one of its {len(names)} frames, got none")
    frame, n_frames = _frame(folder, name)
    structure = _structure(folder, frame, n_frames)
    check_structure(structure, str(path))
    of_element = _shells(folder / "basis.dat", structure)
    number = dict(zip(of_element, number_species(list(of_element.items()), basis, str(folder))))
    structure = with_species(structure, np.array([number[z] for z in structure.numbers.tolist()]))
    shells = {number[z]: own for z, own in of_element.items()}
    h = _read_blocks(folder / H, frame, _counts(structure, shells))
    s = _read_blocks(folder / S, frame, _counts(structure, shells)) if (folder / S).is_file() else None
    if basis is None:
        keys = np.concatenate([m.keys[m.largest > limit] for m, limit in ((h, 1e-6), (s, 1e-8)) if m is not None])
        basis = BasisSet("deeptb", shells, covering_radii(structure, keys, LEAST_RADIUS, where=str(h.path)))
    h_rules = h.rules(hamiltonian_rules(str(h.path), one_triangle=True))
    overlap = None
    if s is not None:
        s_rules = s.rules(overlap_rules(str(s.path), one_triangle=True))
        overlap = from_blocks(structure, basis, s.keys, s.values, s_rules)
    return Sample(
        folder.resolve().name if name is None else name,
        structure,
        basis,
        from_blocks(structure, basis, h.keys, h.values, h_rules),
        overlap=overlap,
        provenance={"format": "deeptb"},
    )


def _split(path: Path) -> tuple[Path, str | None]:
    """Return the folder, and the name of the frame if `path` is the group of one."""
    return (path.parent.parent, path.name) if path.parent.name == H else (path, None)


def _frame(folder: Path, name: str | None) -> tuple[int, int]:
    """Return the index of a frame and the number of all frames. Groups count from 0 or from 1."""
    with open_hdf5(folder / H) as file:
        names = sorted(file, key=lambda one: (len(one), one))
        if not names or not all(isinstance(file.get(one, getlink=True), h5py.HardLink) for one in names):
            raise FormatError(f"{folder / H}: expected a group for each frame, got {', '.join(names[:3]) or 'none'}")
    if name is not None and name not in names:
        raise FormatError(f"{folder / H}: no frame {name!r}")
    return names.index(names[0] if name is None else name), len(names)


# Structure -----------------------------------------------------------------------------------------------------------


def _structure(folder: Path, frame: int, n_frames: int) -> Atoms:
    info = _info(folder)
    numbers_of_atoms = _table(folder / "atomic_numbers.dat").ravel()
    places, cells = _table(folder / "positions.dat"), _table(folder / "cell.dat")
    n = len(places) // n_frames
    if places.shape != (n * n_frames, 3) or n == 0 or len(numbers_of_atoms) not in (n, n * n_frames):
        raise FormatError(
            f"{folder}: expected positions of {n_frames} frames and as many atomic numbers, got {places.shape} positions and "
            f"{len(numbers_of_atoms)} atomic numbers"
        )
    if cells.shape not in ((3, 3), (3 * n_frames, 3)):
        raise FormatError(f"{folder / 'cell.dat'}: expected three lattice vectors a frame, got shape {cells.shape}")
    z = numbers_of_atoms[frame * n : (frame + 1) * n] if len(numbers_of_atoms) > n else numbers_of_atoms
    if not all(x == int(x) and 0 < x < len(chemical_symbols) for x in z.tolist()):
        raise FormatError(f"{folder / 'atomic_numbers.dat'}: expected atomic numbers, got {z.tolist()[:5]}")
    cell = cells[3 * frame : 3 * frame + 3] if len(cells) > 3 else cells
    positions = places[frame * n : (frame + 1) * n]
    if info.get("pos_type", "cart") == "frac":
        positions = positions @ cell
    return Atoms(z.astype(int), positions, cell=Cell(cell), pbc=_pbc(folder, info))


def _pbc(folder: Path, info: dict) -> list[bool]:
    if (folder / "pbc.dat").is_file():
        stated: object = _table(folder / "pbc.dat").ravel()[:3].tolist()
    else:
        stated = info.get("pbc", info.get("AtomicData_options", {}).get("pbc"))
    values = list(stated) if isinstance(stated, list) else [stated] * 3
    if len(values) != 3 or not all(value in (0, 1) for value in values):
        raise FormatError(f"{folder}: expected periodic directions in pbc.dat or info.json (pbc), got {stated!r}")
    return [bool(value) for value in values]


def _info(folder: Path) -> dict:
    """Return the content of info.json in the folder or above it; empty without the file."""
    for path in (folder / "info.json", folder.resolve().parent / "info.json"):
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                raise FormatError(
                    f"{path}: expected JSON, got something else; copy it again, or write it again"
                ) from None
            return content if isinstance(content, dict) else {}
    return {}


def _table(path: Path) -> np.ndarray:
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        return np.array([row for row in rows if row], dtype=np.float64)
    except (OSError, ValueError):
        raise FormatError(f"{path}: expected a table of numbers, got something else") from None


def _shells(path: Path, structure: Atoms) -> dict[int, tuple[Shell, ...]]:
    """Read basis.dat: a Python or JSON dictionary of texts, which is matched and not evaluated."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    entries = re.findall(rf"""["']([A-Z][a-z]?)["']\s*:\s*["']((?:\d{{1,2}}[{LETTERS}])+)["']""", text)
    shells = {}
    for symbol, counts in entries:
        ls = [LETTERS.index(l) for n, l in re.findall(rf"(\d+)([{LETTERS}])", counts) for _ in range(int(n))]
        shells[atomic_numbers.get(symbol, 0)] = tuple(Shell(l + 1 + ls[:k].count(l), l) for k, l in enumerate(ls))
    missing = [chemical_symbols[z] for z in np.unique(structure.numbers).tolist() if z not in shells]
    if missing:
        raise FormatError(
            f"{path}: expected the shells of {', '.join(missing)} as {{'Si': '2s2p1d'}}, got {text[:60]!r}"
        )
    return {z: shells[z] for z in np.unique(structure.numbers).tolist()}


def _counts(structure: Atoms, shells: Mapping[int, tuple[Shell, ...]]) -> np.ndarray:
    return np.array([sum(shell.n_orbitals for shell in shells[z]) for z in species_of(structure).tolist()])


# Matrices ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Blocks:
    """Keys (B, 5), atoms from 0, and all blocks, one after the other and each by rows; `largest` (B,) value of each."""

    path: Path
    keys: np.ndarray
    values: np.ndarray
    largest: np.ndarray

    def rules(self, kind: Rules) -> Rules:
        """Return the rules of a matrix whose reversed blocks may be missing; not stricter than its number type."""
        asymmetry = max(kind.asymmetry, SINGLE) if self.values.dtype.itemsize < 8 else kind.asymmetry
        return replace(kind, asymmetry=asymmetry)


def _read_blocks(path: Path, frame: int, counts: np.ndarray) -> _Blocks:
    with open_hdf5(path) as file:
        groups = sorted(file, key=lambda one: (len(one), one))
        # A link to another file is not followed.
        is_here = frame < len(groups) and isinstance(file.get(groups[frame], getlink=True), h5py.HardLink)
        names = list(file[groups[frame]]) if is_here and isinstance(file[groups[frame]], h5py.Group) else []
        if not names:
            raise FormatError(f"{path}: expected a group of blocks for frame {frame}, got none")
        blocks = [numbers(file, f"{groups[frame]}/{name}") for name in names]
    bad = next((name for name in names if not KEY.fullmatch(name)), None)
    if bad is not None:
        raise FormatError(f"{path}: expected datasets i_j_Rx_Ry_Rz with a block each, got {bad!r}")
    keys = np.array([name.split("_") for name in names], dtype=np.int64)
    keys[:, :2] -= int(keys[:, :2].min())  # older files count atoms from 1; each has its on-site block
    if keys[:, :2].max() >= len(counts):
        raise FormatError(f"{path}: expected blocks of {len(counts)} atoms, got one of atom {keys[:, :2].max()}")
    expected = np.column_stack([counts[keys[:, 0]], counts[keys[:, 1]]])
    for name, block, shape in zip(names, blocks, expected.tolist()):
        if list(block.shape) != shape or np.iscomplexobj(block):
            spin = " (harmose reads DeePTB's files without spin)" if list(block.shape) == [2 * n for n in shape] else ""
            raise FormatError(f"{path}: {name}: expected a real block of shape {tuple(shape)} by basis.dat, got "
                              f"{block.dtype} {block.shape}{spin}")  # fmt: skip
    largest = np.array([np.abs(block).max() for block in blocks])
    return _Blocks(path, keys, np.concatenate([block.ravel() for block in blocks]), largest)
