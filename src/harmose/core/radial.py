"""Radial functions of atomic orbitals: what is needed of a basis set, beyond its shells, to compute with it.

An orbital is `R(r) Y(l, m)` with `R(r) = r^l f(r)`, r in angstrom and R in angstrom^(-3/2). f is a sum of Gaussians or a
table; `RadialBasis` holds one for each shell of a `BasisSet`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from harmose.core.basis import BasisSet
from harmose.errors import BasisError

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline


@dataclass(frozen=True, eq=False)
class Gaussians:
    """`f(r) = sum_k coefficients[k] exp(-exponents[k] r^2)`, both (K,), exponents in 1/angstrom^2."""

    l: int
    exponents: np.ndarray
    coefficients: np.ndarray

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """R(r)."""
        r = np.asarray(r, dtype=np.float64)
        return r**self.l * (np.exp(-np.multiply.outer(r**2, self.exponents)) @ self.coefficients)


@dataclass(frozen=True, eq=False)
class Tabulated:
    """f is the cubic spline through `values` (n,) at r = 0, spacing, 2 spacing, ...; it is zero from the last point on.

    The spline starts with zero slope and ends with zero curvature. `step` (angstrom) is the radial grid on which the code
    that made the orbital integrates: a matrix of that code is reproduced with its step, whatever the table's spacing.
    """

    l: int
    values: np.ndarray
    spacing: float
    step: float

    @property
    def cutoff(self) -> float:
        """Radius of the orbital in angstrom."""
        return self.spacing * (len(self.values) - 1)

    @cached_property
    def _spline(self) -> "CubicSpline":
        from scipy.interpolate import CubicSpline  # slow to import, and molecules' Gaussian basis sets never need it

        r = self.spacing * np.arange(len(self.values))
        return CubicSpline(r, self.values, bc_type=((1, 0.0), (2, 0.0)))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """R(r)."""
        r = np.asarray(r, dtype=np.float64)
        return np.where(r < self.cutoff, r**self.l * self._spline(np.minimum(r, self.cutoff)), 0.0)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """r and R(r) at 0, step, 2 step, ... below the cutoff."""
        r = self.step * np.arange(int(np.ceil(self.cutoff / self.step)))
        return r, self(r)


@dataclass(frozen=True, eq=False)
class RadialBasis:
    """A `BasisSet` together with the radial function of each of its shells, in the same order.

    `basis` is the basis set, to be used wherever one is wanted. Raises `BasisError` when shells and functions do not
    belong together, or when Gaussians and tables are mixed.
    """

    basis: BasisSet
    functions: Mapping[int, tuple[Gaussians, ...] | tuple[Tabulated, ...]]

    def __post_init__(self) -> None:
        functions = {int(z): tuple(f) for z, f in sorted(self.functions.items())}
        if set(functions) != set(self.basis.elements):
            raise BasisError(f"basis {self.basis.name}: expected radial functions for the same elements as shells")
        for z, of_element in functions.items():
            if tuple(f.l for f in of_element) != self.basis.degrees(z):
                raise BasisError(
                    f"basis {self.basis.name}: expected one radial function for each shell of {chemical_symbols[z]}, "
                    f"l = {self.basis.degrees(z)}, got l = {tuple(f.l for f in of_element)}"
                )
        if len({type(f) for of_element in functions.values() for f in of_element}) > 1:
            raise BasisError(f"basis {self.basis.name}: expected either Gaussians or tables, got both")
        object.__setattr__(self, "functions", MappingProxyType(functions))

    def __reduce__(self):
        return RadialBasis, (self.basis, dict(self.functions))

    @property
    def name(self) -> str:
        return self.basis.name

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers."""
        return self.basis.elements

    def of(self, z: int) -> tuple[Gaussians, ...] | tuple[Tabulated, ...]:
        """The radial functions of element `z`; `BasisError` when it has none."""
        self.basis.degrees(z)
        return self.functions[z]

    def like(self, basis: BasisSet) -> "RadialBasis":
        """The same functions under the name, shells and radii of `basis`, so that S has the blocks of its H.

        Elements that `basis` does not have are left out. Raises `BasisError` for an element without functions here and
        for shells of other l.
        """
        return RadialBasis(basis, {z: self.of(z) for z in basis.elements})

    def merged(self, others: Iterable["RadialBasis"], name: str) -> "RadialBasis":
        """The elements of all, as one basis set `name`; `BasisError` when two have functions for one element."""
        shells, radii, functions = dict(self.basis.shells), dict(self.basis.radii), dict(self.functions)
        for other in others:
            for z in set(other.elements) & set(functions):
                raise BasisError(
                    f"basis {name}: expected one set of radial functions for {chemical_symbols[z]}, got two"
                )
            shells |= other.basis.shells
            radii |= other.basis.radii
            functions |= other.functions
        return RadialBasis(BasisSet(name, shells, radii), functions)
