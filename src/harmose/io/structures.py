"""Structures from any file that ASE reads."""

from pathlib import Path

from ase import Atoms
from ase.io import read

from harmose.core.structure import check_structure
from harmose.errors import FormatError

KEPT = ("name", "group", "charge")
"""Entries of `atoms.info` that mean something to harmose."""


def read_structures(path: str | Path) -> list[Atoms]:
    """All frames of a file, or of every file of a folder in alphabetical order; checked.

    `atoms.info["source"]` names file and frame; of what else the file says of a frame, name, group and charge are kept.
    `file.xyz@0:10` takes some frames, as in ASE. Raises `FormatError` where there is nothing to read and
    `StructureError` for a structure without meaning, both with the file and the frame.
    """
    file, frames = _split_frames(path)
    if not file.exists():
        raise FormatError(f"{file}: no such file or folder")
    if not file.is_dir():
        return _read_file(file, frames)
    files = sorted(f for f in file.iterdir() if f.is_file() and not f.name.startswith("."))
    if not files:
        raise FormatError(f"{file}: expected files with structures, got an empty folder")
    return [atoms for f in files for atoms in _read_file(f, frames)]


def _split_frames(path: str | Path) -> tuple[Path, str]:
    name, at, frames = str(path).rpartition("@")
    return (Path(name), frames) if at and not Path(path).exists() else (Path(path), ":")


def _read_file(file: Path, frames: str) -> list[Atoms]:
    try:
        found = read(file, index=frames)
    except Exception as error:  # ASE's many parsers raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FormatError(f"{file}: expected structures that ASE reads, got something else ({reason[0]})") from None
    found = [found] if isinstance(found, Atoms) else list(found)
    if not found:
        raise FormatError(f"{file}: expected at least one structure, got none")
    structures = []
    for frame, atoms in enumerate(found):
        check_structure(atoms, f"{file}, frame {frame}")
        info = {key: atoms.info[key] for key in KEPT if key in atoms.info} | {"source": f"{file.name}, frame {frame}"}
        structures.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info))
    return structures
