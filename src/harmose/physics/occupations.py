"""Occupations of states near the Fermi level, and the Fermi level of a number of electrons.

    sum_k w_k sum_n g f((e_nk - E_F) / width) = N

with g = 2 electrons for each state without spin, 1 with spin, and one Fermi level for both spins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial, pi, sqrt
from typing import Protocol

import numpy as np
import scipy
from numpy.polynomial.hermite import hermval

from harmose.errors import ConfigError, MatrixError
from harmose.spin import Spin

BOLTZMANN = 8.617333262e-5
"""eV per kelvin (CODATA 2018)."""


class Smearing(Protocol):
    """Occupations (0 to 1) as a function of x = (e - E_F) / width, with `width` in eV."""

    @property
    def width(self) -> float: ...

    def occupation(self, x: np.ndarray) -> np.ndarray: ...


def _check_width(width: float) -> None:
    if not 0 < width < np.inf:
        raise ConfigError(f"smearing: expected a positive width in eV, got {width}")


@dataclass(frozen=True)
class FermiDirac:
    """f(x) = 1 / (1 + exp x): electrons at the temperature width / k_B."""

    width: float = 300 * BOLTZMANN

    def __post_init__(self) -> None:
        _check_width(self.width)

    def occupation(self, x: np.ndarray) -> np.ndarray:
        return scipy.special.expit(-x)


@dataclass(frozen=True)
class Gaussian:
    """f(x) = erfc(x) / 2: levels broadened to Gaussians exp(-x^2)."""

    width: float = 0.05

    def __post_init__(self) -> None:
        _check_width(self.width)

    def occupation(self, x: np.ndarray) -> np.ndarray:
        return scipy.special.erfc(x) / 2


@dataclass(frozen=True)
class MethfesselPaxton:
    """Methfessel and Paxton, Phys. Rev. B 40, 3616 (1989), eqs. 11-14.

    f(x) = erfc(x) / 2 + sum_{n=1}^{order} A_n H_{2n-1}(x) exp(-x^2),     A_n = (-1)^n / (n! 4^n sqrt(pi))
    """

    width: float = 0.1
    order: int = 1

    def __post_init__(self) -> None:
        _check_width(self.width)
        if not 1 <= self.order <= 10:
            raise ConfigError(f"smearing: expected an order of 1 to 10, got {self.order}")

    def occupation(self, x: np.ndarray) -> np.ndarray:
        coefficients = np.zeros(2 * self.order)
        for n in range(1, self.order + 1):
            coefficients[2 * n - 1] = (-1) ** n / (factorial(n) * 4**n * sqrt(pi))
        near = np.clip(x, -20, 20)  # exp(-x^2) is zero beyond; hermval times it must not become infinity times zero
        return scipy.special.erfc(x) / 2 + hermval(near, coefficients) * np.exp(-(near**2))


ROOM_TEMPERATURE = FermiDirac()
"""Fermi-Dirac at 300 K."""
GAP_TOLERANCE = 1e-9
"""The Fermi level of a gap is the middle of the range in which the number of electrons is right to this fraction."""


def electrons_per_state(spin: Spin) -> int:
    """Return 2 for a state without spin, 1 for a state of one spin or of a spinor."""
    return 2 if spin is Spin.NONE else 1


def occupations(energies: np.ndarray, fermi_level: float, smearing: Smearing = ROOM_TEMPERATURE) -> np.ndarray:
    """Occupation (0 to 1) of each level, in the shape of `energies` (eV)."""
    return smearing.occupation((energies - fermi_level) / smearing.width)


def fermi_level(
    energies: np.ndarray,
    weights: np.ndarray,
    n_electrons: float,
    spin: Spin = Spin.NONE,
    smearing: Smearing = ROOM_TEMPERATURE,
) -> float:
    """Return E_F in eV for `energies` (n_k, n) or (2, n_k, n) in eV on a mesh with `weights` (n_k,). In a gap: mid-gap.

    Raises `MatrixError` for a number of electrons that the levels cannot hold.
    """
    per_state = electrons_per_state(spin)

    def count(level: float) -> float:
        return per_state * float((occupations(energies, level, smearing).sum(axis=-1) * weights).sum())

    margin = 30 * smearing.width + 1.0
    low, high = float(energies.min()) - margin, float(energies.max()) + margin
    return solve_chemical_potential(count, n_electrons, low, high, GAP_TOLERANCE * n_electrons)


def solve_chemical_potential(
    count: Callable[[float], float], n_electrons: float, low: float, high: float, tolerance: float = 0.0
) -> float:
    """Return mu between `low` and `high` with count(mu) = n_electrons, where `count` grows with mu.

    `tolerance` (electrons): the middle between the levels that hold so many electrons less and more, which is mid-gap for an
    insulator. Raises `MatrixError` unless count(low) < n_electrons < count(high).
    """
    least, most = count(low), count(high)
    if not least < n_electrons < most:
        raise MatrixError(
            f"Fermi level: expected more than {abs(round(least, 6)):g} and less than {round(most, 6):g} electrons, "
            f"got {n_electrons:g}"
        )

    def level(offset: float) -> float:
        # The difference of the counts is exact; `count(mu) - (n_electrons + offset)` would round the offset away in a gap.
        return scipy.optimize.brentq(lambda mu: count(mu) - n_electrons - offset, low, high, xtol=1e-14, rtol=1e-15)

    if not tolerance:
        return level(0.0)
    return (level(max(-tolerance, least - n_electrons)) + level(min(tolerance, most - n_electrons))) / 2
