"""Triangles of atoms: what a third atom k adds to the edge i -> j, as doublets of the edge's frame.

Seen from the frame of the edge, atom k sits at the side lengths (r_ij, r_ik, r_jk), the distance rho from the axis and the
azimuth phi. Whatever it adds to a component of order m is `f_m(r_ij, r_ik, r_jk) (rho e^{i phi})^m` with a smooth f_m: this
is all that O(3) leaves of a three-body term. f_m is expanded in Gaussians around centres taken from the training set.
"""

from dataclasses import dataclass

import numpy as np

from harmose.so3.wigner import half_turn
from harmose.targets import OrientedPairs

WIDTH = 0.7
"""Angstrom: width of the Gaussians in the space of side lengths; the smoothness that a matrix element has there."""

RADIUS = 8.0
"""Angstrom: a third atom further than this from either end of the edge adds nothing."""


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


def expand(triangles: Triangles, chosen: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """f_q of the chosen triangles: Gaussians around `centres` (Q, 3), faded out with distance and at `RADIUS`; (T, Q)."""
    sides = triangles.sides[chosen]
    squares = (sides**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * sides @ centres.T
    fade = np.exp(-(sides[:, 1] + sides[:, 2]) / 4)
    for side in (sides[:, 1], sides[:, 2]):
        fade = fade * (1 + np.cos(np.pi * np.clip(side / RADIUS * 5 - 4, 0, 1))) / 2
    return np.exp(-np.maximum(squares, 0) / (2 * WIDTH**2)) * fade[:, None]


def moments(triangles: Triangles, edges: np.ndarray, third: int, centres: np.ndarray, orders: int) -> np.ndarray:
    """Sum over third atoms of one species: complex doublets of `edges` (E,), shape (orders + 1, E, Q).

    `moments[m, e, q] = sum_k f_q(sides) (rho/2)^min(m, 2) e^{i m phi}`.
    """
    place = np.full(int(max(edges.max(initial=-1), triangles.edge.max(initial=-1))) + 1, -1)
    place[edges] = np.arange(len(edges))
    chosen = np.flatnonzero((triangles.third == third) & (place[triangles.edge] >= 0))
    out = np.zeros((orders + 1, len(edges), len(centres)), dtype=complex)
    if not len(chosen):
        return out
    # Triangles come sorted by edge, but `edges` may be in any order: sum runs of equal rows.
    row = place[triangles.edge[chosen]]
    chosen, row = chosen[np.argsort(row, kind="stable")], np.sort(row)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    values = expand(triangles, chosen, centres)
    rho = np.abs(triangles.axis[chosen])
    phase = np.where(rho > 1e-12, triangles.axis[chosen] / np.maximum(rho, 1e-12), 1.0)
    for m in range(orders + 1):
        factor = (rho / 2) ** min(m, 2) * phase**m
        out[m, row[first]] = np.add.reduceat(values * factor[:, None], first)
    return out


def spread_centres(sides: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """At most `count` of the side lengths (T, 3), far from each other (farthest-point sampling), none within 0.05."""
    points = sides[generator.permutation(len(sides))[:10000]]
    chosen, distance = [0], ((points - points[0]) ** 2).sum(1)
    while len(chosen) < min(count, len(points)) and distance.max() > 0.05**2:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[chosen]
