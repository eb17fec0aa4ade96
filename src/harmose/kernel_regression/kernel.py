"""A covariant kernel between edges, which holds many-body terms without listing them.

The atoms around an edge, smeared on a grid of distances (`descriptors.smeared_atoms`), have coefficients c_m of e^{i m phi} in
the frame of the edge. Turned by an angle a, the descriptors of two edges overlap by

    k(a) = sum_m w_m e^{i m a} c_m . c'_m* / (|c| |c'|)

and the kernel of components of order M is the projection of a power of it on that order, over turns and mirror images,

    K_M = s(r) s(r') exp(-(r - r')^2 / 2 length_scale^2) / 2 pi  int k(a)^exponent e^{-i M a} da

The regression with it is a function of up to exponent + 2 atoms, and exactly covariant under O(2), since the integrand is a
trigonometric polynomial, for which the sum over angles in `angles` is exact. It is the kernel of smooth overlaps of atomic
positions (SOAP: Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115 (2013); covariant: Grisafi, Wilkins, Csanyi and Ceriotti,
Phys. Rev. Lett. 120, 036002 (2018)), with an edge in place of the atom and O(2) in place of O(3).

The reversed edge has the complex conjugates of the same c_m, with the two distances of each bin exchanged. So the parts of a
descriptor that are even and odd under this exchange give the kernels of both directions: as their sum and their difference.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import iadd

import numpy as np

from harmose.kernel_regression.angles import ORDERS, DescriptorOverlaps, Kernels, kernels_from_overlaps
from harmose.kernel_regression.descriptors import Triangles, exchanged_bins, smeared_atoms
from harmose.kernel_regression.settings import DEFAULT

ORDER_WEIGHT = 0.5
"""w_m = ORDER_WEIGHT^m: smaller weights for finer detail in the azimuth."""
NEGLIGIBLE = 1e-10
"""Singular values of sparse points below this fraction of the largest one are rounding."""
WORTH = 0.6
"""Share of the products that a basis must leave to be worth its singular value decomposition."""


@dataclass(frozen=True)
class KernelParameters:
    """Parameters of the kernel.

    Attributes:
        decay_length: angstrom; an atom at distances r_ik, r_jk has weight exp(-(r_ik + r_jk) / decay_length).
        length_scale: angstrom; scale of differences of edge lengths.
        amplitude_decay: angstrom; the amplitude is s(r) = exp(-(r - 1.1) / amplitude_decay).
        exponent: power of the overlap (zeta of SOAP): 1, 2, 4 or 8.
    """

    decay_length: float
    length_scale: float
    amplitude_decay: float
    exponent: int = 4


PAIR_KERNEL = KernelParameters(decay_length=3.0, length_scale=1.0, amplitude_decay=1.0)
"""Kernel for blocks between two atoms."""
ATOM_KERNEL = KernelParameters(decay_length=2.0, length_scale=0.5, amplitude_decay=3.0)
"""Kernel for what an edge adds to the block of its first atom."""
MANY_MOLECULES_PAIR_KERNEL = replace(PAIR_KERNEL, exponent=2)
"""For data sets of many molecules, where few environments are alike in every detail."""
MANY_MOLECULES_ATOM_KERNEL = replace(ATOM_KERNEL, exponent=2)


@dataclass(frozen=True)
class EdgeDescriptor:
    """Normalized descriptors of E edges.

    Attributes:
        so2: coefficients (2 ORDERS + 1, E, Q), rows as in `descriptors.moments`; Q runs over the bins of each species.
        distance: length of each edge (E,) in angstrom.
        parameters: kernel parameters.
        species: species of third atoms (S,) that have bins, ascending.
    """

    so2: np.ndarray
    distance: np.ndarray
    parameters: KernelParameters
    species: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> "EdgeDescriptor":
        return replace(self, so2=self.so2[:, rows], distance=self.distance[rows])


def edge_descriptors(
    triangles: Triangles, distance: np.ndarray, n_species: int, parameters: KernelParameters
) -> EdgeDescriptor:
    """Compute the descriptors of edges with these lengths (E,), from the triangles on them."""
    count = np.bincount(triangles.third, minlength=n_species)
    species = np.flatnonzero(count)
    if len(species) < n_species:
        triangles = replace(triangles, third=(np.cumsum(count > 0) - 1)[triangles.third])
    so2 = smeared_atoms(triangles, len(distance), len(species), parameters.decay_length, ORDERS)
    order = (np.arange(2 * ORDERS + 1) + 1) // 2
    weight = ORDER_WEIGHT**order * np.where(order, 2, 1)
    norm = weight @ np.einsum("meq,meq->me", so2, so2)
    # With the floor an edge loses the kernel's terms smoothly when its last third atom goes away.
    so2 *= np.sqrt(weight[:, None] / (norm + 1e-6))[:, :, None]
    return EdgeDescriptor(so2, distance, parameters, species)


class SparseReferences:
    """Descriptors of sparse points, ready for kernels with other edges."""

    def __init__(self, descriptors: EdgeDescriptor) -> None:
        self.distance, self.species, self._so2 = descriptors.distance, descriptors.species, descriptors.so2
        self.parameters = descriptors.parameters

    @cached_property
    def whole(self) -> "_CompressedDescriptors":
        return _CompressedDescriptors.compress(self._so2)

    @cached_property
    def halves(self) -> "tuple[_CompressedDescriptors, _CompressedDescriptors]":
        """Their even and odd parts under reversal of the edge."""
        exchanged = self._so2[:, :, exchanged_bins(self._so2.shape[2])]
        even, odd = (self._so2 + exchanged) / 2, (self._so2 - exchanged) / 2
        return _CompressedDescriptors.compress(even), _CompressedDescriptors.compress(odd)

    def overlaps(self, edges: EdgeDescriptor, both: bool) -> list[DescriptorOverlaps]:
        """Return the overlaps with edges; with `both`, those of the even and of the odd parts."""
        bins = self._common_bins(edges)
        return [part.overlaps(edges, bins) for part in (self.halves if both else (self.whole,))]

    def _common_bins(self, edges: EdgeDescriptor) -> list[tuple[slice, slice]]:
        """Bins of the species that both have, in runs: their places in `edges` and here."""
        n = edges.so2.shape[2] // max(len(edges.species), 1)
        own_start = {species: k * n for k, species in enumerate(self.species.tolist())}
        runs = [(0, 0, 0)]
        for k, species in enumerate(edges.species.tolist()):
            if species in own_start:
                start, own, length = runs[-1]
                if (start + length, own + length) == (k * n, own_start[species]):
                    runs[-1] = start, own, length + n
                else:
                    runs.append((k * n, own_start[species], n))
        return [(slice(i, i + n), slice(j, j + n)) for i, j, n in runs if n or len(runs) == 1]


@dataclass(frozen=True)
class _CompressedDescriptors:
    """Descriptors of R sparse points, in an orthonormal basis of their span where that makes overlaps cheaper.

    Components of another descriptor outside the span have no overlap with any sparse point.

    Attributes:
        basis: (ORDERS + 1, Q, r), or None for the bins themselves; then r is Q.
        scalar: m = 0 (r, R).
        so2: m = 1 ... ORDERS (ORDERS, r, 2R), real parts and then imaginary ones.
    """

    basis: np.ndarray | None
    scalar: np.ndarray
    so2: np.ndarray

    @staticmethod
    def compress(rows: np.ndarray) -> "_CompressedDescriptors":
        scalar, so2 = _by_order(rows)
        (_, columns, n_bins) = so2.shape
        most = WORTH * n_bins * columns / (n_bins + columns)
        plain = _CompressedDescriptors(None, scalar[0].T, so2.swapaxes(1, 2))
        if _least_rank(so2[0]) > most:
            return plain
        _, size, basis = np.linalg.svd(np.concatenate([scalar, np.zeros_like(scalar)], 1), full_matrices=False)
        _, sizes, bases = np.linalg.svd(so2, full_matrices=False)
        size, basis = np.concatenate([size, sizes]), np.concatenate([basis, bases])
        rank = max(int((size > NEGLIGIBLE * max(size.max(initial=0.0), 1e-300)).sum(1).max(initial=0)), 1)
        if rank > most:
            return plain
        basis = np.ascontiguousarray(basis[:, :rank].swapaxes(1, 2))
        return _CompressedDescriptors(
            basis,
            np.ascontiguousarray((scalar[0] @ basis[0]).T),
            np.ascontiguousarray((so2 @ basis[1:]).swapaxes(1, 2)),
        )

    def overlaps(self, edges: EdgeDescriptor, bins: Sequence[tuple[slice, slice]]) -> DescriptorOverlaps:
        scalar, so2 = _by_order(edges.so2)
        if self.basis is None:
            products = _sum(so2[..., i] @ self.so2[:, j] for i, j in bins)
            scalars = _sum(scalar[0][:, i] @ self.scalar[j] for i, j in bins)
        else:
            products = _sum(so2[..., i] @ self.basis[1:, j] for i, j in bins) @ self.so2
            scalars = _sum(scalar[0][:, i] @ self.basis[0, j] for i, j in bins) @ self.scalar
        return DescriptorOverlaps(scalars, products.reshape(ORDERS, 2, len(edges.distance), 2, self.scalar.shape[1]))


def _least_rank(rows: np.ndarray) -> int:
    """Return a lower bound of the rank of rows (n, Q), from squares of singular values: a tenth of the time of these."""
    squares = np.linalg.eigvalsh(rows.T @ rows)
    return int((squares > 1e-13 * max(squares[-1], 1e-300)).sum())


def _sum(parts: Iterable[np.ndarray]) -> np.ndarray:
    return reduce(iadd, parts)


def _by_order(so2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into m = 0 (1, E, Q), and real parts followed by imaginary ones of m = 1 ... ORDERS (ORDERS, 2E, Q)."""
    return so2[:1], so2[1:].reshape(ORDERS, 2 * so2.shape[1], so2.shape[2])


def edge_kernels(
    a: EdgeDescriptor, b: SparseReferences, orders: Sequence[int], block: int = DEFAULT.kernel_block
) -> list[np.ndarray]:
    """Return K_M between A edges and B sparse points for ascending orders.

    At M = 0 (2, A, B): between scalars, and between pseudoscalars. Otherwise (2A, 2B): rows and columns are the even halves,
    followed by the odd ones. `block`: edges times sparse points that are processed together.
    """
    n_a, n_b = len(a.distance), len(b.distance)
    out = [np.empty((2, n_a, 2, n_b)) if m else np.empty((2, n_a, n_b)) for m in orders]
    for rows, (kernels,) in _kernel_blocks(a, b, orders, False, block):
        for whole, part in zip(out, kernels.by_order(orders), strict=True):
            whole[:, rows] = part
    return [x.reshape(2 * n_a, 2 * n_b) if m else x for m, x in zip(orders, out, strict=True)]


def kernel_sums(
    a: EdgeDescriptor,
    b: SparseReferences,
    weights: Sequence[np.ndarray],
    n_proper: int,
    both: bool = False,
    block: int = DEFAULT.kernel_block,
) -> list[list[np.ndarray]]:
    """Return K_M @ weights[M] for M = 0, 1, ... without storing K_M: for the edges and, with `both`, the reversed edges.

    Weights (B, K) at M = 0, else (2B, K), give sums (A, K) and (2A, K). At M = 0 the first `n_proper` columns are scalars,
    the others pseudoscalars.
    """
    n_a, orders = len(a.distance), range(len(weights))
    out = [
        [np.empty((2, n_a, w.shape[1]) if m else (n_a, w.shape[1])) for m, w in enumerate(weights)]
        for _ in range(1 + both)
    ]
    scalars, pseudoscalars = slice(None, n_proper), slice(n_proper, None)
    for rows, directions in _kernel_blocks(a, b, orders, both, block):
        for sums, kernels in zip(out, directions, strict=True):
            sums[0][rows, scalars] = kernels.scalar[0] @ weights[0][:, scalars]
            sums[0][rows, pseudoscalars] = kernels.scalar[1] @ weights[0][:, pseudoscalars]
            for m, kernel in enumerate(kernels.so2, 1):
                n = kernel.shape[1]
                sums[m][:, rows] = (kernel.reshape(2 * n, -1) @ weights[m]).reshape(2, n, -1)
    return [[sums[0], *(x.reshape(2 * n_a, -1) for x in sums[1:])] for sums in out]


def _kernel_blocks(
    a: EdgeDescriptor, b: SparseReferences, orders: Sequence[int], both: bool, block: int
) -> Iterator[tuple[slice, list[Kernels]]]:
    """Yield the kernels of a few edges after the other and, with `both`, of the same edges reversed."""
    step = max(block // max(len(b.distance), 1), 1)
    for start in range(0, len(a.distance), step):
        part = a[start : start + step]
        envelope = _envelope(part.distance, b.distance, b.parameters)
        kernels = kernels_from_overlaps(b.overlaps(part, both), envelope, b.parameters.exponent, tuple(orders))
        yield slice(start, start + step), kernels


def _envelope(a: np.ndarray, b: np.ndarray, parameters: KernelParameters) -> np.ndarray:
    """Return the factors of the kernel that depend on the lengths (A,), (B,) alone: (A, B)."""
    out = a[:, None] - b
    out *= out
    out *= -1 / (2 * parameters.length_scale**2)
    np.exp(out, out=out)
    out *= np.exp(-(a[:, None] - 1.1) / parameters.amplitude_decay)
    out *= np.exp(-(b - 1.1) / parameters.amplitude_decay)
    return out
