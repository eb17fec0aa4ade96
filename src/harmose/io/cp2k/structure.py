"""The structure of a CP2K run, from its output and its input file.

The output prints the cell to 0.001 angstrom only, so the cell is read from the input file. Positions are printed to 1e-6;
those of the input file are used if they agree.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.cell import Cell

from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.cp2k.output import Output
from harmose.units import BOHR

UNITS = {"angstrom": 1.0, "bohr": BOHR, "nm": 10.0, "pm": 0.01}

CELL_DIGITS, POSITION_DIGITS = 1e-3, 2e-6
"""Largest difference (angstrom) of the numbers in the input and in the output."""


@dataclass
class Section:
    """A section of the input: its keywords in order, and its subsections by name."""

    parameter: str = ""
    keywords: list[tuple[str, str]] = field(default_factory=list)
    subsections: dict[str, "Section"] = field(default_factory=dict)

    def get(self, keyword: str) -> str | None:
        """Return the last value of a keyword."""
        return next((value for name, value in reversed(self.keywords) if name == keyword), None)

    def find(self, *path: str) -> "Section":
        """Return the subsection at `path`; an empty one if it is missing."""
        section = self
        for name in path:
            section = section.subsections.get(name, Section())
        return section


def parse_input(path: Path) -> Section:
    """Read an input file with its `@SET` variables. `FormatError` for unbalanced sections and for `@INCLUDE`."""
    root = Section()
    stack, variables = [root], {}
    for line in _lines(path):
        first, *rest = line.split(maxsplit=1)
        value = rest[0] if rest else ""
        if first.upper() == "@SET":
            name, _, content = value.partition(" ")
            variables[name.upper()] = content.strip()
            continue
        if first.startswith("@"):
            raise FormatError(
                f"{path}: expected an input without {first} (read by harmose for the cell), got one with it"
            )
        first, value = _substituted(first, variables), _substituted(value, variables)
        if first.upper().startswith("&END"):
            stack.pop()
            if not stack:
                raise FormatError(f"{path}: expected balanced sections, got an &END too many")
        elif first.startswith("&"):
            # Of repeated sections (KIND, FORCE_EVAL) only the first is kept; harmose does not need the others.
            section = Section(value)
            stack[-1].subsections.setdefault(first[1:].upper(), section)
            stack.append(section)
        else:
            stack[-1].keywords.append((first.upper(), value))
    return root


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise FormatError(f"{path}: CP2K's input, which has the cell, cannot be read: {error.strerror}") from None
    for line in text.splitlines():
        line = re.split(r"[!#]", line, maxsplit=1)[0].strip()
        if line:
            yield line


def _substituted(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda m: variables.get(m[1].upper(), m[0]), text)


def structure_of(output: Output) -> Atoms:
    """Return the atoms of a run: cell and periodic directions from the input file, positions from it if they agree.

    `FormatError` if the input file is missing or its cell differs from the one in the output; `StructureError` for an
    invalid structure, for example a cell without volume.
    """
    path = output.path.parent / Path(output.input_name).name
    if not path.is_file():
        raise FormatError(f"{path}: expected the input of {output.path.name} beside it (it has the cell), found none")
    subsys = parse_input(path).find("FORCE_EVAL", "SUBSYS")
    try:
        cell = _cell(subsys.find("CELL"))
        pbc = _periodic(subsys.find("CELL").get("PERIODIC") or "XYZ")
        positions = _positions(subsys, cell, path.parent)
    except (ValueError, IndexError, KeyError) as error:
        raise FormatError(f"{path}: cannot read cell and coordinates ({error})") from None
    if np.abs(cell - output.cell).max() > CELL_DIGITS:
        raise FormatError(f"{path}: expected the cell that {output.path.name} prints, got another one")
    printed = output.positions
    same = positions is not None and positions.shape == printed.shape
    if not same or np.abs(positions - printed).max() > POSITION_DIGITS:
        positions = printed
    atoms = Atoms(output.numbers, positions=positions, cell=cell, pbc=pbc)
    check_structure(atoms, str(output.path))
    return atoms


def _cell(section: Section) -> np.ndarray:
    if section.get("CELL_FILE_NAME") is not None:
        raise ValueError("expected lattice vectors in the input, got CELL_FILE_NAME")
    lengths = section.get("ABC")
    if lengths is None:
        rows = [section.get(name) for name in "ABC"]
        if None in rows:
            raise ValueError("expected the lattice vectors A, B and C, or ABC")
        return np.array([_vector(row or "") for row in rows])
    angles = _vector(section.get("ALPHA_BETA_GAMMA") or "90 90 90", {"deg": 1.0})
    # As in CP2K, a is along x and b in the xy plane.
    return np.asarray(Cell.fromcellpar([*_vector(lengths), *angles]).array)


def _vector(text: str, units: dict[str, float] = UNITS) -> np.ndarray:
    """Read three numbers after an optional unit: `[bohr] 1 2 3`."""
    unit, words = 1.0, text.split()
    if words[0].startswith("["):
        unit, words = units[words[0].strip("[]").lower()], words[1:]
    vector = np.array([float(word) for word in words[:3]]) * unit
    if vector.shape != (3,):
        raise ValueError(f"expected three numbers, got {text!r}")
    return vector


def _periodic(text: str) -> list[bool]:
    return [axis in text.upper() and text.upper() != "NONE" for axis in "XYZ"]


def _positions(subsys: Section, cell: np.ndarray, folder: Path) -> np.ndarray | None:
    """Return the positions (N, 3) of &COORD or of an xyz file, None if they are elsewhere."""
    rows = subsys.find("COORD")
    if rows.keywords:
        fixed = ("UNIT", "SCALED")
        table = np.array([_vector(value) for name, value in rows.keywords if name not in fixed])
        if (rows.get("SCALED") or ("F" if rows.get("SCALED") is None else "T")).upper() in ("T", "TRUE", ".TRUE."):
            return table @ cell
        return table * UNITS[(rows.get("UNIT") or "angstrom").lower()]
    topology = subsys.find("TOPOLOGY")
    name = topology.get("COORD_FILE_NAME")
    if name is None or (topology.get("COORD_FILE_FORMAT") or "XYZ").upper() != "XYZ" or not (folder / name).is_file():
        return None
    lines = (folder / name).read_text(errors="replace").splitlines()
    return np.array([_vector(line.split(maxsplit=1)[1]) for line in lines[2 : 2 + int(lines[0])]])
