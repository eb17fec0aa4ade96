"""Species of a calculation: labels such as Fe_up or C1, and the shells of each element."""

import re
from collections.abc import Iterable

from ase.data import atomic_numbers

from harmose.core.basis import Shell
from harmose.errors import BasisError


def element_of(label: str) -> int | None:
    """Return the atomic number of a label such as Fe, Fe_up or C1; None if it does not begin with an element."""
    letters = (re.match(r"[A-Za-z]*", label) or [""])[0]
    for symbol in (letters, letters[:2], letters[:1]):
        if symbol and symbol.capitalize() in atomic_numbers:
            return atomic_numbers[symbol.capitalize()]
    return None


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
