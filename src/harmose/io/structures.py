"""Read structures from any file that ASE reads; give a molecule a cell for formats that need one."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.structure import check_structure
from harmose.errors import FormatError, StructureError

KEPT = ("name", "group", "charge", "spin")
"""Keys of `atoms.info` that harmose uses."""

OTHER_WORDS = {"total_charge": ("charge", 0), "multiplicity": ("spin", -1), "spin_multiplicity": ("spin", -1)}
"""Keys of other programs, those of `KEPT` that they stand for, and what is added to their values."""

KEPT_ARRAYS = ("initial_charges", "initial_magmoms")
"""Arrays of a structure that harmose uses besides positions (`harmose.core.electrons`)."""

VACUUM = 20.0
"""Vacuum (angstrom) around a molecule in a box."""


def read_structures(path: str | Path) -> list[Atoms]:
    """Read all frames of a file, or of every file of a folder in alphabetical order, and check them.

    `file.xyz@0:10` takes some frames, as in ASE. `atoms.info["source"]` names file and frame; the keys `KEPT`, also in
    `OTHER_WORDS`, and the arrays `KEPT_ARRAYS` are kept.
    `FormatError` if there is nothing to read, `StructureError` for an invalid structure, both with file and frame.
    """
    file, frames = _split_frames(path)
    if not file.exists():
        raise FormatError(f"{file}: no such file or folder")
    if not file.is_dir():
        return _read_file(file, frames)
    return [atoms for f in _files(file) for atoms in _read_file(f, frames)]


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that are not hidden; `FormatError` for folders and broken links, which would be missed."""
    found = sorted(f for f in folder.iterdir() if not f.name.startswith("."))
    others = [f.name for f in found if not f.is_file()]
    if others:
        names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise FormatError(f"{folder}: expected files with structures only, got folders or links that lead nowhere ({names}); "
                          f"name one folder or the files")  # fmt: skip
    if not found:
        raise FormatError(f"{folder}: expected files with structures, got an empty folder")
    return found


def _split_frames(path: str | Path) -> tuple[Path, str]:
    name, at, frames = str(path).rpartition("@")
    return (Path(name), frames) if at and not Path(path).exists() else (Path(path), ":")


def _read_file(file: Path, frames: str) -> list[Atoms]:
    from ase.io import read  # takes 0.5 s

    try:
        content = read(file, index=frames)
    except Exception as error:  # ASE's parsers raise many types
        raise FormatError(
            f"{file}: expected structures that ASE reads, got something else ({_reason(error)})"
        ) from None
    content = [content] if isinstance(content, Atoms) else list(content)
    if not content:
        raise FormatError(f"{file}: expected at least one structure, got none")
    structures = []
    for frame, atoms in enumerate(content):
        check_structure(atoms, f"{file}, frame {frame}")
        info = _kept(atoms.info, f"{file}, frame {frame}") | {"source": f"{file.name}, frame {frame}"}
        structure = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)
        for name in KEPT_ARRAYS:
            if atoms.has(name):
                structure.set_array(name, atoms.get_array(name))
        structures.append(structure)
    return structures


def _kept(info: dict[str, Any], where: str) -> dict[str, Any]:
    """Return what harmose uses of `atoms.info`; `StructureError` if keys of several programs contradict each other."""
    out = {key: info[key] for key in KEPT if key in info}
    for word, (key, added) in OTHER_WORDS.items():
        if word not in info:
            continue
        try:
            value = int(info[word]) + added
            contradicts = int(info[word]) != float(info[word]) or float(out.get(key, value)) != value
        except (TypeError, ValueError):
            raise StructureError(f"{where}: expected a whole number as {word}, got {info[word]!r}") from None
        if contradicts:
            raise StructureError(f"{where}: expected {word} that agrees with {key}={out.get(key)}, got {info[word]}")
        out[key] = value
    return out


def _reason(error: Exception) -> str:
    """Return the first line of an error of ASE, in words where it is a symbol that no element has."""
    if isinstance(error, KeyError) and re.fullmatch(r"[A-Z][a-z]{0,2}|[\d.]+", str(error.args[0])):
        return f"expected symbols of chemical elements, got {error.args[0]}"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def with_cell(structure: Atoms) -> Atoms:
    """Return the structure with three lattice vectors: missing ones span the molecule and `VACUUM`."""
    if structure.cell.rank == 3:
        return structure
    boxed = structure.copy()
    extent = np.ptp(boxed.positions, axis=0).max() + VACUUM
    cell = structure.cell.complete().array
    free = np.logical_not(structure.cell.array.any(axis=1))
    boxed.cell = np.where(free[:, None], cell * extent, cell)
    return boxed
