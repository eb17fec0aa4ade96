"""Species of a calculation: labels such as Fe_up or C1, and the shells of each element."""

import re
from collections.abc import Iterable

from ase.data import atomic_numbers

from harmose.core.basis import Shell
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


def shells_of_elements(
    species: Iterable[tuple[int, str, tuple[Shell, ...]]], where: str
) -> dict[int, tuple[Shell, ...]]:
    """Return the shells of each element, from (atomic number, label, shells) of each species.

    `BasisError` that begins with `where` if two species of one element have different shells.
    """
    shells: dict[int, tuple[Shell, ...]] = {}
    for z, label, own in species:
        if shells.setdefault(z, own) != own:
            raise BasisError(f"{where}: expected the same orbitals on all atoms of an element, got others for {label}")
    return shells
