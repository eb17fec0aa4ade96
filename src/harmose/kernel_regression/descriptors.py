"""Descriptors of edges from triangles of atoms: the third atoms k around an edge i -> j, as SO(2) features of its frame.

In the frame of the edge, atom k has the distances r_ik and r_jk, a distance rho from the axis and an azimuth phi. The most
general term in the three atoms that adds to a component of order m is `f(r_ij, r_ik, r_jk) (rho e^{i phi})^m` with a smooth
function f. Two sets of functions f are here: `three_centre`, the shapes of integrals of an atom's potential between Gaussian
orbitals, and `smeared_atoms`, Gaussians on a grid of distances. Both are products of few functions of r_ik with few of r_jk, so
that sums over third atoms are small matrix products.

N-centre descriptors of blocks: Nigam, Willatt and Ceriotti, J. Chem. Phys. 156, 014115 (2022). These functions are ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harmose.kernel_regression.angles import ORDERS, compiled
from harmose.kernel_regression.settings import DEFAULT
from harmose.representation.block_irreps import OrientedPairs

RADIUS = 8.0
"""Angstrom. Third atoms further than this from either end of the edge are ignored."""

EDGE_EXPONENTS = np.array([0.0, 0.1, 0.3, 0.8])
"""1 / angstrom^2. Exponents of r_ij in `three_centre`."""
SIDE_EXPONENTS = np.array([0.0, 0.1, 0.25, 0.6, 1.4])
"""1 / angstrom^2. Exponents of r_ik and of r_jk; both sets span those of valence orbitals."""
N_THREE_CENTRE = len(EDGE_EXPONENTS) * (len(SIDE_EXPONENTS) ** 2 - 1) * 2
"""Number of functions in `three_centre` for each species of atom k."""

BIN_WIDTH = 0.5
"""Angstrom. Spacing and width of the Gaussians of `smeared_atoms`."""
BIN_CENTRES = np.arange(0.6, 5.0, BIN_WIDTH)
"""Angstrom. Their centres in r_ik and in r_jk."""
BINS = np.flatnonzero(np.abs(BIN_CENTRES[:, None] - BIN_CENTRES) < 3.0)
"""The bins that are used, |r_ik - r_jk| < 3 angstrom: this difference is at most the length of the edge."""

Functions = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Separable functions f_pbc = P_p B_b C_c. Side lengths (3, ...) and `Triangles.cutoff` (...) give P (P, ...), B (..., B) and
C (..., C)."""
MAX_SUMS, MIN_ROWS = 8_000, 4
"""Limits of the buffers in `_kernels.c`: sums of an edge, and the rows that its buffer of products has at least."""


@dataclass(frozen=True)
class DirectedPairs:
    """Both directions of P oriented pairs: all pairs first, and then all reversed pairs (2P,).

    Attributes:
        centre: first atom of each directed pair.
        centre_species: its species.
        neighbour_species: species of the second atom.
        vectors: from the first to the second atom (2P, 3), angstrom.
        distance: their lengths.
        n_atoms: number of atoms.
    """

    centre: np.ndarray
    centre_species: np.ndarray
    neighbour_species: np.ndarray
    vectors: np.ndarray
    distance: np.ndarray
    n_atoms: int

    @cached_property
    def near(self) -> tuple[np.ndarray, np.ndarray]:
        """Directed pairs shorter than `RADIUS`, sorted by first atom, and the start of each atom's pairs (n_atoms + 1,)."""
        return self._sorted(np.flatnonzero(self.distance < RADIUS))

    @cached_property
    def leaving(self) -> tuple[np.ndarray, np.ndarray]:
        """All directed pairs, sorted by first atom, and the start of each atom's pairs (n_atoms + 1,)."""
        return self._sorted(np.arange(len(self.centre)))

    def _sorted(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre = self.centre[pairs]
        count = np.bincount(centre, minlength=self.n_atoms)
        return pairs[np.argsort(centre, kind="stable")], np.concatenate([[0], np.cumsum(count)])


@dataclass(frozen=True)
class Triangles:
    """T triangles of an edge i -> j and a third atom k.

    Attributes:
        edge: number of the edge (T,) in some list of edges, ascending.
        third: species of atom k (T,).
        sides: r_ij, r_ik, r_jk (T, 3) in angstrom.
        axis: rho e^{i phi} of atom k in the frame of the edge (T,), complex, angstrom.
    """

    edge: np.ndarray
    third: np.ndarray
    sides: np.ndarray
    axis: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """Position of atom k in the frame of the edge (T, 3), angstrom."""
        return np.stack([np.real(self.axis), np.imag(self.axis), _height(self.sides.T)], 1)

    @cached_property
    def cutoff(self) -> np.ndarray:
        """Weight (T,): 1, falling smoothly to 0 where atom k is `RADIUS` away from i or from j."""
        out = np.ones(len(self.sides))
        for side in self.sides.T[1:]:
            far = np.flatnonzero(side > 0.8 * RADIUS)
            out[far] *= (1 + np.cos(np.pi * np.minimum(5 * side[far] / RADIUS - 4, 1))) / 2
        return out

    def phases(self, orders: int) -> np.ndarray:
        """Return `(rho/2)^min(m, 2) e^{i m phi}` for m = 0 ... orders, real and imaginary parts: (2 orders + 1, T)."""
        return self._phases[: 2 * orders + 1] if orders <= ORDERS else _phases(self.axis, orders)

    @cached_property
    def _phases(self) -> np.ndarray:
        return _phases(self.axis, ORDERS)


def from_positions(edge: np.ndarray, third: np.ndarray, position: np.ndarray, distance: np.ndarray) -> Triangles:
    """Return triangles on edges with these lengths (E,) and third atoms at these positions in their frames (T, 3)."""
    x, y, z = position.T
    sides = np.stack(
        [distance[edge], np.sqrt(x * x + y * y + z * z), np.sqrt(x * x + y * y + (z - distance[edge]) ** 2)]
    )
    return Triangles(edge, third, sides.T, x + 1j * y)


def directed_pairs(oriented: OrientedPairs) -> DirectedPairs:
    """Return both directions of the pairs of a graph."""
    centre = np.concatenate([oriented.first, oriented.second])
    neighbour = np.concatenate([oriented.second, oriented.first])
    vectors = np.concatenate([oriented.vectors, -oriented.vectors])
    species = oriented.species
    return DirectedPairs(
        centre, species[centre], species[neighbour], vectors, np.linalg.norm(vectors, axis=1), len(species)
    )


def find_triangles(pairs: DirectedPairs, edges: np.ndarray, frames: np.ndarray) -> Triangles:
    """Find all third atoms within `RADIUS` of both ends of directed pairs `edges` (E,), numbered 0 ... E - 1.

    `frames` (E, 3, 3): D(1) into the frame of each edge, rows and columns in the order (y, z, x).
    """
    edge, other = leaving(pairs.near, pairs.centre[edges])
    vectors = pairs.vectors[other]
    opposite_vectors = vectors - pairs.vectors[edges][edge]
    opposite = np.sqrt(np.einsum("tk,tk->t", opposite_vectors, opposite_vectors))
    keep = np.flatnonzero((opposite < RADIUS) & (opposite > 1e-8))  # the edge itself is no third atom
    edge, other = edge[keep], other[keep]
    sides = np.stack([pairs.distance[edges][edge], pairs.distance[other], opposite[keep]])
    y_and_x = np.ascontiguousarray(frames[:, ::2, [2, 0, 1]])  # columns in the order (x, y, z)
    y, x = np.einsum("tab,tb->at", y_and_x[edge], vectors[keep])
    return Triangles(edge, pairs.neighbour_species[other], sides.T, x + 1j * y)


def leaving(sorted_pairs: tuple[np.ndarray, np.ndarray], atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the directed pairs that leave `atoms` (N,), and for each of them the row of its first atom in `atoms`.

    `sorted_pairs`: `DirectedPairs.near` or `DirectedPairs.leaving`.
    """
    pairs, start = sorted_pairs
    first = start[atoms]
    repeats = start[atoms + 1] - first
    rows = np.repeat(np.arange(len(atoms)), repeats)
    return rows, pairs[np.arange(len(rows)) + np.repeat(first - np.cumsum(repeats) + repeats, repeats)]


def three_centre(triangles: Triangles, distance: np.ndarray, n_species: int, orders: int) -> np.ndarray:
    """Return moments of `z^p exp(-a r_ij^2 - b r_ik^2 - c r_jk^2)`, z the height of atom k along the edge.

    Shape (2 orders + 1, E, n_species * N_THREE_CENTRE). a is one of `EDGE_EXPONENTS`, b and c of `SIDE_EXPONENTS` and not both
    0, p is 0 or 1. The product of two Gaussian orbitals on i and j and a Gaussian potential on k integrates to a sum of these
    times powers of rho (Boys' product theorem), so that the potential of superposed atoms lies in their span, except for its
    tails.
    """
    potentials = side_potentials(triangles, len(distance), n_species, orders)[..., 1:]
    # functions in the order a, then b and c, then p
    out = edge_gaussians(distance)[:, None, :, None, None] * potentials.swapaxes(-1, -2)[:, :, :, None]
    return out.reshape(2 * orders + 1, len(distance), -1)


def edge_gaussians(distance: np.ndarray) -> np.ndarray:
    """Return `exp(-a r_ij^2)` (E, A)."""
    return np.exp(-(distance[:, None] ** 2) * EDGE_EXPONENTS)


def side_potentials(triangles: Triangles, n_edges: int, n_species: int, orders: int) -> np.ndarray:
    """Return `three_centre` without its factors in r_ij: (2 orders + 1, E, n_species, 2, B^2), with b = c = 0 first."""
    return moments(triangles, n_edges, n_species, _side_functions, orders)


def reverse_potentials(potentials: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the `side_potentials` of the reversed edges: mirrored, with b and c exchanged and r_ij - z in place of z."""
    n = len(SIDE_EXPONENTS)
    out = potentials.reshape(*potentials.shape[:-1], n, n).swapaxes(-1, -2).reshape(potentials.shape)
    out[..., 1, :] = distance[:, None, None] * out[..., 0, :] - out[..., 1, :]
    out[2::2] *= -1
    return out


def three_centre_weights(weights: np.ndarray, n_species: int) -> np.ndarray:
    """Reorder weights of `three_centre` (F, K) as weights of `side_potentials` for each factor in r_ij: (..., A K)."""
    n, n_edge, width = len(SIDE_EXPONENTS) ** 2, len(EDGE_EXPONENTS), weights.shape[1]
    out = np.zeros((n_species, 2, n, n_edge, width))
    out[:, :, 1:] = weights.reshape(n_species, n_edge, n - 1, 2, width).transpose(0, 3, 2, 1, 4)
    return out.reshape(2 * n_species * n, -1)


def _side_functions(sides: np.ndarray, cutoff: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`z^p` (2, ...), `exp(-b r_ik^2)` (..., 5) and `exp(-c r_jk^2)` (..., 5)."""
    exponents = (sides[1:] ** 2)[..., None] * -SIDE_EXPONENTS
    b, c = np.exp(exponents, out=exponents)
    return np.stack([cutoff, cutoff * _height(sides)]), b, c


def smeared_atoms(triangles: Triangles, n_edges: int, n_species: int, decay_length: float, orders: int) -> np.ndarray:
    """Return moments of Gaussians in (r_ik, r_jk) around each bin, decaying with `decay_length`: (2 orders + 1, E, Q)."""

    def gaussians(sides: np.ndarray, cutoff: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        exponents = sides[1:, ..., None] - BIN_CENTRES
        exponents *= exponents
        exponents *= -1 / (2 * BIN_WIDTH**2)
        b, c = np.exp(exponents, out=exponents)
        return (np.exp(-(sides[1] + sides[2]) / decay_length) * cutoff)[None], b, c

    return moments(triangles, n_edges, n_species, gaussians, orders)[..., BINS].reshape(2 * orders + 1, n_edges, -1)


def exchanged_bins(n: int) -> np.ndarray:
    """Return for each of the `n` bins of all species the bin in which r_ik and r_jk are exchanged (n,)."""
    first, second = np.divmod(BINS, len(BIN_CENTRES))
    exchanged = np.searchsorted(BINS, second * len(BIN_CENTRES) + first)
    return (np.arange(0, n, len(BINS))[:, None] + exchanged).ravel()


def _height(sides: np.ndarray) -> np.ndarray:
    """Height of atom k along the edge, from the side lengths: (3, ...) -> (...)."""
    return (sides[0] ** 2 + sides[1] ** 2 - sides[2] ** 2) / (2 * sides[0])


def moments(triangles: Triangles, n_edges: int, n_species: int, functions: Functions, orders: int) -> np.ndarray:
    """Sum functions of the sides times phases over the third atoms of each species: (2 orders + 1, E, n_species, P, B C).

    Row 0 is m = 0, rows 2m - 1 and 2m are the real and the imaginary part of `sum_k f(sides) (rho/2)^min(m, 2) e^{i m phi}`.
    """
    p, b, c = (factor.size for factor in functions(np.ones((3, 1)), np.ones(1)))
    fits = max((2 * orders + 1) * p, MIN_ROWS) * (b * c + 7) <= MAX_SUMS
    compute = moments_compiled if compiled is not None and fits else moments_numpy
    return compute(triangles, n_edges, n_species, functions, orders)


def moments_compiled(
    triangles: Triangles, n_edges: int, n_species: int, functions: Functions, orders: int
) -> np.ndarray:
    """Compute `moments` in C."""
    assert compiled is not None
    out, sides, cutoff, phases = _prepare(triangles, n_edges, n_species, functions, orders)
    for third in range(n_species):
        rows = np.flatnonzero(triangles.third == third)
        some = rows if len(rows) < len(cutoff) else slice(None)  # a slice copies nothing
        p, b, c = functions(sides[:, some], cutoff[some])
        start = np.concatenate([[0], np.cumsum(np.bincount(triangles.edge[some], minlength=n_edges))])
        sizes = (n_edges, len(rows), len(phases), len(p), b.shape[-1], c.shape[-1], n_species, third)
        some_phases, p, b, c = (np.ascontiguousarray(x) for x in (phases[:, some], p, b, c))
        compiled.moments(*sizes, start, some_phases, p, b, c, out)
    return out


def moments_numpy(
    triangles: Triangles,
    n_edges: int,
    n_species: int,
    functions: Functions,
    orders: int,
    at_once: int = DEFAULT.triangles,
) -> np.ndarray:
    """Compute `moments` in numpy, `at_once` triangles at a time."""
    out, sides, cutoff, phases = _prepare(triangles, n_edges, n_species, functions, orders)
    for third in range(n_species):
        rows = np.flatnonzero(triangles.third == third)
        for edges, places, exists in _padded(triangles.edge[rows], n_edges, at_once):
            some = rows[places]
            p, b, c = functions(sides[:, some], cutoff[some])
            left = phases[:, None, some] * (p * exists)
            left = np.ascontiguousarray(left.reshape(-1, *some.shape).swapaxes(0, 1))
            products = (b[..., :, None] * c[..., None, :]).reshape(*some.shape, -1)
            out[:, edges, third] = (left @ products).reshape(len(edges), len(phases), len(p), -1).swapaxes(0, 1)
    return out


def _prepare(
    triangles: Triangles, n_edges: int, n_species: int, functions: Functions, orders: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Zeros for the sums, and sides (3, T), cutoff (T,) and phases of the triangles."""
    p, b, c = (factor.size for factor in functions(np.ones((3, 1)), np.ones(1)))
    out = np.zeros((2 * orders + 1, n_edges, n_species, p, b * c))
    return out, triangles.sides.T, triangles.cutoff, triangles.phases(orders)


def _padded(edge: np.ndarray, n_edges: int, at_once: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield edges (E,) with about equally many triangles, their triangles (E, T), and which of these exist (E, T)."""
    count = np.bincount(edge, minlength=n_edges)
    start = np.cumsum(count) - count
    order = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
    done = 0
    while done < len(order):
        width = int(count[order[done]])
        edges = order[done : done + max(at_once // width, 1)]
        exists = np.arange(width) < count[edges][:, None]
        yield edges, np.where(exists, start[edges][:, None] + np.arange(width), 0), exists
        done += len(edges)


def _phases(axis: np.ndarray, orders: int) -> np.ndarray:
    """`(rho/2)^min(m, 2) e^{i m phi}`, real and imaginary parts: (T,) -> (2 orders + 1, T)."""
    rho = np.abs(axis)
    unit = np.where(rho > 1e-12, axis / np.maximum(rho, 1e-12), 1.0)
    out, phase = np.ones((2 * orders + 1, *axis.shape)), np.ones_like(axis)
    for m in range(1, orders + 1):
        phase = phase * (axis / 2 if m < 3 else unit)
        out[2 * m - 1], out[2 * m] = np.real(phase), np.imag(phase)
    return out
