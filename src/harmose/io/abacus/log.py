"""ABACUS's log `running_scf.log`, with `STRU.cif`: structure, species, reach of orbitals, energies, convergence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import cellpar_to_cell
from scipy.linalg import orthogonal_procrustes

from harmose.core.basis import LETTERS, Shell
from harmose.errors import FormatError
from harmose.io.abacus.inputs import read_stru
from harmose.io.species import element_of, element_of_file, is_ghost
from harmose.units import BOHR

NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"

LOGS = ("running_scf.log", "running_nscf.log")
"""Logs of runs of one geometry."""

OVERLAP_LOGS = ("running_get_s.log", "running_get_S.log")
"""Logs of `calculation get_s`, which computes the overlap only."""

CONVERGED = r"(charge density convergence is achieved|#SCF IS CONVERGED#)"
NOT_CONVERGED = r"convergence has NOT been achieved|SCF IS NOT CONVERGED"


@dataclass(frozen=True)
class Species:
    """One species of the input: label, atomic number, shells, number of atoms, and valence electrons (None: not said)."""

    label: str
    number: int
    shells: tuple[Shell, ...]
    count: int
    valence: float | None = None

    @property
    def n_orbitals(self) -> int:
        return sum(shell.n_orbitals for shell in self.shells)


@dataclass(frozen=True)
class Log:
    """Content of a log. `orbital_reach` and `projector_reach` (angstrom) are the largest of all species; energies in eV.

    What the log does not say is None. `n_electrons` is the number for neutral atoms.
    """

    structure: Atoms
    species: tuple[Species, ...]
    n_spin: int | None
    orbital_reach: float | None
    projector_reach: float | None
    n_electrons: float | None
    fermi_level: float | None
    energy: float | None
    version: str | None
    converged: bool | None


def read_log(folder: Path, names: Sequence[str] = LOGS) -> Log:
    """Read the log of a run of one geometry in its folder `OUT.*`. `names` are those that it may have.

    `FormatError` for a log that is missing, damaged or of a trajectory, for ghosts, and for labels that name no element.
    """
    path = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    if not path.is_file():
        others = sorted(p.name for p in folder.glob("running_*.log"))
        raise FormatError(
            f"{path}: expected the log of a single-point run of ABACUS, got {', '.join(others[:3]) or 'none'} "
            "(calculation scf)"
        )
    text = path.read_text(errors="replace")
    species = _species(path, text)
    orbitals = _last(text, rf"longest orb rcut \(Bohr\)\s*=\s*({NUMBER})")
    projectors = _last(text, rf"longest nonlocal projector rcut \(Bohr\)\s*=\s*({NUMBER})")
    return Log(
        structure=_structure(path, text, species),
        species=species,
        n_spin=None if (n_spin := _last(text, r"\bNSPIN\s*=+\s*(\d)")) is None else int(n_spin),
        orbital_reach=None if orbitals is None else orbitals * BOHR,
        projector_reach=None if projectors is None else projectors * BOHR,
        n_electrons=_last(text, rf"AUTOSET (?:the )?number of electrons\s*:?\s*=\s*({NUMBER})"),
        fermi_level=_fermi_level(text),
        energy=_last(text, rf"FINAL[ _]ETOT[ _]IS\s*({NUMBER})\s*eV"),
        version=found[1] if (found := re.search(r"ABACUS\s+v?(\d[\w.]*)", text)) else None,
        converged=_converged(text),
    )


def _fermi_level(text: str) -> float | None:
    """Return the Fermi level (eV): up to 3.10 `EFERMI = 5.1 eV`, later the last row `E_Fermi  Ry  eV`, of the last cycle."""
    level = _last(text, rf"EFERMI\s*=\s*({NUMBER})\s*eV")
    return level if level is not None else _last(text, rf"^\s*E_Fermi\s+{NUMBER}\s+({NUMBER})\s*$")


def _converged(text: str) -> bool | None:
    """Return whether the last self-consistency converged; None if the log does not say."""
    found = re.findall(f"{CONVERGED}|{NOT_CONVERGED}", text, re.IGNORECASE)
    return bool(found[-1]) if found else None


def _last(text: str, pattern: str) -> float | None:
    """Return the last number that the pattern matches."""
    found = re.findall(pattern, text, re.IGNORECASE | re.MULTILINE)
    return float(found[-1]) if found else None


def _species(path: Path, text: str) -> tuple[Species, ...]:
    """Read the section below each "READING ATOM TYPE"."""
    species = []
    parts = text.split("READING ATOM TYPE")[1:]
    elements = _elements(path, text, [_label(path, part) for part in parts])
    for element, part in zip(elements, parts):
        label = _label(path, part)
        zetas = re.findall(r"L=(\d{1,3}),?\s*number of zeta\s*=\s*(\d{1,3})", part, re.IGNORECASE)
        count = re.search(r"number of atoms? for this type\s*=\s*(\d{1,9})", part, re.IGNORECASE)
        if not zetas or count is None:
            raise FormatError(f"{path}: expected numbers of zeta and of atoms of each species, got a log without")
        shells = tuple(Shell(int(l) + 1 + k, int(l)) for l, n in zetas for k in range(int(n)))
        if max((shell.l for shell in shells), default=len(LETTERS)) >= len(LETTERS):
            raise FormatError(f"{path}: expected shells up to l = {len(LETTERS) - 1} for {label}, got {zetas}")
        valence = _last(text, rf"^ *electron number of element {re.escape(label)}\s*=\s*({NUMBER})")
        species.append(Species(label, element, shells, int(count[1]), valence))
    if not species:
        raise FormatError(f"{path}: expected a log of ABACUS with the species of its atoms, got another file")
    return tuple(species)


def _label(path: Path, part: str) -> str:
    label = re.search(r"atom label\s*=\s*(\S+)", part, re.IGNORECASE)
    if label is None:
        raise FormatError(f"{path}: expected the label of each species, got a log without")
    return label[1]


def _elements(path: Path, text: str, labels: Sequence[str]) -> list[int]:
    """Return the atomic number of each species: that of its pseudopotential, since labels are free, or else of its label."""
    ghost = next((label for label in labels if is_ghost(label)), None)
    if ghost is not None:
        raise FormatError(f"{path}: expected atoms with nuclei, got a ghost: {ghost!r} has orbitals and no ion")
    files = _pseudopotentials(path, text, labels)
    elements = []
    for label, file in zip(labels, files):
        element = element_of_file(file) or element_of(label)
        if element is None:
            raise FormatError(
                f"{path}: expected labels of atoms that are elements, such as C or C1, got {label!r}; "
                "keep the run's STRU, whose pseudopotentials name the elements"
            )
        elements.append(element)
    return elements


def _pseudopotentials(path: Path, text: str, labels: Sequence[str]) -> list[str]:
    """Return the name of the pseudopotential file of each species, from the log or else from STRU; "" where neither says."""
    found = re.findall(r"(?:read in pseudopotential file is|pseudopotential file\s*=)\s*(\S+)", text, re.IGNORECASE)
    if len(found) >= len(labels):
        return found[: len(labels)]
    stru = read_stru(path.parent)
    if len(stru.labels) == len(labels):
        return list(stru.pseudopotentials)
    of_label = dict(zip(stru.labels, stru.pseudopotentials))
    return [of_label.get(label, "") for label in labels]


def _structure(path: Path, text: str, species: tuple[Species, ...]) -> Atoms:
    constant = _last(text, rf"UNIT =\s*({NUMBER}) Bohr") or _last(text, rf"lattice constant \(Bohr\)\s*=\s*({NUMBER})")
    lines = text.splitlines()
    n_atoms = sum(kind.count for kind in species)
    if not 0 < n_atoms < len(lines):
        raise FormatError(f"{path}: expected the coordinates of {n_atoms} atoms, got a log of {len(lines)} lines")
    numbers = np.repeat([kind.number for kind in species], [kind.count for kind in species])
    heading, places = _table(path, lines, r"\s*(DIRECT|CARTESIAN) COORDINATES", skip=1, n_rows=len(numbers), first=1)
    _, vectors = _table(path, lines, r"\s*Lattice vectors: \(Cartesian coordinate", skip=0, n_rows=3, first=0)
    if constant is None:
        raise FormatError(f"{path}: expected a lattice constant, got a log without")
    cell = _refined(path.with_name("STRU.cif"), vectors * constant * BOHR)
    positions = places @ cell if "DIRECT" in heading.upper() else places * constant * BOHR
    return Atoms(numbers, positions=positions, cell=cell, pbc=True)


def _table(path: Path, lines: list[str], heading: str, skip: int, n_rows: int, first: int) -> tuple[str, np.ndarray]:
    """Return the first line that matches `heading`, and columns `first` to `first + 2` of `n_rows` lines below it.

    `skip` lines between them are passed over.
    """
    for k, line in enumerate(lines):
        if re.match(heading, line, re.IGNORECASE):
            rows = [row.split()[first : first + 3] for row in lines[k + 1 + skip : k + 1 + skip + n_rows]]
            try:
                return line, np.array(rows, dtype=float).reshape(n_rows, 3)
            except ValueError:
                raise FormatError(f"{path}: expected {n_rows} rows of three numbers below {line.strip()[:50]!r}, got "
                                  f"others") from None  # fmt: skip
    raise FormatError(f"{path}: expected coordinates and lattice vectors, got a log without")


def _refined(path: Path, rounded: np.ndarray) -> np.ndarray:
    """Return the cell (3, 3) of `STRU.cif`, rotated to match `rounded`, which has six digits.

    Return `rounded` if there is no such file.
    """
    if not path.is_file():
        return rounded
    text = path.read_text(errors="replace")
    names = [f"length_{x}" for x in "abc"] + [f"angle_{x}" for x in ("alpha", "beta", "gamma")]
    parameters = [_last(text, rf"_cell_{name}\s+({NUMBER})") for name in names]
    if None in parameters:
        return rounded
    try:
        cell = cellpar_to_cell(parameters)
    except (AssertionError, ValueError, ZeroDivisionError):
        return rounded
    if not np.isfinite(cell).all():
        return rounded
    turn, _ = orthogonal_procrustes(cell, rounded)
    turned = cell @ turn
    # A different cell means that the file belongs to another run.
    return turned if np.abs(turned - rounded).max() < 1e-4 * np.abs(rounded).max() else rounded
