"""Real spherical harmonics, in harmose's order and sign of orbitals.

    Y(l, m) = N(l, |m|) P(l, |m|)(cos theta) cos(m phi)   m >= 0        sin(|m| phi) for m < 0

They are orthonormal on the unit sphere and have no Condon-Shortley sign; `docs/conventions.md` lists them.
"""

from math import factorial, pi, sqrt

import numpy as np


def real_harmonics(l_max: int, directions: np.ndarray) -> np.ndarray:
    """Y(l, m) of unit vectors (n, 3) for l = 0..l_max, m = -l..l: shape ((l_max + 1)^2, n), row l (l + 1) + m."""
    x, y, z = np.ascontiguousarray(directions.T)
    out = np.empty(((l_max + 1) ** 2, len(x)))
    cos_part, sin_part = np.ones_like(x), np.zeros_like(x)  # sin(theta)^m cos(m phi) and sin(theta)^m sin(m phi)
    for m in range(l_max + 1):
        for l, legendre in _legendre_column(m, l_max, z):
            norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m)) * (sqrt(2) if m else 1)
            legendre = norm * legendre
            out[l * (l + 1) - m] = legendre * sin_part
            out[l * (l + 1) + m] = legendre * cos_part
        cos_part, sin_part = x * cos_part - y * sin_part, x * sin_part + y * cos_part
    return out


def _legendre_column(m: int, l_max: int, z: np.ndarray):
    """Yield l and P(l, m) / sin(theta)^m for l = m..l_max, by recursion upward in l; z = cos(theta)."""
    last, this = np.zeros_like(z), np.full_like(z, factorial(2 * m) / (2**m * factorial(m)))  # (2m - 1)!!
    for l in range(m, l_max + 1):
        yield l, this
        last, this = this, ((2 * l + 1) * z * this - (l + m) * last) / (l + 1 - m)


def degree_of_slot(l_max: int) -> np.ndarray:
    """The l of each (l, m) in the order of `real_harmonics`: ((l_max + 1)^2,) integers 0, 1, 1, 1, 2, ..."""
    l = np.arange(l_max + 1)
    return np.repeat(l, 2 * l + 1)


def complex_to_real(l: int) -> np.ndarray:
    """The unitary U with Y = U Y_complex, shape (2l + 1, 2l + 1); Y_complex has the Condon-Shortley sign."""
    m = np.arange(1, l + 1)
    sign = (-1.0) ** m
    u = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    u[l, l] = 1
    u[l + m, l + m], u[l + m, l - m] = sign / np.sqrt(2), 1 / np.sqrt(2)
    u[l - m, l + m], u[l - m, l - m] = -1j * sign / np.sqrt(2), 1j / np.sqrt(2)
    return u
