"""Species of a calculation: labels such as Fe_up or C1, and the sets of orbitals of each element."""

import re
from collections.abc import Sequence

from ase.data import atomic_numbers

from harmose.core.basis import BasisSet, Shell, n_orbitals
from harmose.core.species import MOST_SETS, species_number, symbol_of
from harmose.errors import BasisError

GHOST = re.compile(r"ghost|empty|dummy|vacan", re.IGNORECASE)
"""Words in the labels of orbitals without a nucleus."""


def element_of(label: str) -> int | None:
    """Return the atomic number of a label such as Fe, fe_up or C1; None where the label does not say it for certain.

    The element is the whole of the first letters, up to a digit or a sign, so Car, bulkC and, since it may be carbon or
    calcium, CA are not certain. Labels of ghosts have no element.
    """
    letters = (re.match(r"[A-Za-z]*", label) or [""])[0]
    if is_ghost(label) or letters not in (letters.capitalize(), letters.lower()):
        return None
    return atomic_numbers.get(letters.capitalize()) or None


def element_of_file(name: str) -> int | None:
    """Return the atomic number in the name of a pseudopotential or basis file, C_ONCV_PBE-1.0.upf; None if it has none."""
    letters = (re.match(r"[A-Za-z]*", name.strip().rpartition("/")[2]) or [""])[0]
    return atomic_numbers.get(letters.capitalize()) or None if len(letters) <= 2 else None


def is_ghost(label: str) -> bool:
    """True for the label of orbitals without a nucleus, such as H_empty or O_ghost."""
    return GHOST.search(label) is not None


def number_species(kinds: Sequence[tuple[int, tuple[Shell, ...]]], basis: BasisSet | None, where: str) -> list[int]:
    """Return the species (`core.species`) of each kind of atoms, (atomic number, shells).

    Kinds of one element with the same shells are one species. Without `basis` the sets of orbitals of an element are numbered
    from the largest to the smallest; otherwise as in `basis`. `BasisError` that begins with `where` for shells that it lacks.
    """
    if basis is not None:
        return [species_in_basis(basis, element, shells, where) for element, shells in kinds]
    sets: dict[int, list[tuple[Shell, ...]]] = {}
    for element, shells in dict.fromkeys(kinds):
        sets.setdefault(element, []).append(shells)
    numbers = {}
    for element, different in sets.items():
        if len(different) > MOST_SETS:
            raise BasisError(f"{where}: expected at most {MOST_SETS} sets of orbitals of {symbol_of(element)}, got "
                             f"{len(different)}")  # fmt: skip
        ordered = sorted(different, key=lambda shells: (-n_orbitals(shells), shells))
        numbers |= {(element, shells): species_number(element, k) for k, shells in enumerate(ordered)}
    return [numbers[kind] for kind in kinds]


def species_in_basis(basis: BasisSet, element: int, shells: tuple[Shell, ...], where: str) -> int:
    """Return the species of an element whose shells in `basis` are these; `BasisError` that begins with `where` if none is."""
    for z in basis.sets_of(element):
        if basis.shells[z] == shells:
            return z
    known = " or ".join(" ".join(map(str, basis.shells[z])) for z in basis.sets_of(element)) or "none"
    raise BasisError(f"{where}: expected {symbol_of(element)} with the shells of basis {basis.name} ({known}), got "
                     f"{' '.join(map(str, shells))}")  # fmt: skip
