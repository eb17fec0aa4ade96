"""Read CP2K's output of a single-point calculation: atoms, basis sets, images, energies, convergence."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from ase.data import chemical_symbols

from harmose.core.basis import LETTERS, Shell, n_orbitals
from harmose.errors import FormatError
from harmose.io.cp2k.basis_data import counted_shells
from harmose.units import BOHR, HARTREE

TITLE = "CP2K| version string:"
"""Text in the first lines of every output."""

START = "PROGRAM STARTED AT"

HEAD = 1 << 16
"""Number of bytes in which the title is searched."""

UNNORMALISED = 5.0
"""Factor of the radius estimate. CP2K cuts orbitals before it normalizes them, but prints normalized ones.

Before normalization boron's 3d is 2.5 times as large.
"""

NUMBER = r"[-+]?\d+\.?\d*(?:[Ee][-+]?\d+)?"


@dataclass(frozen=True)
class Orbitals:
    """Basis set of an atomic kind: name, shells in CP2K's order, and radius (angstrom) at which its orbitals end."""

    name: str
    shells: tuple[Shell, ...]
    radius: float


@dataclass(frozen=True, eq=False)
class Output:
    """A finished, converged single point. Energies in eV; `fermi_level` is None without smearing.

    `positions` (N, 3) and `cell` (3, 3) in angstrom are rounded as CP2K prints them, to six and three digits.
    """

    path: Path
    version: str
    project: str
    input_name: str
    n_spins: int
    cell: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    kind_of_atom: np.ndarray
    """Number (N,) of the atomic kind of each atom, from 1."""
    orbitals: Mapping[int, Orbitals]
    """Basis set of each atomic kind."""
    images: Mapping[str, np.ndarray]
    """R (n, 3) of the files `R_1`, `R_2`, ... for "KS" and for "S"; empty without k-points."""
    n_electrons: float
    fermi_level: float | None
    energy: float
    kmesh: tuple[int, int, int] | None
    cycles: int
    valence: Mapping[int, float]
    """Valence electrons of each atomic kind, of those whose potential is printed."""


def is_output(path: Path) -> bool:
    """True if the file begins like an output of CP2K."""
    try:
        with open(path, "rb") as file:
            return TITLE.encode() in file.read(HEAD)
    except OSError:
        return False


def failure(text: str) -> str | None:
    """Return why the last calculation of an output failed, in one line; None if it converged."""
    text = _last_run(text)
    reason = _abort_reason(text)
    if reason is not None:
        return f"CP2K stopped: {reason}"
    if "PROGRAM ENDED AT" not in text:
        return "CP2K's output breaks off"
    if "SCF run NOT converged" in text or "SCF run converged" not in text:
        return "the SCF is not converged"
    return None


def _last_run(text: str) -> str:
    """Return the text of the last run, because CP2K appends to an existing output."""
    return text[max(text.rfind(START), 0) :]


def _abort_reason(text: str) -> str | None:
    """Return the text in the [ABORT] box of an output, without its drawing and its place in the source; None if absent."""
    box = re.search(r"^ \* *\[ABORT\] *\*\n((?: \*.*\n)+)", text, re.MULTILINE)
    if box is None:
        return None
    words = [word for line in box[1].splitlines() for word in line[10:].rstrip("* ").split()]
    return " ".join(word for word in words if not re.fullmatch(r"\S+\.F:\d+", word))


def read_output(path: Path) -> Output:
    """Read an output.

    `FormatError` for another kind of file, a run that did not end or converge or is no single point, and a
    `PRINT_LEVEL` below MEDIUM.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    if TITLE not in text[:HEAD]:
        raise FormatError(f"{path}: expected an output of CP2K, got something else")
    text = _last_run(text)
    _check_finished(path, text)
    numbers, positions, kind_of_atom = _atoms(path, text)
    n_spins = int(_first(r"DFT\| Number of spin states +(\d+)", text) or _missing(path, "the number of spin states"))
    return Output(
        path=path,
        version=(_first(r"CP2K\| version string: +(?:CP2K version )?(.+)", text) or "unknown").strip(),
        project=(_first(r"GLOBAL\| Project name +(\S+)", text) or _missing(path, "the project's name")),
        input_name=(_first(r"CP2K\| Input file name +(\S.*?) *$", text) or _missing(path, "the name of the input")),
        n_spins=n_spins,
        cell=_cell(path, text),
        numbers=numbers,
        positions=positions,
        kind_of_atom=kind_of_atom,
        orbitals=_orbitals(path, text, set(kind_of_atom.tolist())),
        images={prefix: images for prefix in ("KS", "S") if (images := _images(path, text, prefix)) is not None},
        n_electrons=_electrons(path, text, n_spins),
        fermi_level=_scaled(_last(rf"^ +Fermi energy: +({NUMBER})", text)),
        energy=float(_last(rf"ENERGY\| Total FORCE_EVAL.*: +({NUMBER})", text) or _missing(path, "the energy"))
        * HARTREE,
        kmesh=_mesh(text),
        cycles=int(_last(r"SCF run converged in +(\d+) steps", text) or 0),
        valence=_valence(text),
    )


def _check_finished(path: Path, text: str) -> None:
    reason = failure(text)
    if reason is not None:
        raise FormatError(f"{path}: expected a finished, converged calculation; {reason}")
    kind = _first(r"GLOBAL\| Run type +(\S+)", text)
    if kind not in ("ENERGY", "ENERGY_FORCE"):
        raise FormatError(f"{path}: expected a single point (RUN_TYPE ENERGY), got RUN_TYPE {kind}")


def _missing(path: Path, what: str) -> NoReturn:
    raise FormatError(f"{path}: expected {what} in CP2K's output, found none (PRINT_LEVEL MEDIUM prints it)")


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text, re.MULTILINE)
    return found[-1] if found else None


def _scaled(hartree: str | None) -> float | None:
    return None if hartree is None else float(hartree) * HARTREE


def _cell(path: Path, text: str) -> np.ndarray:
    rows = re.findall(rf"^ CELL\| Vector ([abc]) \[angstrom\]: +({NUMBER}) +({NUMBER}) +({NUMBER})", text, re.MULTILINE)
    if [row[0] for row in rows[:3]] != ["a", "b", "c"]:
        _missing(path, "the cell")
    return np.array([row[1:] for row in rows[:3]], dtype=np.float64)


def _atoms(path: Path, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return atomic numbers (N,), positions (N, 3), and the number of the kind of each atom (N,)."""
    table = re.search(
        r"^ MODULE QUICKSTEP: +ATOMIC COORDINATES IN ANGSTROM\n\s*\n? *Atom +Kind +Element.*\n\s*?((?: +\d+ +\d+ .*\n)+)",
        text,
        re.MULTILINE | re.IGNORECASE,
    )
    if table is None:
        _missing(path, "the atomic coordinates")
    rows = [line.split() for line in table[1].splitlines()]
    try:
        kinds = np.array([row[1] for row in rows], dtype=np.int64)
        numbers = np.array([row[3] for row in rows], dtype=np.int64)
        positions = np.array([row[4:7] for row in rows], dtype=np.float64)
    except (ValueError, IndexError, OverflowError):
        raise FormatError(f"{path}: cannot read the table of atomic coordinates") from None
    if not ((numbers > 0) & (numbers < len(chemical_symbols))).all():
        raise FormatError(
            f"{path}: expected chemical elements in the table of atomic coordinates, got ghosts or others"
        )
    return numbers, positions, kinds


def _electrons(path: Path, text: str, n_spins: int) -> float:
    counts = re.findall(r"^ ?Number of electrons: +(\d+)", text, re.MULTILINE)[:n_spins]
    if len(counts) != n_spins:
        _missing(path, "the number of electrons")
    return float(sum(map(int, counts)))


def _mesh(text: str) -> tuple[int, int, int] | None:
    found = re.search(r"BRILLOUIN\| K-Point grid +(\d+) +(\d+) +(\d+)", text, re.IGNORECASE)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _images(path: Path, text: str, prefix: str) -> np.ndarray | None:
    """Return R (n, 3) in the order of the files. The printed file numbers are not used, because they overflow beyond 999.

    `FormatError` unless the list is complete: each R once, and with its negative.
    """
    head = re.search(
        rf"^ +{prefix} CSR write\| *(\S+) *periodic images\n +Number.*\n((?: +\S+(?: +-?\d{{1,4}}){{3}}\n)+)",
        text,
        re.M,
    )
    if head is None:
        return None
    images = np.array([line.split()[-3:] for line in head[2].splitlines()], dtype=np.int64)
    cells = set(map(tuple, images.tolist()))
    announced = head[1] == str(len(images)) or "*" in head[1]
    if not announced or len(cells) != len(images) or cells != set(map(tuple, (-images).tolist())):
        raise FormatError(f"{path}: expected {head[1]} periodic images of {prefix}, each R with -R, got a damaged list")
    return images


# Basis sets ----------------------------------------------------------------------------------------------------------


def _orbitals(path: Path, text: str, kinds: set[int]) -> dict[int, Orbitals]:
    """Return the basis set of each kind."""
    precision = float(_last(rf"eps_pgf_orb: +({NUMBER})", text) or 1e-5)
    sections = _kind_sections(text)
    orbitals = {index: _kind_orbitals(path, section, precision) for index, section in sections if index in kinds}
    if set(orbitals) != kinds:
        _missing(path, "the basis set of each element")
    return orbitals


def _kind_sections(text: str) -> Iterator[tuple[int, str]]:
    """Yield the index of each kind and its text from "Orbital Basis Set" on, below ATOMIC KIND INFORMATION."""
    for index, part in _kinds(text):
        _, _, orbital = part.partition("Orbital Basis Set")
        yield index, re.split(r"Basis Set|Atomic covalent radius|Potential information", orbital)[0]


def _kinds(text: str) -> Iterator[tuple[int, str]]:
    """Yield the index of each kind and all of its text."""
    start = text.find("ATOMIC KIND INFORMATION")
    end = text.find("TOTAL NUMBERS AND MAXIMUM NUMBERS", start)
    parts = re.split(r"^ +(\d+)\. Atomic kind:", text[start:end] if start >= 0 else "", flags=re.MULTILINE)
    yield from zip(map(int, parts[1::2]), parts[2::2])


def _valence(text: str) -> dict[int, float]:
    """Return the electrons of the GTH potential of each kind that has one."""
    electrons = {}
    for index, part in _kinds(text):
        found = _first(r"Electronic configuration \(s p d \.\.\.\): +(\d+(?: +\d+)*) *$", part)
        if found is not None:
            electrons[index] = float(sum(map(int, found.split())))
    return electrons


def _kind_orbitals(path: Path, section: str, precision: float) -> Orbitals:
    """Read a kind. For each Cartesian orbital a row `set shell orbital exponent coefficient`, then `exponent coefficient`."""
    printed: dict[tuple[str, str], tuple[int, int]] = {}
    radius, l = 0.0, 0
    for line in section.splitlines():
        words = line.split()
        head = re.fullmatch(rf"(\d+)([{LETTERS}])\S*", words[2]) if len(words) == 5 else None
        if head is not None:
            l = LETTERS.index(head[2])
            printed.setdefault((words[0], words[1]), (int(head[1]), l))
        elif len(words) != 2 or not printed:
            continue
        if re.fullmatch(NUMBER, words[-2]) and re.fullmatch(
            NUMBER, words[-1]
        ):  # stars replace a number that is too long
            radius = max(radius, _reach(l, float(words[-2]), UNNORMALISED * abs(float(words[-1])), precision))
    count = _first(r"Number of spherical basis functions: +(\d+)", section)
    if not printed or count is None or n_orbitals(l for _, l in printed.values()) != int(count):
        _missing(path, "the orbitals of each atomic kind")
    name = section.split()[0]
    return Orbitals(name, counted_shells(printed.values()), float(np.ceil(radius * BOHR * 100) / 100))


def _reach(l: int, exponent: float, coefficient: float, precision: float) -> float:
    """Return r (Bohr) with c r^l exp(-a r^2) = precision beyond the maximum; 0 if the function is smaller everywhere."""
    if not (0 < exponent < 1e12 and 0 < coefficient < 1e12 and precision > 0):
        return 0.0
    height = np.log(coefficient / precision)
    r = np.sqrt(max(height, 1.0) / exponent)
    for _ in range(60):
        r = np.sqrt(max(height + l * np.log(max(r, 1e-12)), 0.0) / exponent)
    return float(r)
