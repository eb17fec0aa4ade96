"""Kernels from the overlaps of descriptors: the sum over angles of `kernel`, for many pairs of edges.

`_kernels.c` computes the same sums as the numpy code here, many times faster, because it keeps intermediate results in
registers. It is compiled with the package where there is a C compiler.
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
"""Largest order m of descriptors; the same number stands in `_kernels.c`."""
LANES = 8
"""Number of sparse points that `_kernels.c` processes together; it needs at least as many."""


class DescriptorOverlaps(NamedTuple):
    """Overlaps of the descriptors of A edges and B sparse points.

    Attributes:
        scalar: `c_0 c'_0` (A, B).
        so2: `c_m c'_m` for m = 1 ... ORDERS, real and imaginary parts with real and imaginary parts (ORDERS, 2, A, 2, B).
    """

    scalar: np.ndarray
    so2: np.ndarray


class Kernels(NamedTuple):
    """Kernels between A edges and B sparse points.

    Attributes:
        scalar: K_0 between scalars and between pseudoscalars (2, A, B).
        so2: K_M for M > 0, from even and odd halves to even and odd halves (orders, 2, A, 2, B).
    """

    scalar: np.ndarray
    so2: np.ndarray

    def by_order(self, orders: Sequence[int]) -> list[np.ndarray]:
        """Return the kernel of each of the orders that were computed."""
        return [*([self.scalar] if 0 in orders else []), *self.so2]


def kernels_from_overlaps(
    parts: Sequence[DescriptorOverlaps], envelope: np.ndarray, exponent: int, orders: tuple[int, ...]
) -> list[Kernels]:
    """Return the kernels K_M of ascending orders, times the envelope (A, B) of the edge lengths.

    `parts`: the overlaps of whole descriptors, for kernels of the edges; or the overlaps of their even and odd parts under
    reversal, for kernels of the edges and of the reversed edges.
    """
    if compiled is not None and envelope.shape[1] >= LANES:
        return kernels_compiled(parts, envelope, exponent, orders)
    return kernels_numpy(parts, envelope, exponent, orders)


def kernels_compiled(
    parts: Sequence[DescriptorOverlaps], envelope: np.ndarray, exponent: int, orders: tuple[int, ...]
) -> list[Kernels]:
    """Compute `kernels_from_overlaps` in C."""
    assert compiled is not None
    to_angles, to_orders = _half_transforms(exponent, orders)
    n_so2, (a, b) = sum(m > 0 for m in orders), envelope.shape
    out = [Kernels(np.empty((2, a, b)), np.empty((n_so2, 2, a, 2, b))) for _ in parts]
    sizes = (a, b, len(to_angles), len(orders), n_so2, exponent.bit_length() - 1)
    compiled.kernels(*sizes, to_angles, to_orders, envelope, len(parts), parts[0], parts[-1], out[0], out[-1])
    return out


def kernels_numpy(
    parts: Sequence[DescriptorOverlaps], envelope: np.ndarray, exponent: int, orders: tuple[int, ...]
) -> list[Kernels]:
    """Compute `kernels_from_overlaps` in numpy."""
    to_angles, to_orders = _transforms(exponent, orders)
    coefficients = [_fourier_coefficients(part) for part in parts]
    if len(coefficients) == 2:
        even, odd = coefficients
        coefficients = [even + odd, even - odd]
    projections = []
    for c in coefficients:
        values = to_angles @ c.reshape(2, c.shape[1], -1)
        for _ in range(exponent.bit_length() - 1):  # squaring is many times faster than `**`
            values *= values
        projections.append((to_orders @ values).reshape(2, -1, *envelope.shape) * envelope)
    # The frame of the reversed edge is a mirror image.
    return [_combine(x[k], x[1 - k], orders) for k, x in enumerate(projections)]


def _fourier_coefficients(overlaps: DescriptorOverlaps) -> np.ndarray:
    """Fourier coefficients of k(a), cosines and then sines: as it is, and of the mirror image at -a: (2, ..., A, B)."""
    (rr, ri), (ir, ii) = ((overlaps.so2[:, k, :, 0], overlaps.so2[:, k, :, 1]) for k in (0, 1))
    scalar = overlaps.scalar[None]
    return np.stack([np.concatenate([scalar, rr + ii, ri - ir]), np.concatenate([scalar, rr - ii, ri + ir])])


def _combine(direct: np.ndarray, mirrored: np.ndarray, orders: tuple[int, ...]) -> Kernels:
    """Combine the projections (cosines and then sines, A, B) of k(a) and of its mirror image into kernels."""
    n, has_scalar = len(orders), int(0 in orders)
    cos, sin, cos_mirrored, sin_mirrored = direct[has_scalar:n], direct[n:], mirrored[has_scalar:n], mirrored[n:]
    even = np.stack([cos + cos_mirrored, sin + sin_mirrored], 2)
    odd = np.stack([sin_mirrored - sin, cos - cos_mirrored], 2)
    return Kernels(np.stack([direct[0] + mirrored[0], direct[0] - mirrored[0]]), np.stack([even, odd], 1))


@lru_cache(maxsize=32)
def _transforms(exponent: int, orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Matrices from Fourier coefficients to angles, and from angles to halved projections on cosines and sines."""
    n_angles = exponent * ORDERS + max(orders) + 1
    angles = 2 * np.pi * np.arange(n_angles) / n_angles
    m = np.arange(ORDERS + 1)
    to_angles = np.concatenate([np.cos(angles[:, None] * m), np.sin(angles[:, None] * m[1:])], 1)
    phases = np.array(orders)[:, None] * angles
    to_orders = np.concatenate([np.cos(phases), np.sin(phases[np.array(orders) > 0])]) / (2 * n_angles)
    return to_angles, to_orders


@lru_cache(maxsize=32)
def _half_transforms(exponent: int, orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same for sums of the values at a and at -a, with a from 0 to pi: (angles, 2 ORDERS) and (angles, ...)."""
    to_angles, to_orders = _transforms(exponent, orders)
    n = len(to_angles) // 2 + 1
    to_orders = to_orders.T[:n].copy()
    to_orders[0] /= 2
    if len(to_angles) % 2 == 0:
        to_orders[-1] /= 2
    return np.ascontiguousarray(to_angles[:n, 1:]), to_orders
