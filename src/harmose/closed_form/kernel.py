"""How alike the surroundings of two edges are, as a covariant kernel: many-body terms without listing them.

The atoms around an edge, smeared (`triangles.cells`), are doublets c_m of its frame. Turned by an angle a against those of
another edge they overlap by

    k(a) = sum_m w_m e^{i m a} c_m . c'_m* / (|c| |c'|)

and the kernel of a component of order M is the projection of a power of it on that order, over turns and mirror images,

    K_M = s(r) s(r') exp(-(r - r')^2 / 2 spread^2) / 2 pi  int k(a)^POWER e^{-i M a} da

A regression with it is a function of bodies up to POWER + 2, covariant under O(2) exactly, since the integrand is a
trigonometric polynomial and the sum over `angles` is exact for it. It is the kernel of smooth overlaps of atomic positions
(Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115 (2013); covariant: Grisafi, Wilkins, Csanyi and Ceriotti, Phys. Rev.
Lett. 120, 036002 (2018)), with an edge in place of an atom and O(2) in place of O(3).
"""

from dataclasses import dataclass

import numpy as np

from harmose.closed_form.triangles import Triangles, cells, moments

ORDERS = 4
"""Largest m of c_m."""
DAMPING = 0.5
"""w_m = DAMPING^m: less weight for detail in the azimuth."""
POWER = 4
"""A power of two."""
AT_ONCE = 4 * 10**6
"""Numbers of k(a) in memory."""
NEGLIGIBLE = 1e-10
"""Of the largest combination of cells among reference edges; smaller ones are rounding."""


@dataclass(frozen=True)
class Likeness:
    """What makes two edges alike, in angstrom: atoms count less by e with each `fade`, lengths differ by `spread` or less,
    matrix elements fall by e with each `reach`: s(r) = exp(-(r - 1.1) / reach).
    """

    fade: float
    spread: float
    reach: float


OF_PAIRS = Likeness(fade=3.0, spread=1.0, reach=1.0)
"""For the block of an edge."""
OF_ATOMS = Likeness(fade=2.0, spread=0.5, reach=3.0)
"""For what an edge adds to the block of its first atom."""


@dataclass(frozen=True)
class Environments:
    """What is around edges: doublets (ORDERS + 1, E, Q) complex, normalised; distance (E,) in angstrom."""

    doublets: np.ndarray
    distance: np.ndarray
    likeness: Likeness

    def __getitem__(self, chosen: np.ndarray | slice) -> "Environments":
        return Environments(self.doublets[:, chosen], self.distance[chosen], self.likeness)


def environments(triangles: Triangles, distance: np.ndarray, n_species: int, likeness: Likeness) -> Environments:
    """Of edges (E,) with these lengths; triangles numbered by them."""
    doublets = moments(triangles, len(distance), n_species, lambda sides: cells(sides, likeness.fade), ORDERS)
    weight = DAMPING ** np.arange(ORDERS + 1) * np.where(np.arange(ORDERS + 1), 2, 1)
    size = np.einsum("m,meq->e", weight, np.abs(doublets) ** 2)
    # An edge whose last neighbour goes away loses this term of its regression smoothly.
    scale = np.sqrt(weight)[:, None] / np.sqrt(size + 1e-6)
    return Environments(doublets * scale[..., None], distance, likeness)


class Compared:
    """Reference edges, made ready for `edge_kernels`: in the few combinations of cells in which they differ.

    What another edge has beside these has no overlap with any of them.
    """

    def __init__(self, references: Environments) -> None:
        self.distance = references.distance
        parts = np.concatenate([np.real(references.doublets), np.imag(references.doublets)], 1)  # (m, 2R, Q)
        _, size, basis = np.linalg.svd(parts, full_matrices=False)
        rank = max(int((size > NEGLIGIBLE * max(size.max(initial=0.0), 1e-300)).sum(1).max(initial=0)), 1)
        self.basis = np.ascontiguousarray(basis[:, :rank].swapaxes(1, 2))  # (m, Q, r)
        self.table = np.ascontiguousarray((parts @ self.basis).swapaxes(1, 2))  # (m, r, 2R)


def edge_kernels(a: Environments, b: Compared, orders: int) -> list[np.ndarray]:
    """`K_M` for M = 0 ... orders, real: at M = 0 (2, A, B), between scalars and between pseudoscalars; otherwise
    (2A, 2B), between the even halves of doublets, followed by the odd ones.
    """
    n_a, n_b, likeness = len(a.distance), len(b.distance), a.likeness
    angles = 2 * np.pi * np.arange(POWER * ORDERS + orders + 1) / (POWER * ORDERS + orders + 1)
    m, back = np.arange(ORDERS + 1), np.arange(orders + 1)[:, None] * angles
    there = np.concatenate([np.cos(angles[:, None] * m), -np.sin(angles[:, None] * m)], 1)  # (angles, 2m)
    back = np.concatenate([np.cos(back), -np.sin(back)]) / len(angles)
    straight, mirrored = (np.empty((2, orders + 1, n_a, n_b)) for _ in range(2))
    step = max(AT_ONCE // max(n_b * len(angles), 1), 1)
    for start in range(0, n_a, step):
        part = a[start : start + step]
        alike = np.exp(-((part.distance[:, None] - b.distance) ** 2) / (2 * likeness.spread**2))
        alike *= np.exp(-(part.distance[:, None] + b.distance - 2.2) / likeness.reach)
        halves = np.concatenate([np.real(part.doublets), np.imag(part.doublets)], 1) @ b.basis
        products = (halves @ b.table).reshape(ORDERS + 1, 2, len(part.distance), 2, n_b)
        (rr, ri), (ir, ii) = ((products[:, k, :, 0], products[:, k, :, 1]) for k in (0, 1))
        for out, overlap in ((straight, (rr + ii, ir - ri)), (mirrored, (rr - ii, ir + ri))):
            k = there @ np.concatenate(overlap).reshape(2 * (ORDERS + 1), -1)
            power = (back @ _power(k)).reshape(2, orders + 1, len(part.distance), n_b)
            np.multiply(power, alike, out=out[:, :, start : start + step])
    return [_real(straight[:, k], mirrored[:, k], k) for k in range(orders + 1)]


def _power(k: np.ndarray) -> np.ndarray:
    """k^POWER in place, by squaring: many times as fast as `**`."""
    for _ in range(POWER.bit_length() - 1):
        k *= k
    return k


def _real(straight: np.ndarray, mirrored: np.ndarray, order: int) -> np.ndarray:
    """The complex map `y = K c + K' c*` on even and odd halves, averaged over both mirror images."""
    plus, minus = (straight + mirrored) / 2, (straight - mirrored) / 2
    if order == 0:
        return np.stack([plus[0], minus[0]])
    return np.block([[plus[0], -minus[1]], [plus[1], minus[0]]])
