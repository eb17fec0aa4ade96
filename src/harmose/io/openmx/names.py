"""Names of OpenMX's basis sets and pseudopotentials: `C6.0-s2p2d1` and `C_PBE19`.

A basis set is the file `C6.0.pao`, whose functions end at 6.0 Bohr, and the shells: the first two functions of l = 0, two of
l = 1 and one of l = 2. A second digit, as in `s42`, is the number of functions into which the first four are contracted.
"""

import re
from dataclasses import dataclass

from ase.data import atomic_numbers

from harmose.core.basis import LETTERS, Shell
from harmose.errors import FormatError
from harmose.io.species import element_of

NAME = "openmx"
"""Name of the basis sets; the names of their files are in the provenance of a sample."""
OPENMX_BOHR = 0.529177249
"""OpenMX's Bohr radius in angstrom, with which it turns the angstrom of an input into Bohr."""
EMPTY = "E"
"""Pseudopotential of an empty atom: orbitals without a nucleus."""

CONTRACTED = re.compile(r"([spdfg])(\d)(?:>?(\d))?")
"""Letter, number of functions in the file, and number of contracted functions; `s4>2` is another spelling of `s42`."""


@dataclass(frozen=True)
class PaoName:
    """The name of a basis set of OpenMX.

    Attributes:
        text: the whole name, such as `C6.0-s2p2d1`.
        file: name of the file of radial functions without its ending, such as `C6.0`.
        cutoff: radius (Bohr) at which the functions end, by the name of the file; None for a name without number.
        primitives: number of radial functions of l = 0, 1, ... that are taken from the file.
        counts: number of shells of l = 0, 1, ...; fewer than `primitives` where they are contracted.
    """

    text: str
    file: str
    cutoff: float | None
    primitives: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def shells(self) -> tuple[Shell, ...]:
        """Shells in OpenMX's order, by l and then by function. n counts from l + 1 upward."""
        return tuple(Shell(l + 1 + k, l) for l, count in enumerate(self.counts) for k in range(count))

    @property
    def n_orbitals(self) -> int:
        """Number of orbitals of an atom."""
        return sum(count * (2 * l + 1) for l, count in enumerate(self.counts))


def parse_pao(text: str) -> PaoName:
    """Return the parts of a name such as `C6.0-s2p2d1`, `Fe6.0H-s3p2d1` or `C4.5-s52p52`.

    Raises:
        FormatError: for another text.
    """
    file, _, shells = text.partition("-")
    found = list(CONTRACTED.finditer(shells))
    degrees = [LETTERS.index(match[1]) for match in found]
    if not (file and found and "".join(match[0] for match in found) == shells and len(set(degrees)) == len(degrees)):
        raise FormatError(f"expected a basis set of OpenMX such as C6.0-s2p2d1, got {text!r}")
    primitives, counts = [0] * (max(degrees) + 1), [0] * (max(degrees) + 1)
    for l, match in zip(degrees, found):
        primitives[l], counts[l] = int(match[2]), int(match[3] or match[2])
    if any(count > many for count, many in zip(counts, primitives)) or not any(counts):
        raise FormatError(
            f"expected at least one function, and no more contracted functions than functions, got {text!r}"
        )
    number = re.match(r"[A-Za-z]+(\d+(?:\.\d+)?)", file)
    cutoff = float(number[1]) if number else None
    return PaoName(text, file, cutoff or None, tuple(primitives), tuple(counts))


def element_of_species(label: str, pao: str, vps: str) -> int | None:
    """Return the atomic number of a species, 0 for an empty atom, None if its names do not agree on an element.

    The pseudopotential decides: `C_PBE19` is carbon, whatever the species and the basis set are called.
    """
    if vps == EMPTY:
        return 0
    first = re.match(r"([A-Z][a-z]?)(?![A-Za-z0-9.])", vps)
    if first and first[1] in atomic_numbers:
        return atomic_numbers[first[1]]
    if re.match(r"[A-Z][a-z]?\d*\.\d", vps):  # a virtual atom, with a nucleus between two elements
        return None
    element = element_of(label)
    return element if element is not None and element == element_of(pao) else None
