"""Shells and basis sets: the orbitals of each element, their order, and their radii."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from harmose.core.species import atomic_number_of, is_species, symbol_of
from harmose.errors import BasisError

LETTERS = "spdfghi"
"""Letters of l = 0, 1, 2, ...; a shell may have l up to 6."""


@dataclass(frozen=True, order=True)
class Shell:
    """One radial function times the 2l + 1 real spherical harmonics m = -l..l.

    Attributes:
        n: principal quantum number; for codes without one, a count from l + 1 upward.
        l: angular momentum, 0 to 6.
        zeta: number of this radial function among those of the same n and l, from 1.

    Examples:
        >>> import harmose
        >>> shell = harmose.Shell(3, 2)
        >>> print(shell, shell.n_orbitals)
        3d 5
    """

    n: int
    l: int
    zeta: int = 1

    @property
    def n_orbitals(self) -> int:
        """Number of orbitals, 2l + 1."""
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.n}{LETTERS[self.l]}" + "'" * (self.zeta - 1)


def n_orbitals(shells: Iterable[Shell | int]) -> int:
    """Number of orbitals of all these shells, each a `Shell` or its l: the sum of 2l + 1."""
    return sum(shell.n_orbitals if isinstance(shell, Shell) else 2 * shell + 1 for shell in shells)


@dataclass(frozen=True, repr=False)
class BasisSet:
    """The ordered shells of each element, and the radius beyond which its orbitals are zero.

    Two atoms share a block when their distance is less than the sum of their radii.

    Attributes:
        name: name of the basis set, such as "def2-svp".
        shells: shells of each element, by atomic number; further sets of orbitals of an element by `core.species`.
        radii: radius of each element in angstrom, by the same numbers; rounded to six digits.

    Raises:
        BasisError: for shells and radii of different elements, or impossible values.

    Examples:
        >>> import harmose
        >>> hydrogen, oxygen = (harmose.Shell(1, 0),), (harmose.Shell(2, 0), harmose.Shell(2, 1))
        >>> basis = harmose.BasisSet("minimal", {1: hydrogen, 8: oxygen}, {1: 2.0, 8: 3.0})
        >>> basis
        BasisSet('minimal': H 1s, O 2s 2p; radii up to 3 angstrom)
        >>> basis.n_orbitals(8)
        4
    """

    name: str
    shells: Mapping[int, tuple[Shell, ...]]
    radii: Mapping[int, float]

    def __post_init__(self) -> None:
        if set(self.shells) != set(self.radii):
            raise BasisError(f"basis {self.name}: expected shells and radii for the same elements")
        shells = {int(z): tuple(s) for z, s in sorted(self.shells.items())}
        # Six digits, as in JSON: graphs have the same pairs here, in a store and in another process.
        radii = {int(z): round(float(r), 6) for z, r in sorted(self.radii.items())}
        for z in shells:
            self._check_element(z, shells[z], radii[z])
        object.__setattr__(self, "shells", MappingProxyType(shells))
        object.__setattr__(self, "radii", MappingProxyType(radii))

    def _check_element(self, z: int, shells: tuple[Shell, ...], radius: float) -> None:
        if not is_species(z):
            raise BasisError(f"basis {self.name}: expected an element, got atomic number {z}")
        if not shells:
            raise BasisError(f"basis {self.name}: expected at least one shell for {symbol_of(z)}, got none")
        for shell in shells:
            if shell.n < 1 or not 0 <= shell.l < len(LETTERS) or shell.zeta < 1:
                raise BasisError(
                    f"basis {self.name}: expected shells with n >= 1, l = 0..{len(LETTERS) - 1}, zeta >= 1 for "
                    f"{symbol_of(z)}, got n = {shell.n}, l = {shell.l}, zeta = {shell.zeta}"
                )
        if not 0 < radius < float("inf"):
            raise BasisError(f"basis {self.name}: expected a positive radius for {symbol_of(z)}, got {radius}")

    def __reduce__(self):
        return BasisSet.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        radius = max(self.radii.values(), default=0.0)
        return f"BasisSet({self.summary}; radii up to {radius:g} angstrom)"

    @property
    def summary(self) -> str:
        """Name and shells of the first elements, as one line."""
        shells = [f"{symbol_of(z)} {' '.join(map(str, self.shells[z]))}" for z in self.elements[:4]]
        more = [f"{len(self.elements) - 4} more elements"] if len(self.elements) > 4 else []
        return f"{self.name!r}: {', '.join(shells + more) or 'no elements'}"

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BasisSet) and self.fingerprint == other.fingerprint

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers, ascending; after them the further sets of orbitals of an element (`core.species`)."""
        return tuple(self.shells)

    def sets_of(self, element: int) -> tuple[int, ...]:
        """Return the species that are sets of orbitals of one element, ascending (`harmose.core.species`).

        Args:
            element: atomic number.

        Returns:
            Numbers of the species: the atomic number, and for further sets of orbitals that plus multiples of 1000.
        """
        return tuple(z for z in self.shells if atomic_number_of(z) == element)

    @property
    def l_max(self) -> int:
        """Largest l of all shells."""
        return max((shell.l for shells in self.shells.values() for shell in shells), default=0)

    def degrees(self, z: int) -> tuple[int, ...]:
        """Angular momentum l of each shell of element `z`, in order.

        Args:
            z: atomic number.

        Returns:
            l of each shell.

        Raises:
            BasisError: for an element that the basis set lacks.
        """
        return tuple(shell.l for shell in self._shells_of(z))

    def n_orbitals(self, z: int) -> int:
        """Number of orbitals of element `z`.

        Args:
            z: atomic number.

        Returns:
            The sum of 2l + 1 over the shells.

        Raises:
            BasisError: for an element that the basis set lacks.
        """
        return n_orbitals(self._shells_of(z))

    def _shells_of(self, z: int) -> tuple[Shell, ...]:
        if z not in self.shells:
            names = ", ".join(symbol_of(k) for k in self.shells)
            expected = f"expected one of {names}" if names else "it has no elements"
            raise BasisError(f"basis {self.name}: {expected}, got {symbol_of(z)}")
        return self.shells[z]

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """Number of orbitals of each atom.

        Args:
            numbers: atomic numbers or species, shape (N,).

        Returns:
            Shape (N,), integers.

        Raises:
            BasisError: for an element that the basis set lacks.
        """
        numbers = np.asarray(numbers)
        table = np.zeros(max(numbers.max(initial=0), 0) + 1, dtype=np.int64)
        for z in np.unique(numbers):
            table[z] = self.n_orbitals(int(z))
        return table[numbers]

    def reach(self, numbers: Iterable[int]) -> np.ndarray:
        """Orbital radius of each atom.

        Args:
            numbers: atomic numbers or species, shape (N,).

        Returns:
            Radii in angstrom, shape (N,).

        Raises:
            BasisError: for an element that the basis set lacks.
        """
        numbers = [int(z) for z in numbers]
        for z in set(numbers):
            self._shells_of(z)
        return np.array([self.radii[z] for z in numbers])

    def restricted(self, elements: Iterable[int]) -> "BasisSet":
        """The same basis set with these elements alone.

        Args:
            elements: atomic numbers; may repeat.

        Returns:
            A basis set of the same name.

        Raises:
            BasisError: for an element that the basis set lacks.
        """
        keep = sorted(set(map(int, elements)))
        return BasisSet(self.name, {z: self._shells_of(z) for z in keep}, {z: self.radii[z] for z in keep})

    def merged(self, other: "BasisSet") -> "BasisSet":
        """The basis set with the elements of both.

        Args:
            other: a basis set of the same name.

        Returns:
            A basis set of the same name.

        Raises:
            BasisError: for another name, or for an element whose shells or radii differ.
        """
        if self.name != other.name:
            raise BasisError(f"expected one basis set, got {self.name} and {other.name}")
        for z in set(self.shells) & set(other.shells):
            if self.shells[z] != other.shells[z] or abs(self.radii[z] - other.radii[z]) > 1e-6:
                raise BasisError(f"basis {self.name}: two different sets of shells for {symbol_of(z)}")
        return BasisSet(self.name, {**self.shells, **other.shells}, {**self.radii, **other.radii})

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on the name and on every shell, its place, and every radius."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The basis set as JSON text.

        Returns:
            Name, shells and radii (angstrom, six digits); `from_json` reads it.
        """
        elements = {
            str(z): {"shells": [[s.n, s.l, s.zeta] for s in self.shells[z]], "radius": self.radii[z]}
            for z in self.shells
        }
        return json.dumps({"name": self.name, "elements": elements}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "BasisSet":
        """The basis set of a JSON text.

        Args:
            text: output of `to_json`.

        Returns:
            The basis set.

        Raises:
            BasisError: for any other text.
        """
        try:
            data = json.loads(text)
            elements = data["elements"]
            shells = {int(z): tuple(Shell(*map(int, s)) for s in e["shells"]) for z, e in elements.items()}
            return BasisSet(str(data["name"]), shells, {int(z): float(e["radius"]) for z, e in elements.items()})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BasisError(f"basis set: expected JSON with name and elements, got {text[:60]!r} ({error})") from None
