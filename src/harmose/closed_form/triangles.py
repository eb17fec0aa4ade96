"""Triangles of atoms: what a third atom k adds to the edge i -> j, as doublets of the edge's frame.

Seen from the frame of the edge, atom k sits at the side lengths (r_ij, r_ik, r_jk), the distance rho from the axis and the
azimuth phi. Whatever it adds to a component of order m is `f(r_ij, r_ik, r_jk) (rho e^{i phi})^m` with a smooth f: this is
all that O(3) leaves of a three-body term. Two sets of functions f are here: `three_centre`, the shapes of integrals of an
atom's potential between Gaussian orbitals, and `cells`, a smeared picture of where the atoms around an edge are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from harmose.so3.wigner import half_turn
from harmose.targets import OrientedPairs

RADIUS = 8.0
"""Angstrom: a third atom further than this from either end of the edge adds nothing."""

EXPONENTS = np.array(
    [
        (a, b, c, power)
        for a, b, c in product((0.0, 0.1, 0.3, 0.8), *2 * [(0.0, 0.1, 0.25, 0.6, 1.4)])
        for power in (0, 1)
        if b + c > 0
    ]
)
"""Of `three_centre`: 1 / angstrom^2, spread over those of valence orbitals, and the power of z."""

CELL = 0.5
"""Angstrom: spacing and width of `cells`."""

AT_ONCE = 20_000
"""Triangles whose functions are in memory together."""

Functions = Callable[[np.ndarray], np.ndarray]
"""Side lengths (T, 3) -> values (T, Q)."""


@dataclass(frozen=True)
class DirectedPairs:
    """Both directions of oriented pairs, all ahead and then all reversed: centre, neighbour, species, vectors (2P, 3)."""

    centre: np.ndarray
    centre_species: np.ndarray
    neighbour_species: np.ndarray
    vectors: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class Triangles:
    """edge (T,) into `DirectedPairs`; third (T,) species of atom k; sides (T, 3); axis (T,) complex, rho e^{i phi}."""

    edge: np.ndarray
    third: np.ndarray
    sides: np.ndarray
    axis: np.ndarray

    def of(self, edges: np.ndarray) -> "Triangles":
        """Those on `edges` (distinct numbers), which are numbered anew in the order given."""
        place = np.full(max(edges.max(initial=-1), self.edge.max(initial=-1)) + 1, -1)
        place[edges] = np.arange(len(edges))
        rows = place[self.edge]
        chosen = np.flatnonzero(rows >= 0)
        chosen = chosen[np.argsort(rows[chosen], kind="stable")]
        return Triangles(rows[chosen], self.third[chosen], self.sides[chosen], self.axis[chosen])


def directed_pairs(oriented: OrientedPairs) -> DirectedPairs:
    """Pairs ahead (from the lower to the higher species), then their reversals."""
    centre = np.concatenate([oriented.first, oriented.second])
    neighbour = np.concatenate([oriented.second, oriented.first])
    vectors = np.concatenate([oriented.vectors, -oriented.vectors])
    species = oriented.species
    return DirectedPairs(centre, species[centre], species[neighbour], vectors, np.linalg.norm(vectors, axis=1))


def find_triangles(pairs: DirectedPairs, frames: np.ndarray) -> Triangles:
    """All ordered pairs of edges that leave one atom and end at two different ones, no further apart than `RADIUS`.

    `frames` (P, 3, 3): D(1) into the frame of each pair ahead, in the order (y, z, x).
    """
    near = np.flatnonzero(pairs.distance < RADIUS)
    near = near[np.argsort(pairs.centre[near], kind="stable")]
    count = np.bincount(pairs.centre[near], minlength=int(pairs.centre.max(initial=-1)) + 1)
    start = np.concatenate([[0], np.cumsum(count)])
    repeats = count[pairs.centre]
    edge = np.repeat(np.arange(len(pairs.centre)), repeats)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    other = near[start[pairs.centre[edge]] + within]
    opposite = np.linalg.norm(pairs.vectors[other] - pairs.vectors[edge], axis=1)
    keep = (other != edge) & (opposite < RADIUS) & (opposite > 1e-8)
    edge, other, opposite = edge[keep], other[keep], opposite[keep]
    sides = np.stack([pairs.distance[edge], pairs.distance[other], opposite], 1)
    frames = np.concatenate([frames, frames * half_turn(1)[:, None]])
    y, _, x = np.einsum("tab,tb->at", frames[edge], pairs.vectors[other][:, [1, 2, 0]])
    return Triangles(edge, pairs.neighbour_species[other], sides, x + 1j * y)


def three_centre(sides: np.ndarray) -> np.ndarray:
    """`z^p exp(-a r_ij^2 - b r_ik^2 - c r_jk^2)`, z the height of atom k along the edge: (T, 3) -> (T, 192).

    The product of two Gaussian orbitals on i and j and a Gaussian potential on k integrates to a sum of these times powers
    of rho (Boys' product theorem), so that the potential of the superposed atoms lies in their span, but for its tails.
    """
    squares = sides**2
    z = (squares[:, 0] + squares[:, 1] - squares[:, 2]) / (2 * sides[:, 0])
    values = np.exp(-squares @ EXPONENTS[:, :3].T)
    values[:, EXPONENTS[:, 3] == 1] *= z[:, None]
    return values * _cut(sides)[:, None]


def cells(sides: np.ndarray, fade: float) -> np.ndarray:
    """Gaussians around a grid of (r_ik, r_jk), falling by e over `fade` angstrom: (T, 3) -> (T, Q)."""
    axis = np.arange(0.6, 5.0, CELL)
    centres = np.stack([x.ravel() for x in np.meshgrid(axis, axis, indexing="ij")], 1)
    centres = centres[np.abs(centres[:, 0] - centres[:, 1]) < 3.0]
    a, b = (np.exp(-((sides[:, 1 + k, None] - centres[:, k]) ** 2) / (2 * CELL**2)) for k in (0, 1))
    return a * b * (np.exp(-(sides[:, 1] + sides[:, 2]) / fade) * _cut(sides))[:, None]


def _cut(sides: np.ndarray) -> np.ndarray:
    """1, falling smoothly to 0 where atom k is `RADIUS` away from i or from j."""
    x = np.clip(5 * sides[:, 1:] / RADIUS - 4, 0, 1)
    return ((1 + np.cos(np.pi * x)) / 2).prod(1)


def moments(triangles: Triangles, n_edges: int, n_species: int, functions: Functions, orders: int) -> np.ndarray:
    """Sums over the third atoms of each species: complex doublets (orders + 1, n_edges, n_species * Q).

    `moments[m, e, (s, q)] = sum_k f_q(sides) (rho/2)^min(m, 2) e^{i m phi}`; triangles sorted by edge.
    """
    width = functions(triangles.sides[:0]).shape[1]
    rho = np.abs(triangles.axis)
    phase = np.where(rho > 1e-12, triangles.axis / np.maximum(rho, 1e-12), 1.0)
    out = np.zeros((orders + 1, n_edges, n_species, width), dtype=complex)
    for third in range(n_species):
        mine = np.flatnonzero(triangles.third == third)
        for start in range(0, len(mine), AT_ONCE):
            chosen = mine[start : start + AT_ONCE]
            values, row = functions(triangles.sides[chosen]), triangles.edge[chosen]
            first = np.flatnonzero(np.diff(row, prepend=-1))
            for m in range(orders + 1):
                factor = (rho[chosen] / 2) ** min(m, 2) * phase[chosen] ** m
                # added: the triangles of an edge may lie on both sides of a cut
                out[m, row[first], third] += np.add.reduceat(values * factor[:, None], first)
    return out.reshape(orders + 1, n_edges, n_species * width)
