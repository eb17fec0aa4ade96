"""How alike the surroundings of two edges are, as a covariant kernel: many-body terms without listing them.

The atoms around an edge, smeared (`triangles.cells`), are doublets c_m of its frame. Turned by an angle a against those of
another edge they overlap by

    k(a) = sum_m w_m e^{i m a} c_m . c'_m* / (|c| |c'|)

and the kernel of a component of order M is the projection of a power of it on that order, over turns and mirror images,

    K_M = s(r) s(r') exp(-(r - r')^2 / 2 spread^2) / 2 pi  int k(a)^power e^{-i M a} da

A regression with it is a function of bodies up to power + 2, covariant under O(2) exactly, since the integrand is a
trigonometric polynomial and the sum over `angles` is exact for it. It is the kernel of smooth overlaps of atomic positions
(Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115 (2013); covariant: Grisafi, Wilkins, Csanyi and Ceriotti, Phys. Rev.
Lett. 120, 036002 (2018)), with an edge in place of an atom and O(2) in place of O(3).

An edge seen from its other end has the same c_m with the two distances of each cell exchanged, and turned over (complex
conjugates). Overlaps of what is even and of what is odd under the exchange, added and subtracted, are those of both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harmose.kernel_regression.angles import ORDERS, Kernels, Overlaps, over_angles
from harmose.kernel_regression.descriptors import Triangles, cells, exchanged_cells

DAMPING = 0.5
"""w_m = DAMPING^m: less weight for detail in the azimuth."""
AT_ONCE = 4_000
"""Edges times references in memory together: few enough for a processor's cache."""
NEGLIGIBLE = 1e-10
"""Of the largest combination of cells among reference edges; smaller ones are rounding."""


@dataclass(frozen=True)
class KernelParameters:
    """What makes two edges alike, in angstrom: atoms count less by e with each `fade`, lengths differ by `spread` or less,
    matrix elements fall by e with each `reach`: s(r) = exp(-(r - 1.1) / reach). `power` is a power of two.
    """

    fade: float
    spread: float
    reach: float
    power: int = 4


PAIR_KERNEL = KernelParameters(fade=3.0, spread=1.0, reach=1.0)
"""For the block of an edge."""
ATOM_KERNEL = KernelParameters(fade=2.0, spread=0.5, reach=3.0)
"""For what an edge adds to the block of its first atom."""
DIVERSE_PAIRS = replace(PAIR_KERNEL, power=2)
"""Among many molecules, where edges that are alike in all are rare."""
DIVERSE_ATOMS = replace(ATOM_KERNEL, power=2)


@dataclass(frozen=True)
class EdgeDescriptor:
    """What is around edges: doublets (2 ORDERS + 1, E, Q), normalised, rows as in `moments`; distance (E,) in angstrom.

    species (S,): which elements the atoms around are of, ascending; Q runs over the cells of each of them.
    """

    so2: np.ndarray
    distance: np.ndarray
    likeness: KernelParameters
    species: np.ndarray

    def __getitem__(self, chosen: np.ndarray | slice) -> "EdgeDescriptor":
        return EdgeDescriptor(self.so2[:, chosen], self.distance[chosen], self.likeness, self.species)


def environments(
    triangles: Triangles, distance: np.ndarray, n_species: int, likeness: KernelParameters
) -> EdgeDescriptor:
    """Of edges (E,) with these lengths; triangles numbered by them."""
    count = np.bincount(triangles.third, minlength=n_species)
    species = np.flatnonzero(count)
    if len(species) < n_species:
        triangles = replace(triangles, third=(np.cumsum(count > 0) - 1)[triangles.third])
    so2 = cells(triangles, len(distance), len(species), likeness.fade, ORDERS)
    order = (np.arange(2 * ORDERS + 1) + 1) // 2
    weight = DAMPING**order * np.where(order, 2, 1)
    size = weight @ np.einsum("meq,meq->me", so2, so2)
    # An edge whose last neighbour goes away loses this term of its regression smoothly.
    so2 *= np.sqrt(weight[:, None] / (size + 1e-6))[:, :, None]
    return EdgeDescriptor(so2, distance, likeness, species)


class Compared:
    """Reference edges, made ready for kernels with others."""

    def __init__(self, references: EdgeDescriptor) -> None:
        self.distance, self.species, self._doublets = references.distance, references.species, references.so2
        self.likeness = references.likeness

    @cached_property
    def whole(self) -> "_Compared":
        return _Compared.of(self._doublets)

    @cached_property
    def halves(self) -> "tuple[_Compared, _Compared]":
        """What is even and what is odd under the exchange of an edge's ends."""
        turned = self._doublets[:, :, exchanged_cells(self._doublets.shape[2])]
        return _Compared.of((self._doublets + turned) / 2), _Compared.of((self._doublets - turned) / 2)

    def overlaps(self, a: EdgeDescriptor, both: bool) -> list[Overlaps]:
        """With other edges; if `both`, of what is even and of what is odd under the exchange of their ends."""
        cells = self._cells_of(a)
        return [part.overlaps(a, cells) for part in (self.halves if both else (self.whole,))]

    def _cells_of(self, a: EdgeDescriptor) -> list[tuple[slice, slice]]:
        """Runs of cells of elements that are around both: in `a`, and here."""
        n = a.so2.shape[2] // max(len(a.species), 1)
        here = {species: k * n for k, species in enumerate(self.species.tolist())}
        runs = [(0, 0, 0)]
        for k, species in enumerate(a.species.tolist()):
            if species in here:
                start, other, length = runs[-1]
                if (start + length, other + length) == (k * n, here[species]):
                    runs[-1] = start, other, length + n
                else:
                    runs.append((k * n, here[species], n))
        return [(slice(i, i + n), slice(j, j + n)) for i, j, n in runs if n or len(runs) == 1]


@dataclass(frozen=True)
class _Compared:
    """Doublets of edges, scalar (Q, R), around (m - 1, Q, 2R); or, where that is less work, in the few combinations of cells
    in which they differ: what another edge has beside these has no overlap with any of them. basis (m, Q, r), and r in
    place of Q.
    """

    basis: np.ndarray | None
    scalar: np.ndarray
    around: np.ndarray

    @staticmethod
    def of(so2: np.ndarray) -> "_Compared":
        scalar, around = _by_order(so2)
        _, size, basis = np.linalg.svd(np.concatenate([scalar, np.zeros_like(scalar)], 1), full_matrices=False)
        _, sizes, bases = np.linalg.svd(around, full_matrices=False)
        size, basis = np.concatenate([size, sizes]), np.concatenate([basis, bases])
        rank = max(int((size > NEGLIGIBLE * max(size.max(initial=0.0), 1e-300)).sum(1).max(initial=0)), 1)
        (_, columns, n_cells) = around.shape
        if rank * (n_cells + columns) >= n_cells * columns:
            return _Compared(None, scalar[0].T, around.swapaxes(1, 2))
        basis = np.ascontiguousarray(basis[:, :rank].swapaxes(1, 2))
        return _Compared(
            basis,
            np.ascontiguousarray((scalar[0] @ basis[0]).T),
            np.ascontiguousarray((around @ basis[1:]).swapaxes(1, 2)),
        )

    def overlaps(self, a: EdgeDescriptor, cells: Sequence[tuple[slice, slice]]) -> Overlaps:
        """`cells`: runs of those that count, in `a` and here."""
        scalar, around = _by_order(a.so2)
        if self.basis is None:
            products = _summed(around[..., i] @ self.around[:, j] for i, j in cells)
            scalars = _summed(scalar[0][:, i] @ self.scalar[j] for i, j in cells)
        else:
            products = _summed(around[..., i] @ self.basis[1:, j] for i, j in cells) @ self.around
            scalars = _summed(scalar[0][:, i] @ self.basis[0, j] for i, j in cells) @ self.scalar
        return Overlaps(scalars, products.reshape(ORDERS, 2, len(a.distance), 2, self.scalar.shape[1]))


def _summed(parts: Iterator[np.ndarray]) -> np.ndarray:
    out = next(parts)
    for part in parts:
        out += part
    return out


def _by_order(so2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """m = 0 (1, E, Q), and the real parts followed by the imaginary ones of m = 1 ... ORDERS (m, 2E, Q)."""
    return so2[:1], so2[1:].reshape(ORDERS, 2 * so2.shape[1], so2.shape[2])


def edge_kernels(a: EdgeDescriptor, b: Compared, orders: Sequence[int]) -> list[np.ndarray]:
    """`K_M` of these ascending orders, real: at M = 0 (2, A, B), between scalars and between pseudoscalars; otherwise
    (2A, 2B), between the even halves of doublets, followed by the odd ones.
    """
    n_a, n_b = len(a.distance), len(b.distance)
    out = [np.empty((2, n_a, 2, n_b)) if m else np.empty((2, n_a, n_b)) for m in orders]
    for rows, (kernels,) in _kernels(a, b, orders, both=False):
        for x, kernel in zip(out, kernels.of(orders), strict=True):
            x[:, rows] = kernel
    return [x.reshape(2 * n_a, 2 * n_b) if m else x for m, x in zip(orders, out, strict=True)]


def weighted(
    a: EdgeDescriptor, b: Compared, weights: Sequence[np.ndarray], n_scalars: int, both: bool = False
) -> list[list[np.ndarray]]:
    """Sums over references, `K_M @ weights[M]` of `edge_kernels`: weights (B, K) at M = 0, else (2B, K) -> (A, K), (2A, K).

    At M = 0 the first `n_scalars` columns are of scalars, the others of pseudoscalars. Of the edges as they are, and if
    `both` of the same seen from their other ends.
    """
    n_a, orders = len(a.distance), range(len(weights))
    out = [
        [np.empty((2, n_a, w.shape[1]) if m else (n_a, w.shape[1])) for m, w in enumerate(weights)]
        for _ in range(1 + both)
    ]
    scalars, others = slice(None, n_scalars), slice(n_scalars, None)
    for rows, sides in _kernels(a, b, orders, both):
        for found, kernels in zip(out, sides, strict=True):
            found[0][rows, scalars] = kernels.scalar[0] @ weights[0][:, scalars]
            found[0][rows, others] = kernels.scalar[1] @ weights[0][:, others]
            for m, kernel in enumerate(kernels.around, 1):
                n = kernel.shape[1]
                found[m][:, rows] = (kernel.reshape(2 * n, -1) @ weights[m]).reshape(2, n, -1)
    return [[found[0], *(x.reshape(2 * n_a, -1) for x in found[1:])] for found in out]


def _kernels(
    a: EdgeDescriptor, b: Compared, orders: Sequence[int], both: bool
) -> Iterator[tuple[slice, list[Kernels]]]:
    """Kernels of some of the edges at a time, as they are and, if `both`, seen from their other ends."""
    step = max(AT_ONCE // max(len(b.distance), 1), 1)
    for start in range(0, len(a.distance), step):
        part = a[start : start + step]
        alike = _alike(part.distance, b.distance, b.likeness)
        yield slice(start, start + step), over_angles(b.overlaps(part, both), alike, b.likeness.power, tuple(orders))


def _alike(a: np.ndarray, b: np.ndarray, likeness: KernelParameters) -> np.ndarray:
    """What lengths (A,), (B,) make of a kernel: (A, B)."""
    out = a[:, None] - b
    out *= out
    out *= -1 / (2 * likeness.spread**2)
    np.exp(out, out=out)
    out *= np.exp(-(a[:, None] - 1.1) / likeness.reach)
    out *= np.exp(-(b - 1.1) / likeness.reach)
    return out
