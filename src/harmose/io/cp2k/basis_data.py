"""Read basis sets and pseudopotentials from CP2K's data files.

A basis file has this entry for each element and name:

     C  DZVP-MOLOPT-SR-GTH DZVP-MOLOPT-SR-GTH-q4        element, name, other names
     1                                                  number of sets
     2 0 2 5 2 2 1                                      n, lowest l, highest l, primitives, shells of each l
     5.605330751705  0.111532881900 ...                 exponent, one coefficient for each shell

A potential file has the line `C GTH-PBE-q4 GTH-PBE`, followed by the numbers of valence electrons in s, p, d, ...
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ase.data import chemical_symbols

from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError, FormatError

BASIS_FILES = ("BASIS_MOLOPT", "BASIS_MOLOPT_UZH", "GTH_BASIS_SETS", "BASIS_SET", "BASIS_ZIJLSTRA", "BASIS_pob")
POTENTIAL_FILES = ("GTH_POTENTIALS", "POTENTIAL_UZH", "POTENTIAL")
"""Files in which names are looked up, in this order."""

LONGEST = 500
"""Maximum number of lines of an entry."""


@dataclass(frozen=True)
class Kind:
    """Basis set and pseudopotential of an element: their names, and the files in which CP2K finds them."""

    basis: str
    basis_file: str
    shells: tuple[Shell, ...]
    potential: str
    potential_file: str
    n_electrons: int


def find_kinds(elements: Iterable[int], basis: str, potential: str, folder: Path) -> dict[int, Kind]:
    """Find basis set and potential of each element in CP2K's data `folder`.

    If the basis set is made for a number of electrons (`...-q4`), the potential has the same number. All potentials come
    from one file, because CP2K reads one only. `BasisError` for an element without basis set or potential, `FormatError`
    for a folder without data files.
    """
    symbols = {int(z): chemical_symbols[int(z)] for z in elements}
    files = _texts(folder, BASIS_FILES)
    bases = {z: _find_basis(files, symbol, basis, folder) for z, symbol in symbols.items()}
    wanted = {z: _potential_names(potential, names) for z, (names, _, _) in bases.items()}
    kinds, missing = {}, ""
    for file, text in _texts(folder, POTENTIAL_FILES).items():
        electrons = {z: _find_potential(text, symbols[z], wanted[z]) for z in symbols}
        if all(electrons.values()):
            for z, (names, basis_file, shells) in bases.items():
                name, count = electrons[z]  # type: ignore[misc]
                kinds[z] = Kind(names[-1], basis_file, shells, name, file, count)
            return kinds
        missing = missing or next(symbols[z] for z in symbols if not electrons[z])
    raise BasisError(f"potential {potential}: CP2K has none for {missing} in {', '.join(POTENTIAL_FILES)} of {folder}")


def basis_set(name: str, kinds: Mapping[int, Kind], pair_cutoff: float) -> BasisSet:
    """Return the shells of all elements. Each radius is half the pair cutoff (angstrom)."""
    return BasisSet(name, {z: kind.shells for z, kind in kinds.items()}, dict.fromkeys(kinds, pair_cutoff / 2))


def counted_shells(printed: Iterable[tuple[int, int]]) -> tuple[Shell, ...]:
    """Renumber CP2K's shells (n, l): for each l, n counts upward from the lowest n of all shells, or from l + 1.

    C 2s 3s 3p 4p 4d becomes 2s 3s 2p 3p 3d.
    """
    printed = list(printed)
    first = min(n for n, _ in printed)
    shells: list[Shell] = []
    for _, l in printed:
        shells.append(Shell(max(first, l + 1) + sum(s.l == l for s in shells), l))
    return tuple(shells)


def _texts(folder: Path, names: Iterable[str]) -> dict[str, str]:
    texts = {name: (folder / name).read_text(errors="replace") for name in names if (folder / name).is_file()}
    if not texts:
        raise FormatError(f"{folder}: expected CP2K's data files ({', '.join(names)}), got none of them")
    return texts


def _entries(text: str, symbol: str, name: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the names and the following lines of each entry of the element with this name."""
    for head in re.finditer(rf"^[ \t]*{symbol}[ \t]+(\S.*)$", text, re.MULTILINE | re.IGNORECASE):
        names = head[1].split("#")[0].split()
        if name.upper() in (n.upper() for n in names):
            rest = (line.split("#")[0].strip() for line in text[head.end() :].splitlines())
            yield names, list(islice(filter(None, rest), LONGEST))


def _find_basis(
    files: Mapping[str, str], symbol: str, name: str, folder: Path
) -> tuple[list[str], str, tuple[Shell, ...]]:
    for file, text in files.items():
        for names, lines in _entries(text, symbol, name):
            try:
                return names, file, _shells(lines)
            except (ValueError, IndexError):
                raise FormatError(f"{folder / file}: cannot read the basis set {name} of {symbol}") from None
    raise BasisError(f"basis {name}: CP2K has no {name} for {symbol} in {', '.join(files)} of {folder}")


def _shells(lines: list[str]) -> tuple[Shell, ...]:
    printed, at = [], 1
    for _ in range(int(lines[0])):
        n, lowest, highest, n_primitives, *counts = map(int, lines[at].split())
        for l, count in zip(range(lowest, highest + 1), counts, strict=True):
            printed += [(n + l - lowest + k, l) for k in range(count)]
        at += 1 + n_primitives
    return counted_shells(printed)


def _potential_names(potential: str, basis_names: list[str]) -> list[str]:
    """Return the potential's name with the number of electrons of the basis set; unchanged if it already has a number."""
    numbers = {number[0] for name in basis_names if (number := re.search(r"-q\d+$", name))}
    if re.search(r"-Q\d+$", potential.upper()) or not numbers:
        return [potential]
    return [potential + number for number in sorted(numbers)]


def _find_potential(text: str, symbol: str, wanted: list[str]) -> tuple[str, int] | None:
    for name in wanted:
        for names, lines in _entries(text, symbol, name):
            if all(word.isdigit() for word in lines[0].split()):
                return names[0], sum(map(int, lines[0].split()))
    return None
