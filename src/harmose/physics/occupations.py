"""How many electrons a level holds near the Fermi level, and where the Fermi level is.

    sum_k w_k sum_n g f((e_nk - E_F) / width) = N

with g = 2 electrons for each level without spin, 1 with spin, and one Fermi level for both spins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial, pi, sqrt
from typing import Protocol

import numpy as np
from numpy.polynomial.hermite import hermval
from scipy.special import erfc, expit

from harmose.errors import ConfigError, MatrixError
from harmose.spin import Spin

BOLTZMANN = 8.617333262e-5
"""eV per kelvin (CODATA 2018)."""


class Smearing(Protocol):
    """A rule of occupation: `width` in eV, and the occupation (0 to 1) as function of x = (e - E_F) / width."""

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
        return expit(-x)


@dataclass(frozen=True)
class Gaussian:
    """f(x) = erfc(x) / 2: levels broadened to Gaussians exp(-x^2)."""

    width: float = 0.05

    def __post_init__(self) -> None:
        _check_width(self.width)

    def occupation(self, x: np.ndarray) -> np.ndarray:
        return erfc(x) / 2


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
        near = np.clip(x, -20, 20)  # exp(-x^2) is zero beyond; H times it must not become infinity times zero
        return erfc(x) / 2 + hermval(near, coefficients) * np.exp(-(near**2))


ROOM_TEMPERATURE = FermiDirac()
"""Fermi-Dirac at 300 K."""


def electrons_per_state(spin: Spin) -> int:
    """Two for a level without spin, one for a level of one spin or of a spinor."""
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
    """E_F in eV of `energies` (n_k, n) or (2, n_k, n) on a mesh with `weights` (n_k,), by bisection.

    Within a gap, where every level in a range holds the same electrons to 1e-9 of them, the middle of that range. Raises
    `MatrixError` for a number of electrons that the levels cannot hold.
    """
    per_state = electrons_per_state(spin)
    capacity = per_state * energies.shape[-1] * (2 if spin is Spin.COLLINEAR else 1)
    if not 0 < n_electrons < capacity:
        raise MatrixError(f"Fermi level: expected more than 0 and less than {capacity} electrons, got {n_electrons:g}")

    def excess(level: float) -> float:
        filled = occupations(energies, level, smearing).sum(axis=-1)
        return per_state * float((filled * weights).sum()) - n_electrons

    margin = 30 * smearing.width + 1.0
    ends = float(energies.min()) - margin, float(energies.max()) + margin
    tolerance = 1e-9 * n_electrons
    lowest = _bisected(lambda level: excess(level) + tolerance, *ends)
    highest = _bisected(lambda level: excess(level) - tolerance, *ends)
    return (lowest + highest) / 2


def _bisected(function: Callable[[float], float], low: float, high: float) -> float:
    """A zero of a function that is negative at `low` and positive at `high`, to 1e-12 of their size."""
    while high - low > 1e-12 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2
