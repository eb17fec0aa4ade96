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
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harmose.closed_form.triangles import Triangles, cells

ORDERS = 4
"""Largest m of c_m."""
DAMPING = 0.5
"""w_m = DAMPING^m: less weight for detail in the azimuth."""
AT_ONCE = 200_000
"""Numbers of k(a) in memory: few enough for a processor's cache."""
NEGLIGIBLE = 1e-10
"""Of the largest combination of cells among reference edges; smaller ones are rounding."""


@dataclass(frozen=True)
class Likeness:
    """What makes two edges alike, in angstrom: atoms count less by e with each `fade`, lengths differ by `spread` or less,
    matrix elements fall by e with each `reach`: s(r) = exp(-(r - 1.1) / reach). `power` is a power of two.
    """

    fade: float
    spread: float
    reach: float
    power: int = 4


OF_PAIRS = Likeness(fade=3.0, spread=1.0, reach=1.0)
"""For the block of an edge."""
OF_ATOMS = Likeness(fade=2.0, spread=0.5, reach=3.0)
"""For what an edge adds to the block of its first atom."""
DIVERSE_PAIRS = replace(OF_PAIRS, power=2)
"""Among many molecules, where edges that are alike in all are rare."""
DIVERSE_ATOMS = replace(OF_ATOMS, power=2)


@dataclass(frozen=True)
class Environments:
    """What is around edges: doublets (2 ORDERS + 1, E, Q), normalised, rows as in `moments`; distance (E,) in angstrom."""

    doublets: np.ndarray
    distance: np.ndarray
    likeness: Likeness

    def __getitem__(self, chosen: np.ndarray | slice) -> "Environments":
        return Environments(self.doublets[:, chosen], self.distance[chosen], self.likeness)


def environments(triangles: Triangles, distance: np.ndarray, n_species: int, likeness: Likeness) -> Environments:
    """Of edges (E,) with these lengths; triangles numbered by them."""
    doublets = cells(triangles, len(distance), n_species, likeness.fade, ORDERS)
    order = (np.arange(2 * ORDERS + 1) + 1) // 2
    doublets *= np.sqrt(DAMPING**order * np.where(order, 2, 1))[:, None, None]
    size = np.einsum("meq,meq->e", doublets, doublets)
    # An edge whose last neighbour goes away loses this term of its regression smoothly.
    doublets /= np.sqrt(size + 1e-6)[:, None]
    return Environments(doublets, distance, likeness)


class Compared:
    """Reference edges, made ready for kernels with others: in the few combinations of cells in which they differ.

    What another edge has beside these has no overlap with any of them.
    """

    def __init__(self, references: Environments) -> None:
        self.distance = references.distance
        scalar, around = _by_order(references.doublets)
        _, size, basis = np.linalg.svd(np.concatenate([scalar, np.zeros_like(scalar)], 1), full_matrices=False)
        _, sizes, bases = np.linalg.svd(around, full_matrices=False)
        size, basis = np.concatenate([size, sizes]), np.concatenate([basis, bases])
        rank = max(int((size > NEGLIGIBLE * max(size.max(initial=0.0), 1e-300)).sum(1).max(initial=0)), 1)
        self.basis = np.ascontiguousarray(basis[:, :rank].swapaxes(1, 2))  # (m, Q, r)
        self.scalar = np.ascontiguousarray((scalar[0] @ self.basis[0]).T)  # (r, R)
        self.around = np.ascontiguousarray((around @ self.basis[1:]).swapaxes(1, 2))  # (m - 1, r, 2R)

    def overlaps(self, a: Environments, out: np.ndarray) -> None:
        """The Fourier coefficients of k(a), cosines and then sines, straight and mirrored: (2, 2 ORDERS + 1, A, R)."""
        n_a, n_b = len(a.distance), len(self.distance)
        scalar, around = _by_order(a.doublets)
        np.matmul(scalar[0] @ self.basis[0], self.scalar, out=out[0, 0])
        out[1, 0] = out[0, 0]
        products = ((around @ self.basis[1:]) @ self.around).reshape(ORDERS, 2, n_a, 2, n_b)
        (rr, ri), (ir, ii) = ((products[:, k, :, 0], products[:, k, :, 1]) for k in (0, 1))
        (even, odd), (even_mirrored, odd_mirrored) = ((x[1 : ORDERS + 1], x[ORDERS + 1 :]) for x in out)
        np.add(rr, ii, out=even)
        np.subtract(rr, ii, out=even_mirrored)
        np.subtract(ri, ir, out=odd)
        np.add(ri, ir, out=odd_mirrored)
        np.negative(odd_mirrored, out=odd_mirrored)


def _by_order(doublets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """m = 0 (1, E, Q), and the real parts followed by the imaginary ones of m = 1 ... ORDERS (m, 2E, Q)."""
    return doublets[:1], doublets[1:].reshape(ORDERS, -1, doublets.shape[2])


def edge_kernels(a: Environments, b: Compared, orders: Sequence[int]) -> list[np.ndarray]:
    """`K_M` of these orders, real: at M = 0 (2, A, B), between scalars and between pseudoscalars; otherwise (2A, 2B),
    between the even halves of doublets, followed by the odd ones.
    """
    n_a, n_b = len(a.distance), len(b.distance)
    out = [np.empty((2, n_a, 2, n_b) if m else (2, n_a, 1, n_b)) for m in orders]
    for rows, (plus, minus) in _projections(a, b, orders):
        for k, m in enumerate(orders):
            if m == 0:
                out[k][0, rows, 0], out[k][1, rows, 0] = plus[k, 0], minus[k, 0]
                continue
            out[k][:, rows, 0] = plus[k]
            np.negative(minus[k, 1], out=out[k][0, rows, 1])
            out[k][1, rows, 1] = minus[k, 0]
    return [x.reshape(2 * n_a, 2 * n_b) if m else x[:, :, 0] for m, x in zip(orders, out, strict=True)]


def weighted(a: Environments, b: Compared, weights: Sequence[np.ndarray], n_scalars: int) -> list[np.ndarray]:
    """Sums over references, `K_M @ weights[M]` of `edge_kernels`: weights (B, K) at M = 0, else (2B, K) -> (A, K), (2A, K).

    At M = 0 the first `n_scalars` columns are of scalars, the others of pseudoscalars.
    """
    n_a, n_b = len(a.distance), len(b.distance)
    out = [np.empty((n_a, weights[0].shape[1])), *(np.empty((2, n_a, w.shape[1])) for w in weights[1:])]
    scalars, others = slice(None, n_scalars), slice(n_scalars, None)
    for rows, (plus, minus) in _projections(a, b, range(len(weights))):
        out[0][rows, scalars] = plus[0, 0] @ weights[0][:, scalars]
        out[0][rows, others] = minus[0, 0] @ weights[0][:, others]
        for m in range(1, len(weights)):
            out[m][:, rows] = plus[m] @ weights[m][:n_b]
            odd = minus[m] @ weights[m][n_b:]
            out[m][0, rows] -= odd[1]
            out[m][1, rows] += odd[0]
    return [out[0], *(x.reshape(2 * n_a, -1) for x in out[1:])]


def _projections(a: Environments, b: Compared, orders: Sequence[int]) -> Iterator[tuple[slice, np.ndarray]]:
    """For some of the edges at a time, of the complex maps `y = K c + K' c*` in `K_M` the sum and the difference of K and
    K', real and imaginary parts: (2, orders, 2, edges, B).
    """
    likeness, n_b, n_angles = a.likeness, len(b.distance), a.likeness.power * ORDERS + max(orders) + 1
    angles = 2 * np.pi * np.arange(n_angles) / n_angles
    m = np.arange(ORDERS + 1)
    there = np.concatenate([np.cos(angles[:, None] * m), np.sin(angles[:, None] * m[1:])], 1)
    turns = np.array(orders)[:, None] * angles
    back = np.stack([np.cos(turns), -np.sin(turns)], 1).reshape(-1, n_angles) / (2 * n_angles)
    step = max(AT_ONCE // max(n_b * n_angles, 1), 1)
    space = [np.empty((2, n, min(step, len(a.distance)), n_b)) for n in (len(there.T), n_angles, len(back), len(back))]
    for start in range(0, len(a.distance), step):
        part = a[start : start + step]
        n = len(part.distance)
        overlaps, k, powers, both = [x[:, :, :n].reshape(2, -1, n * n_b) for x in space]
        alike = np.exp(-((part.distance[:, None] - b.distance) ** 2) / (2 * likeness.spread**2))
        alike *= np.exp(-(part.distance[:, None] + b.distance - 2.2) / likeness.reach)
        b.overlaps(part, overlaps.reshape(2, -1, n, n_b))
        np.matmul(back, _power(np.matmul(there, overlaps, out=k), likeness.power), out=powers)
        np.add(powers[0], powers[1], out=both[0])
        np.subtract(powers[0], powers[1], out=both[1])
        both *= alike.ravel()
        yield slice(start, start + n), both.reshape(2, len(orders), 2, n, n_b)


def _power(k: np.ndarray, power: int) -> np.ndarray:
    """k^power in place, by squaring: many times as fast as `**`."""
    for _ in range(power.bit_length() - 1):
        k *= k
    return k
