"""Radial functions of atomic orbitals, with which integrals in a basis set are computed.

An orbital is `R(r) Y(l, m)` with `R(r) = r^l f(r)`, r in angstrom and R in angstrom^(-3/2). f is a sum of Gaussians or
a table. A `RadialBasis` has one for each shell of a `BasisSet`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import scipy  # imports its subpackages on first use

from harmose.core.basis import BasisSet
from harmose.core.species import symbol_of
from harmose.errors import BasisError

MOST_POINTS = 1_000_000
"""Largest number of points of a table, and of steps to its end. Real ones have about 1,000."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians: `f(r) = sum_k coefficients[k] exp(-exponents[k] r^2)`, both (K,), exponents in 1/angstrom^2."""

    l: int
    exponents: np.ndarray
    coefficients: np.ndarray

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """R in angstrom^(-3/2) at distances r in angstrom, any shape."""
        r = np.asarray(r, dtype=np.float64)
        return r**self.l * (np.exp(-np.multiply.outer(r**2, self.exponents)) @ self.coefficients)


@dataclass(frozen=True, eq=False)
class Tabulated:
    """A table: f is the cubic spline through `values` (n,) at r = 0, spacing, 2 spacing, ... and zero beyond them.

    The spline has zero slope at 0 and zero curvature at the last point. `step` (angstrom) is the spacing of the radial
    grid on which the DFT code integrates; integrals with the same step reproduce the matrices of that code.
    """

    l: int
    values: np.ndarray
    spacing: float
    step: float

    @property
    def cutoff(self) -> float:
        """Radius in angstrom beyond which the orbital is zero."""
        return self.spacing * (len(self.values) - 1)

    @cached_property
    def _spline(self) -> "scipy.interpolate.CubicSpline":
        r = self.spacing * np.arange(len(self.values))
        return scipy.interpolate.CubicSpline(r, self.values, bc_type=((1, 0.0), (2, 0.0)))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """R in angstrom^(-3/2) at distances r in angstrom, any shape."""
        r = np.asarray(r, dtype=np.float64)
        return np.where(r < self.cutoff, r**self.l * self._spline(np.minimum(r, self.cutoff)), 0.0)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances r = 0, step, 2 step, ... below the cutoff, and R there."""
        r = self.step * np.arange(int(np.ceil(self.cutoff / self.step)))
        return r, self(r)


@dataclass(frozen=True, eq=False, repr=False)
class RadialBasis:
    """A `BasisSet` with the radial function of each shell; `harmose.basis` returns one.

    Attributes:
        basis: the basis set.
        functions: radial functions of each element's shells in the order of the shells, by atomic number; all
            `Gaussians` or all `Tabulated`.

    Raises:
        BasisError: for functions of other elements or other l than the shells, and for Gaussians beside tables.

    Examples:
        >>> import harmose
        >>> radial = harmose.basis("sto-3g", ["H", "O"])
        >>> radial
        RadialBasis('sto-3g': H 1s, O 1s 2s 2p; Gaussians)
        >>> print(radial.of(1)[0](0.5).round(3))  # R of the 1s orbital of H at 0.5 angstrom, in angstrom^(-3/2)
        2.194
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
                    f"basis {self.basis.name}: expected one radial function for each shell of {symbol_of(z)}, "
                    f"l = {self.basis.degrees(z)}, got l = {tuple(f.l for f in of_element)}"
                )
        if len({type(f) for of_element in functions.values() for f in of_element}) > 1:
            raise BasisError(f"basis {self.basis.name}: expected either Gaussians or tables, got both")
        object.__setattr__(self, "functions", MappingProxyType(functions))

    def __reduce__(self):
        return RadialBasis, (self.basis, dict(self.functions))

    def __repr__(self) -> str:
        kinds = {type(f).__name__ for functions in self.functions.values() for f in functions}
        return f"RadialBasis({self.basis.summary}; {', '.join(kinds) or 'no functions'})"

    @property
    def name(self) -> str:
        """Name of the basis set."""
        return self.basis.name

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers, ascending, as those of the basis set."""
        return self.basis.elements

    def of(self, z: int) -> tuple[Gaussians, ...] | tuple[Tabulated, ...]:
        """Radial functions of element `z`, in the order of its shells.

        Raises:
            BasisError: for an element that the basis set lacks.
        """
        self.basis.degrees(z)
        return self.functions[z]

    def like(self, basis: BasisSet) -> "RadialBasis":
        """The same functions with the name, shells and radii of another basis set, so that S has the blocks of its H.

        Args:
            basis: a basis set with shells of the same l; elements that it lacks are left out.

        Raises:
            BasisError: for an element without functions, and for shells of other l.
        """
        return RadialBasis(basis, {z: self.of(z) for z in basis.elements})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The numbers of all radial functions, as arrays that a file can hold.

        Returns:
            Arrays in float64 by name, for shell k = 0, 1, ... of the element with atomic number z: of Gaussians
            "z.k.exponents" and "z.k.coefficients" (K,), of a table "z.k.values" (n,) and "z.k.grid" (2,), which holds
            `spacing` and `step` in angstrom. A table of 900 values takes 7 kB.
        """
        arrays = {}
        for z, functions in self.functions.items():
            for k, f in enumerate(functions):
                if isinstance(f, Gaussians):
                    parts = {"exponents": f.exponents, "coefficients": f.coefficients}
                else:
                    parts = {"values": f.values, "grid": [f.spacing, f.step]}
                arrays |= {f"{z}.{k}.{name}": np.array(part, dtype=np.float64) for name, part in parts.items()}
        return arrays

    @staticmethod
    def from_arrays(basis: BasisSet, arrays: Mapping[str, np.ndarray]) -> "RadialBasis":
        """The radial functions of a basis set from arrays.

        Args:
            basis: the basis set.
            arrays: result of `to_arrays` of a basis set with the same shells.

        Returns:
            The radial functions.

        Raises:
            BasisError: for arrays of other shells, and for numbers that no radial function has.
        """
        functions = {
            z: tuple(_function(basis, arrays, z, k, l) for k, l in enumerate(basis.degrees(z))) for z in basis.elements
        }
        used = {name.rpartition(".")[0] for name in arrays}
        expected = {f"{z}.{k}" for z, of_element in functions.items() for k in range(len(of_element))}
        if used != expected:
            raise BasisError(f"basis {basis.name}: expected radial functions of its shells alone, got others")
        return RadialBasis(basis, functions)  # type: ignore[arg-type]

    def merged(self, others: Iterable["RadialBasis"], name: str) -> "RadialBasis":
        """One basis set with the elements of this one and of others.

        Args:
            others: basis sets of other elements.
            name: name of the merged basis set.

        Raises:
            BasisError: for two basis sets with the same element.
        """
        shells, radii, functions = dict(self.basis.shells), dict(self.basis.radii), dict(self.functions)
        for other in others:
            for z in set(other.elements) & set(functions):
                raise BasisError(f"basis {name}: expected one set of radial functions for {symbol_of(z)}, got two")
            shells |= other.basis.shells
            radii |= other.basis.radii
            functions |= other.functions
        return RadialBasis(BasisSet(name, shells, radii), functions)


def _function(basis: BasisSet, arrays: Mapping[str, np.ndarray], z: int, k: int, l: int) -> Gaussians | Tabulated:
    """Return the function of shell `k` of element `z` from `RadialBasis.to_arrays`, checked."""
    found = {name: arrays.get(f"{z}.{k}.{name}") for name in ("exponents", "coefficients", "values", "grid")}
    parts = {name: np.asarray(x, dtype=np.float64) for name, x in found.items() if x is not None}
    valid = all(np.isfinite(x).all() and x.ndim == 1 and 0 < len(x) <= MOST_POINTS for x in parts.values())
    if valid and parts.keys() == {"exponents", "coefficients"}:
        exponents, coefficients = parts["exponents"], parts["coefficients"]
        if len(exponents) == len(coefficients) and (exponents > 0).all():
            return Gaussians(l, exponents, coefficients)
    if valid and parts.keys() == {"values", "grid"} and len(parts["grid"]) == 2:
        values, (spacing, step) = parts["values"], parts["grid"].tolist()
        if len(values) > 3 and spacing > 0 and step > 0 and spacing * len(values) < MOST_POINTS * step:
            return Tabulated(l, values, spacing, step)
    raise BasisError(f"basis {basis.name}: expected the radial function of shell {k} of {symbol_of(z)}, got "
                     f"{'arrays without meaning' if parts else 'none'}")  # fmt: skip
