"""FHI-aims' folder and input: the structure in geometry.in, and the species and settings in control.in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.species import element_of

SPIN_ORBIT = ("include_spin_orbit", "calculate_perturbative_soc")
"""Settings with which aims adds spin-orbit coupling to H(k) after it has written H."""


WRITTEN = ("rs_hamiltonian", "rs_overlap", "rs_indices")
"""First words in the names of matrix files."""

SWITCH = "`output_rs_matrices plain` in control.in writes them"


def is_aims(path: Path) -> bool:
    """True for a folder with the files of a run that name its orbitals and matrix elements."""
    return path.is_dir() and all(
        (path / name).is_file() for name in ("geometry.in", "basis-indices.out", "rs_indices.out")
    )


def missing_in_aims(path: Path) -> str | None:
    """Return what the folder of a run of FHI-aims lacks, in one line; None for other folders."""
    if not path.is_dir() or is_aims(path):
        return None
    if not (path / "geometry.in").is_file():
        written = sorted(file.name for file in path.glob("rs_*") if file.name.startswith(WRITTEN))
        got = written or [name for name in ("basis-indices.out",) if (path / name).is_file()]
        return (
            f"{path}: expected geometry.in of the FHI-aims run beside {got[0]}, got none; copy it there"
            if got
            else None
        )
    names = ("basis-indices.out", "rs_indices.out")
    missing = " and ".join(name for name in names if not (path / name).is_file())
    return f"{path}: expected {missing} of the FHI-aims run, got none; {SWITCH}"


@dataclass(frozen=True)
class Species:
    """One species of control.in: its nuclear charge, and the radius (angstrom) where its confinement ends.

    Each is None where control.in does not say it.
    """

    nucleus: float | None = None
    radius: float | None = None


@dataclass(frozen=True)
class Control:
    """`settings`: the words after each keyword outside the species. `species` by name. Both are empty without the file."""

    path: Path
    exists: bool
    settings: Mapping[str, str]
    species: Mapping[str, Species]

    @property
    def charge(self) -> float | None:
        """The charge of the system; None without the file, 0 where it says nothing."""
        if not self.exists:
            return None
        value = self.settings.get("charge", "0").split()
        charge = _as_number(value[0]) if value else None
        if charge is None:
            raise FormatError(f"{self.path}: charge: expected a number, got {' '.join(value)!r}")
        return charge

    @property
    def has_spin_orbit(self) -> bool:
        """True if the run has spin-orbit coupling, which is not in the matrices."""
        return any(name.startswith(SPIN_ORBIT) and value != ".false." for name, value in self.settings.items())

    def element(self, label: str, where: str) -> int:
        """Return the atomic number of a species by its nucleus here, or by its name; `FormatError` where neither says it."""
        nucleus = self.species.get(label, Species()).nucleus
        if nucleus is None:
            number = atomic_numbers.get(label) or element_of(label)
            if number is None:
                raise FormatError(f"{where}: expected control.in beside it with `species {label}` and its nucleus, since "
                                  f"{label!r} names no element")  # fmt: skip
            return number
        if nucleus != round(nucleus) or not 0 < nucleus < 119:
            raise FormatError(f"{self.path}: species {label}: expected the nucleus of an element, got {nucleus:g}; ghosts and "
                              f"mixed atoms cannot be read")  # fmt: skip
        return round(nucleus)

    def radii(self) -> dict[int, float]:
        """Return the radius (angstrom) of each element where the confinement of all its species ends, if it is given."""
        radii: dict[int, float] = {}
        for label, species in self.species.items():
            if species.radius is not None:
                z = self.element(label, str(self.path))
                radii[z] = max(radii.get(z, 0.0), species.radius)
        return radii


def read_control(path: Path) -> Control:
    """Read control.in, or return an empty `Control` without the file."""
    settings: dict[str, str] = {}
    species: dict[str, Species] = {}
    name = None
    for first, *rest in _lines(path):
        if first == "species" and rest:
            name = rest[0]
            species[name] = Species()
        elif first == "nucleus" and name is not None and rest:
            species[name] = Species(_nucleus(rest[0]), species[name].radius)
        elif first == "cut_pot" and name is not None and len(rest) > 1:
            species[name] = Species(species[name].nucleus, _radius(*map(_as_number, rest[:2])))
        else:
            settings.setdefault(first, " ".join(rest))
    return Control(path, path.is_file(), settings, species)


def _nucleus(word: str) -> float | None:
    """Return the charge; aims takes a number, some generators write the element."""
    return _as_number(word) if _as_number(word) is not None else atomic_numbers.get(word)


def _radius(onset: float | None, width: float | None) -> float | None:
    return onset + width if onset is not None and width is not None and 0 < onset + width < 50 else None


def read_geometry(path: Path, control: Control) -> Atoms:
    """Read geometry.in: a crystal with three lattice vectors, or a molecule with none.

    Raises `FormatError` for another file, for ghost atoms, and for species that no element can be given to;
    `StructureError` for a structure without meaning.
    """
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    cell: list[list[float]] = []
    atoms: list[tuple[str, bool, list[float]]] = []
    for first, *rest in _lines(path):
        if first == "lattice_vector":
            cell.append(_vector(path, first, rest))
        elif first in ("atom", "atom_frac"):
            if len(rest) < 4:
                raise FormatError(f"{path}: {first}: expected three coordinates and a species, got {' '.join(rest)!r}")
            atoms.append((rest[3], first == "atom_frac", _vector(path, first, rest)))
        elif first == "empty":
            raise FormatError(
                f"{path}: expected atoms with nuclei, got `empty` sites, whose orbitals belong to no element"
            )
    if not atoms or len(cell) not in (0, 3):
        raise FormatError(f"{path}: expected a geometry of FHI-aims with atoms and three lattice vectors or none, got "
                          f"{len(atoms)} atoms and {len(cell)} vectors")  # fmt: skip
    labels, fractional, positions = zip(*atoms)
    kinds = {label: control.element(label, str(path)) for label in dict.fromkeys(labels)}
    if any(fractional) and not cell:
        raise FormatError(f"{path}: atom_frac: expected lattice vectors, got none")
    x, vectors = np.array(positions), np.array(cell).reshape(-1, 3)
    if cell:
        x = np.where(np.array(fractional)[:, None], x @ vectors, x)
    structure = Atoms([kinds[label] for label in labels], x, cell=vectors if cell else None, pbc=bool(cell))
    check_structure(structure, str(path))
    return structure


def _vector(path: Path, keyword: str, words: list[str]) -> list[float]:
    values = [_as_number(word) for word in words[:3]]
    numbers = [value for value in values if value is not None]
    if len(numbers) != 3:
        raise FormatError(f"{path}: {keyword}: expected three numbers, got {' '.join(words[:3])!r}")
    return numbers


def _lines(path: Path) -> Iterator[list[str]]:
    """Yield the words of each line without comments; nothing if there is no file."""
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            words = line.split("#")[0].split()
            if words:
                yield words


def _as_number(word: str) -> float | None:
    """Return the number; Fortran also writes 1.0d0."""
    try:
        return float(re.sub("[dD]", "e", word))
    except ValueError:
        return None
