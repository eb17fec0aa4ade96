"""Shells and basis sets: which orbitals sit on which element, in which order, and how far they reach."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from ase.data import chemical_symbols

from harmose.errors import BasisError

LETTERS = "spdfghi"
"""Names of l = 0, 1, 2, ...; the largest l that a shell may have follows."""


@dataclass(frozen=True, order=True)
class Shell:
    """One radial function times the 2l + 1 real spherical harmonics m = -l..l."""

    n: int
    """Principal quantum number; where a code gives none, the count from l + 1 upward."""
    l: int
    zeta: int = 1

    @property
    def n_orbitals(self) -> int:
        """Number of orbitals, 2l + 1."""
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.n}{LETTERS[self.l]}" + ("" if self.zeta == 1 else "'" * (self.zeta - 1))


def n_orbitals(shells: Iterable[Shell | int]) -> int:
    """Number of orbitals of all these shells, each a `Shell` or its l: the sum of 2l + 1."""
    return sum(shell.n_orbitals if isinstance(shell, Shell) else 2 * shell + 1 for shell in shells)


@dataclass(frozen=True)
class BasisSet:
    """The ordered shells of each element and the radius (angstrom) beyond which its orbitals are zero.

    Two atoms share a block when their distance is below the sum of their radii.
    """

    name: str
    shells: Mapping[int, tuple[Shell, ...]]
    radii: Mapping[int, float]

    def __post_init__(self) -> None:
        if set(self.shells) != set(self.radii):
            raise BasisError(f"basis {self.name}: expected shells and radii for the same elements")
        shells = {int(z): tuple(s) for z, s in sorted(self.shells.items())}
        # Six digits, like the JSON form: the same pairs are in reach here, in a store and in another process.
        radii = {int(z): round(float(r), 6) for z, r in sorted(self.radii.items())}
        for z in shells:
            self._check_element(z, shells[z], radii[z])
        object.__setattr__(self, "shells", MappingProxyType(shells))
        object.__setattr__(self, "radii", MappingProxyType(radii))

    def _check_element(self, z: int, shells: tuple[Shell, ...], radius: float) -> None:
        if not 0 < z < len(chemical_symbols):
            raise BasisError(f"basis {self.name}: expected an element, got atomic number {z}")
        if not shells:
            raise BasisError(f"basis {self.name}: expected at least one shell for {_symbol(z)}, got none")
        for shell in shells:
            if shell.n < 1 or not 0 <= shell.l < len(LETTERS) or shell.zeta < 1:
                raise BasisError(
                    f"basis {self.name}: expected shells with n >= 1, l = 0..{len(LETTERS) - 1}, zeta >= 1 for "
                    f"{_symbol(z)}, got n = {shell.n}, l = {shell.l}, zeta = {shell.zeta}"
                )
        if not 0 < radius < float("inf"):
            raise BasisError(f"basis {self.name}: expected a positive radius for {_symbol(z)}, got {radius}")

    def __reduce__(self):
        return BasisSet.from_json, (self.to_json(),)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BasisSet) and self.fingerprint == other.fingerprint

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(self.shells)

    @property
    def l_max(self) -> int:
        return max((shell.l for shells in self.shells.values() for shell in shells), default=0)

    def degrees(self, z: int) -> tuple[int, ...]:
        """The l of each shell of element `z`, in order."""
        return tuple(shell.l for shell in self._of(z))

    def n_orbitals(self, z: int) -> int:
        """Number of orbitals of element `z`."""
        return n_orbitals(self._of(z))

    def _of(self, z: int) -> tuple[Shell, ...]:
        if z not in self.shells:
            known = ", ".join(chemical_symbols[k] for k in self.shells) or "no element at all"
            raise BasisError(f"basis {self.name}: expected one of {known}, got {_symbol(z)}")
        return self.shells[z]

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """Orbitals of each atom, shape (N,)."""
        numbers = np.asarray(numbers)
        table = np.zeros(max(numbers.max(initial=0), 0) + 1, dtype=np.int64)
        for z in np.unique(numbers):
            table[z] = self.n_orbitals(int(z))
        return table[numbers]

    def reach(self, numbers: Iterable[int]) -> np.ndarray:
        """Orbital radius of each atom in angstrom, shape (N,)."""
        numbers = [int(z) for z in numbers]
        for z in set(numbers):
            self._of(z)
        return np.array([self.radii[z] for z in numbers])

    def restricted(self, elements: Iterable[int]) -> "BasisSet":
        """The same basis set with only these elements."""
        keep = sorted(set(map(int, elements)))
        return BasisSet(self.name, {z: self._of(z) for z in keep}, {z: self.radii[z] for z in keep})

    def merged(self, other: "BasisSet") -> "BasisSet":
        """Elements of both; `BasisError` where the two disagree about an element."""
        if self.name != other.name:
            raise BasisError(f"expected one basis set, got {self.name} and {other.name}")
        for z in set(self.shells) & set(other.shells):
            if self.shells[z] != other.shells[z] or abs(self.radii[z] - other.radii[z]) > 1e-6:
                raise BasisError(f"basis {self.name}: two different sets of shells for {_symbol(z)}")
        return BasisSet(self.name, {**self.shells, **other.shells}, {**self.radii, **other.radii})

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any shell, order or radius."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        elements = {
            str(z): {"shells": [[s.n, s.l, s.zeta] for s in self.shells[z]], "radius": self.radii[z]}
            for z in self.shells
        }
        return json.dumps({"name": self.name, "elements": elements}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "BasisSet":
        try:
            data = json.loads(text)
            elements = data["elements"]
            shells = {int(z): tuple(Shell(*map(int, s)) for s in e["shells"]) for z, e in elements.items()}
            return BasisSet(str(data["name"]), shells, {int(z): float(e["radius"]) for z, e in elements.items()})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BasisError(f"basis set: expected JSON with name and elements, got {text[:60]!r} ({error})") from None


def _symbol(z: int) -> str:
    return chemical_symbols[z] if 0 < z < len(chemical_symbols) else f"atomic number {z}"
