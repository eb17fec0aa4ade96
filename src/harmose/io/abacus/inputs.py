"""ABACUS's input files `INPUT` and `STRU`: what the log of a run does not say.

INPUT    one parameter a line: name, value, # comment
STRU     ATOMIC_SPECIES      label, mass, pseudopotential file of each species
         NUMERICAL_ORBITAL   orbital file of each species, such as C_gga_8au_100Ry_2s2p1d.orb
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harmose.units import BOHR

SECTIONS = re.compile(r"[A-Z][A-Z_]{5,}")
"""Headings of `STRU`: ATOMIC_SPECIES, NUMERICAL_ORBITAL, LATTICE_CONSTANT, ..."""


@dataclass(frozen=True)
class Stru:
    """Species of a `STRU` in their order: labels, names of pseudopotential files, names of orbital files; may be empty."""

    labels: tuple[str, ...] = ()
    pseudopotentials: tuple[str, ...] = ()
    orbitals: tuple[str, ...] = ()


def read_parameters(folder: Path) -> dict[str, str]:
    """Return the parameters of the `INPUT` in an output folder, or else above it; none if there is no such file."""
    for path in (folder / "INPUT", folder.parent / "INPUT"):
        if path.is_file():
            lines = (_without_comment(line).split() for line in path.read_text(errors="replace").splitlines())
            return {words[0].lower(): words[1] for words in lines if len(words) > 1}
    return {}


def read_stru(folder: Path) -> Stru:
    """Read the `STRU`, or the file that `INPUT` names instead, above or in an output folder; empty if there is none."""
    name = Path(read_parameters(folder).get("stru_file", "STRU")).name
    path = next((place / name for place in (folder.parent, folder) if (place / name).is_file()), None)
    if path is None:
        return Stru()
    sections: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in path.read_text(errors="replace").splitlines():
        words = _without_comment(line).split()
        if len(words) == 1 and SECTIONS.fullmatch(words[0]):
            rows = sections.setdefault(words[0], [])
        elif words:
            rows.append(words)
    species = [row for row in sections.get("ATOMIC_SPECIES", []) if len(row) > 1]
    return Stru(
        tuple(row[0] for row in species),
        tuple(row[2] if len(row) > 2 else "" for row in species),
        tuple(row[0] for row in sections.get("NUMERICAL_ORBITAL", [])),
    )


def _without_comment(line: str) -> str:
    return re.split(r"#|//", line, maxsplit=1)[0]


def orbital_reaches(stru: Stru, labels: Sequence[str]) -> dict[str, float]:
    """Return the orbital radius (angstrom) of each label, read from the names of its orbital file (..._8au_...).

    The result is empty if there is no file for each species, or a name without radius.
    """
    radii = [re.search(r"_(\d+(?:\.\d+)?)au_", name) for name in stru.orbitals[: len(labels)]]
    if len(radii) < len(labels) or None in radii:
        return {}
    return {label: float(radius[1]) * BOHR for label, radius in zip(labels, radii) if radius is not None}
