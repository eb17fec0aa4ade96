"""From the overlaps of doublets to kernels: the sums over angles of `kernel`, for many pairs of edges at once.

`_kernels.c` does the same as the numpy here, many times as fast since nothing is written to memory on the way. It is
compiled with the package where there is a C compiler.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

try:
    from harmose.kernel_regression import _kernels as compiled
except ImportError:
    compiled = None

ORDERS = 4
"""Largest m of c_m, which `_kernels.c` knows too."""
LANES = 8
"""References that `_kernels.c` works on together; it needs as many."""


class Overlaps(NamedTuple):
    """`c_0 c'_0` (A, B), and of m = 1 ... ORDERS `c_m c'_m`, real and imaginary parts with real and imaginary parts,
    (ORDERS, 2, A, 2, B)."""

    scalar: np.ndarray
    around: np.ndarray


class Kernels(NamedTuple):
    """`K_0` between scalars and between pseudoscalars (2, A, B); the others from even and odd halves to even and odd halves
    (orders, 2, A, 2, B)."""

    scalar: np.ndarray
    around: np.ndarray

    def of(self, orders: Sequence[int]) -> list[np.ndarray]:
        """By order."""
        return [*([self.scalar] if 0 in orders else []), *self.around]


def over_angles(parts: Sequence[Overlaps], alike: np.ndarray, power: int, orders: tuple[int, ...]) -> list[Kernels]:
    """`K_M` of ascending orders, with what lengths make of it, `alike` (A, B).

    Of one part, the whole; of two, even and odd under the exchange of an edge's ends, of the edges as they are and of the same
    seen from their other ends.
    """
    if compiled is not None and alike.shape[1] >= LANES:
        return _compiled(parts, alike, power, orders)
    return _with_numpy(parts, alike, power, orders)


def _compiled(parts: Sequence[Overlaps], alike: np.ndarray, power: int, orders: tuple[int, ...]) -> list[Kernels]:
    there, back = _half_transforms(power, orders)
    n_around = sum(m > 0 for m in orders)
    out = [Kernels(np.empty((2, *alike.shape)), np.empty((n_around, 2, len(alike), 2, alike.shape[1]))) for _ in parts]
    (n, references), squarings = alike.shape, power.bit_length() - 1
    sizes = (n, references, len(there), len(orders), n_around, squarings)
    compiled.kernels(*sizes, there, back, alike, len(parts), parts[0], parts[-1], out[0], out[-1])
    return out


def _with_numpy(parts: Sequence[Overlaps], alike: np.ndarray, power: int, orders: tuple[int, ...]) -> list[Kernels]:
    there, back = _transforms(power, orders)
    found = [_coefficients(part) for part in parts]
    if len(found) == 2:
        even, odd = found
        found = [even + odd, even - odd]
    projected = [
        (back @ _power(there @ x.reshape(2, x.shape[1], -1), power)).reshape(2, -1, *alike.shape) * alike for x in found
    ]
    # Seen from its other end an edge is mirrored.
    return [_combined(x[k], x[1 - k], orders) for k, x in enumerate(projected)]


def _coefficients(overlaps: Overlaps) -> np.ndarray:
    """The Fourier coefficients of k(a), cosines and then sines, straight, and mirrored with -a for a: (2, .., A, B)."""
    (rr, ri), (ir, ii) = ((overlaps.around[:, k, :, 0], overlaps.around[:, k, :, 1]) for k in (0, 1))
    scalar = overlaps.scalar[None]
    return np.stack([np.concatenate([scalar, rr + ii, ri - ir]), np.concatenate([scalar, rr - ii, ri + ir])])


def _combined(straight: np.ndarray, mirrored: np.ndarray, orders: tuple[int, ...]) -> Kernels:
    """From projections (cosines and then sines, A, B) of the powers of k(a), and of the mirror image's with -a for a."""
    n, has_scalar = len(orders), int(0 in orders)
    cos, sin, cos_mirrored, sin_mirrored = straight[has_scalar:n], straight[n:], mirrored[has_scalar:n], mirrored[n:]
    even = np.stack([cos + cos_mirrored, sin + sin_mirrored], 2)
    odd = np.stack([sin_mirrored - sin, cos - cos_mirrored], 2)
    return Kernels(np.stack([straight[0] + mirrored[0], straight[0] - mirrored[0]]), np.stack([even, odd], 1))


@lru_cache(maxsize=32)
def _transforms(power: int, orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """From Fourier coefficients to angles, and from powers at these to projections on cosines and sines, halved."""
    n_angles = power * ORDERS + max(orders) + 1
    angles = 2 * np.pi * np.arange(n_angles) / n_angles
    m = np.arange(ORDERS + 1)
    there = np.concatenate([np.cos(angles[:, None] * m), np.sin(angles[:, None] * m[1:])], 1)
    turns = np.array(orders)[:, None] * angles
    back = np.concatenate([np.cos(turns), np.sin(turns[np.array(orders) > 0])]) / (2 * n_angles)
    return there, back


@lru_cache(maxsize=32)
def _half_transforms(power: int, orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same for sums of what is found at a and at -a, a from 0 to pi: (angles, 2 ORDERS) and (angles, ..)."""
    there, back = _transforms(power, orders)
    n = len(there) // 2 + 1
    back = back.T[:n].copy()
    back[0] /= 2
    if len(there) % 2 == 0:
        back[-1] /= 2
    return np.ascontiguousarray(there[:n, 1:]), back


def _power(k: np.ndarray, power: int) -> np.ndarray:
    """k^power in place, by squaring: many times as fast as `**`."""
    for _ in range(power.bit_length() - 1):
        k *= k
    return k
