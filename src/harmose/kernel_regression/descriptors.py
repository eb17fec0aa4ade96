"""Triangles of atoms: what a third atom k adds to the edge i -> j, as doublets of the edge's frame.

Seen from the frame of the edge, atom k sits at the side lengths (r_ij, r_ik, r_jk), the distance rho from the axis and the
azimuth phi. Whatever it adds to a component of order m is `f(r_ij, r_ik, r_jk) (rho e^{i phi})^m` with a smooth f: this is
all that O(3) leaves of a three-body term. Two sets of functions f are here: `three_centre`, the shapes of integrals of an
atom's potential between Gaussian orbitals, and `cells`, a smeared picture of where the atoms around an edge are. Both are
products of few functions of r_ik with few of r_jk, so that their sums over the third atoms are small matrix products.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harmose.kernel_regression.angles import compiled
from harmose.representation.block_irreps import OrientedPairs

RADIUS = 8.0
"""Angstrom: a third atom further than this from either end of the edge adds nothing."""

ALONG = np.array([0.0, 0.1, 0.3, 0.8])
"""Exponents of r_ij in `three_centre`, 1 / angstrom^2."""
ASIDE = np.array([0.0, 0.1, 0.25, 0.6, 1.4])
"""Those of r_ik and of r_jk: with `ALONG` spread over those of valence orbitals."""

CELL = 0.5
"""Angstrom: spacing and width of `cells`."""
GRID = np.arange(0.6, 5.0, CELL)
"""Angstrom: their centres in r_ik and in r_jk."""

AT_ONCE = 2_000
"""Triangles whose functions are in memory together: few enough for a processor's cache."""

Functions = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Side lengths (3, ...) and `Triangles.cut` (...) -> factors (P, ...), (..., B) and (..., C): the functions are the products of
one of each."""
ROOM, TOGETHER = 8_000, 4
"""Sums for an edge that `_kernels.c` has room for, and the triangles whose products it needs as much for."""


@dataclass(frozen=True)
class DirectedPairs:
    """Both directions of oriented pairs, all ahead and then all reversed: centre, neighbour, species, vectors (2P, 3)."""

    centre: np.ndarray
    centre_species: np.ndarray
    neighbour_species: np.ndarray
    vectors: np.ndarray
    distance: np.ndarray
    n_atoms: int

    @cached_property
    def near(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs shorter than `RADIUS`, sorted by centre; where those of each centre start, and the end."""
        return self._sorted(np.flatnonzero(self.distance < RADIUS))

    @cached_property
    def leaving(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of all pairs."""
        return self._sorted(np.arange(len(self.centre)))

    def _sorted(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre = self.centre[pairs]
        count = np.bincount(centre, minlength=self.n_atoms)
        return pairs[np.argsort(centre, kind="stable")], np.concatenate([[0], np.cumsum(count)])


@dataclass(frozen=True)
class Triangles:
    """edge (T,), ascending, into some list of edges; third (T,) species of atom k; sides (T, 3); axis (T,) complex,
    rho e^{i phi}."""

    edge: np.ndarray
    third: np.ndarray
    sides: np.ndarray
    axis: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """Of atom k in the edge's frame (T, 3), angstrom."""
        return np.stack([np.real(self.axis), np.imag(self.axis), _height(self.sides.T)], 1)

    @cached_property
    def cut(self) -> np.ndarray:
        """1, falling smoothly to 0 where atom k is `RADIUS` away from i or from j: (T,)."""
        out = np.ones(len(self.sides))
        for side in self.sides.T[1:]:
            far = np.flatnonzero(side > 0.8 * RADIUS)
            out[far] *= (1 + np.cos(np.pi * np.minimum(5 * side[far] / RADIUS - 4, 1))) / 2
        return out

    def turns(self, orders: int) -> np.ndarray:
        """`(rho/2)^min(m, 2) e^{i m phi}`, real and imaginary parts: (2 orders + 1, T)."""
        if orders not in self._known_turns:
            self._known_turns[orders] = _turns(self.axis, orders)
        return self._known_turns[orders]

    @cached_property
    def _known_turns(self) -> dict[int, np.ndarray]:
        return {}


def from_positions(edge: np.ndarray, third: np.ndarray, position: np.ndarray, distance: np.ndarray) -> Triangles:
    """Triangles on edges of these lengths (E,) whose third atoms are at (x, y, z) in their frames (T, 3)."""
    x, y, z = position.T
    sides = np.stack(
        [distance[edge], np.sqrt(x * x + y * y + z * z), np.sqrt(x * x + y * y + (z - distance[edge]) ** 2)]
    )
    return Triangles(edge, third, sides.T, x + 1j * y)


def directed_pairs(oriented: OrientedPairs) -> DirectedPairs:
    """Pairs ahead (from the lower to the higher species), then their reversals."""
    centre = np.concatenate([oriented.first, oriented.second])
    neighbour = np.concatenate([oriented.second, oriented.first])
    vectors = np.concatenate([oriented.vectors, -oriented.vectors])
    species = oriented.species
    return DirectedPairs(
        centre, species[centre], species[neighbour], vectors, np.linalg.norm(vectors, axis=1), len(species)
    )


def find_triangles(pairs: DirectedPairs, edges: np.ndarray, frames: np.ndarray) -> Triangles:
    """Edges that leave the first atom of each of `edges` (E,) and end at a third one, no further than `RADIUS` from both.

    `frames` (E, 3, 3): D(1) into the frame of each of `edges`, in the order (y, z, x). Edges are numbered as given.
    """
    edge, other = leaving(pairs.near, pairs.centre[edges])
    vectors = pairs.vectors[other]
    across = vectors - pairs.vectors[edges][edge]
    opposite = np.sqrt(np.einsum("tk,tk->t", across, across))
    # the edge itself ends where it ends
    keep = np.flatnonzero((opposite < RADIUS) & (opposite > 1e-8))
    edge, other = edge[keep], other[keep]
    sides = np.stack([pairs.distance[edges][edge], pairs.distance[other], opposite[keep]])
    y_and_x = np.ascontiguousarray(frames[:, ::2, [2, 0, 1]])  # of (x, y, z)
    y, x = np.einsum("tab,tb->at", y_and_x[edge], vectors[keep])
    return Triangles(edge, pairs.neighbour_species[other], sides.T, x + 1j * y)


def leaving(sorted_pairs: tuple[np.ndarray, np.ndarray], atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that leave atoms (N,), atom after atom: which of the atoms each leaves, and the pairs.

    `sorted_pairs`: `DirectedPairs.near` or `DirectedPairs.leaving`.
    """
    pairs, start = sorted_pairs
    first = start[atoms]
    repeats = start[atoms + 1] - first
    rows = np.repeat(np.arange(len(atoms)), repeats)
    return rows, pairs[np.arange(len(rows)) + np.repeat(first - np.cumsum(repeats) + repeats, repeats)]


def three_centre(triangles: Triangles, distance: np.ndarray, n_species: int, orders: int) -> np.ndarray:
    """Moments of `z^p exp(-a r_ij^2 - b r_ik^2 - c r_jk^2)`, z the height of atom k along the edge: (2 orders + 1, E, F).

    The product of two Gaussian orbitals on i and j and a Gaussian potential on k integrates to a sum of these times powers
    of rho (Boys' product theorem), so that the potential of the superposed atoms lies in their span, but for its tails.
    a is in `ALONG`, b and c in `ASIDE` and not both 0, p is 0 or 1: 192 functions for each species of atom k.
    """
    seen = potentials(triangles, len(distance), n_species, orders)[..., 1:]
    # the functions come out by a, then b and c, then p
    out = along_edge(distance)[:, None, :, None, None] * seen.swapaxes(-1, -2)[:, :, :, None]
    return out.reshape(2 * orders + 1, len(distance), -1)


def along_edge(distance: np.ndarray) -> np.ndarray:
    """`exp(-a r_ij^2)`: (E, A)."""
    return np.exp(-(distance[:, None] ** 2) * ALONG)


def potentials(triangles: Triangles, n_edges: int, n_species: int, orders: int) -> np.ndarray:
    """`three_centre` without its factors in r_ij, and with b = c = 0, first: (2 orders + 1, E, n_species, 2, B^2), by p."""
    return moments(triangles, n_edges, n_species, _two_centre, orders)


def potentials_from_the_other_end(seen: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """`potentials` of edges of these lengths (E,), seen from their other ends: turned over, b for c and r_ij - z for z."""
    n = len(ASIDE)
    out = seen.reshape(*seen.shape[:-1], n, n).swapaxes(-1, -2).reshape(seen.shape)
    out[..., 1, :] = distance[:, None, None] * out[..., 0, :] - out[..., 1, :]
    out[2::2] *= -1
    return out


def three_centre_weights(weights: np.ndarray, n_species: int) -> np.ndarray:
    """Weights of `three_centre` (F, K) as those of `potentials` for each of the factors in r_ij: (.., A K)."""
    n, width = len(ASIDE) ** 2, weights.shape[1]
    out = np.zeros((n_species, 2, n, len(ALONG), width))
    out[:, :, 1:] = weights.reshape(n_species, len(ALONG), n - 1, 2, width).transpose(0, 3, 2, 1, 4)
    return out.reshape(2 * n_species * n, -1)


def _two_centre(sides: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`z^p` and `exp(-b r_ik^2 - c r_jk^2)`, b = c = 0 first: (2, ...), (..., 5) and (..., 5)."""
    aside = (sides[1:] ** 2)[..., None] * -ASIDE
    b, c = np.exp(aside, out=aside)
    return np.stack([cut, cut * _height(sides)]), b, c


def cells(triangles: Triangles, n_edges: int, n_species: int, fade: float, orders: int) -> np.ndarray:
    """Moments of Gaussians around a grid of (r_ik, r_jk), falling by e over `fade` angstrom: (2 orders + 1, E, Q)."""

    def gaussians(sides: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        aside = sides[1:, ..., None] - GRID
        aside *= aside
        aside *= -1 / (2 * CELL**2)
        b, c = np.exp(aside, out=aside)
        return (np.exp(-(sides[1] + sides[2]) / fade) * cut)[None], b, c

    seen = moments(triangles, n_edges, n_species, gaussians, orders)
    return seen[..., _inside()].reshape(2 * orders + 1, n_edges, -1)


def exchanged_cells(n: int) -> np.ndarray:
    """Of the `n` cells of all species, those in which r_ik and r_jk are exchanged (n,)."""
    inside = _inside()
    first, second = np.divmod(inside, len(GRID))
    turned = np.searchsorted(inside, second * len(GRID) + first)
    return (np.arange(0, n, len(inside))[:, None] + turned).ravel()


def _inside() -> np.ndarray:
    """Cells that an atom can be in."""
    return np.flatnonzero(np.abs(GRID[:, None] - GRID) < 3.0)


def _products(b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """All of one each: (..., B), (..., C) -> (..., B C)."""
    return (b[..., :, None] * c[..., None, :]).reshape(*b.shape[:-1], -1)


def _height(sides: np.ndarray) -> np.ndarray:
    """Of atom k along the edge: (3, ...) -> (...)."""
    return (sides[0] ** 2 + sides[1] ** 2 - sides[2] ** 2) / (2 * sides[0])


def moments(triangles: Triangles, n_edges: int, n_species: int, functions: Functions, orders: int) -> np.ndarray:
    """Sums over the third atoms of each species: (2 orders + 1, n_edges, n_species, P, Q).

    Row 0 is m = 0, rows 2m - 1 and 2m are the real and the imaginary part of
    `sum_k f(sides) (rho/2)^min(m, 2) e^{i m phi}`.
    """
    n_along, n_b, n_c = (factor.size for factor in functions(np.ones((3, 1)), np.ones(1)))
    out = np.zeros((2 * orders + 1, n_edges, n_species, n_along, n_b * n_c))
    sides, cut, turns = triangles.sides.T, triangles.cut, triangles.turns(orders)
    fits = max((2 * orders + 1) * n_along, TOGETHER) * (n_b * n_c + 7) <= ROOM
    for third in range(n_species):
        mine = np.flatnonzero(triangles.third == third)
        if compiled is not None and fits:
            some = mine if len(mine) < len(cut) else slice(None)  # which copies nothing
            along, b, c = functions(sides[:, some], cut[some])
            start = np.concatenate([[0], np.cumsum(np.bincount(triangles.edge[some], minlength=n_edges))])
            sizes = (n_edges, len(mine), 2 * orders + 1, n_along, n_b, n_c, n_species, third)
            turned, along, b, c = (np.ascontiguousarray(x) for x in (turns[:, some], along, b, c))
            compiled.moments(*sizes, start, turned, along, b, c, out)
            continue
        for edges, rows, present in _padded(triangles.edge[mine], n_edges):
            chosen = mine[rows]
            along, *aside = functions(sides[:, chosen], cut[chosen])
            left = turns[:, None, chosen] * (along * present)
            left = np.ascontiguousarray(left.reshape(-1, *chosen.shape).swapaxes(0, 1))
            out[:, edges, third] = (left @ _products(*aside)).reshape(len(edges), -1, n_along, n_b * n_c).swapaxes(0, 1)
    return out


def _padded(edge: np.ndarray, n_edges: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Edges with about equally many triangles, which triangles each has (E, T), and which of these exist (E, T)."""
    count = np.bincount(edge, minlength=n_edges)
    start = np.cumsum(count) - count
    order = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
    done = 0
    while done < len(order):
        width = int(count[order[done]])
        edges = order[done : done + max(AT_ONCE // width, 1)]
        present = np.arange(width) < count[edges][:, None]
        yield edges, np.where(present, start[edges][:, None] + np.arange(width), 0), present
        done += len(edges)


def _turns(axis: np.ndarray, orders: int) -> np.ndarray:
    """`(rho/2)^min(m, 2) e^{i m phi}`, real and imaginary parts: (...) -> (2 orders + 1, ...)."""
    rho = np.abs(axis)
    phase = np.where(rho > 1e-12, axis / np.maximum(rho, 1e-12), 1.0)
    out, turn = np.ones((2 * orders + 1, *axis.shape)), np.ones_like(axis)
    for m in range(1, orders + 1):
        turn = turn * (axis / 2 if m < 3 else phase)
        out[2 * m - 1], out[2 * m] = np.real(turn), np.imag(turn)
    return out
