"""What the closed-form fit sees of the edges and atoms of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch

from harmose.kernel_regression.descriptors import (
    RADIUS,
    DirectedPairs,
    Triangles,
    directed_pairs,
    find_triangles,
    leaving,
    three_centre,
)
from harmose.kernel_regression.kernel import EdgeDescriptor, KernelParameters, environments
from harmose.representation.block_irreps import BlockIrreps, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.layout import slot_order
from harmose.so3.harmonics import real_harmonics
from harmose.so3.wigner import edge_wigner, half_turn

SPACING = 0.4
"""Angstrom between the Gaussians in the distance, and their width. Narrower ones fit noise."""

N_GAUSSIANS = 30

SHARE_RANGE = 2.0
"""Angstrom: an atom's many-body terms come mostly from its edges not much longer than the shortest."""
LEAST_SHARE = 1e-3

DEGREES = 4
"""Of the harmonics that tell whether surroundings are familiar (`ood_score`), at least."""

KEPT = 20_000
"""Pairs of a graph whose rotations are kept; of a larger one they are computed for those edges that are worked on."""


EDGES_AT_ONCE = 5_000
"""Largest number of edges leaving the atoms that are processed together."""


class Neighbourhoods:
    """Directed pairs, triangles and rotations of one graph, or of many laid end to end.

    What its electrons do, if known, is compared with `mean_density` of each species (`electronic.mean_density`).
    """

    def __init__(
        self,
        space: BlockIrreps,
        oriented: OrientedPairs,
        charges: ChargeFeatures | None = None,
        mean_density: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        self.space, self.oriented, self.charges = space, oriented, charges
        self.mean_density = mean_density or {}
        self.pairs: DirectedPairs = directed_pairs(oriented)
        self.n_pairs = len(oriented.first)
        self.n_species = len(space.elements)
        radii = np.array([space.basis.radii[z] for z in space.elements])
        self.same_from_both_ends = bool(2 * radii.min(initial=np.inf) >= RADIUS)
        """Whether all third atoms of an edge are there from either end: no pair that is near enough was too long to be one."""
        self._wigner: dict[int, np.ndarray] = {}
        self.l_max = max(space.l_max, DEGREES - 1)
        self.reach = radii[self.pairs.centre_species] + radii[self.pairs.neighbour_species]

    @cached_property
    def neighbours(self) -> np.ndarray:
        """The second atom of every directed pair (2P,)."""
        return np.concatenate([self.oriented.second, self.oriented.first])

    @cached_property
    def pair_places(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every pair: the number of its group among the members of `OrientedPairs`, and its row there (P,), (P,)."""
        group, place = np.empty(self.n_pairs, dtype=int), np.empty(self.n_pairs, dtype=int)
        for k, members in enumerate(self.oriented.members.values()):
            group[members], place[members] = k, np.arange(len(members))
        return group, place

    @cached_property
    def atom_places(self) -> np.ndarray:
        """Of every atom its row among those of its signature (N,)."""
        place = np.empty(len(self.oriented.species), dtype=int)
        for atoms in self.oriented.atoms.values():
            place[atoms] = np.arange(len(atoms))
        return place

    def triangles(self, edges: np.ndarray) -> Triangles:
        """Those on directed pairs (E,), numbered in this order."""
        return find_triangles(self.pairs, edges, self.wigner(1, edges))

    def wigner(self, degree: int, edges: np.ndarray) -> np.ndarray:
        """D(degree) into the frames of directed pairs (E,): (E, 2l+1, 2l+1)."""
        if self.n_pairs > KEPT:
            pairs, back = edges % self.n_pairs, edges >= self.n_pairs
            ahead = edge_wigner(degree, torch.as_tensor(self.oriented.vectors[pairs])).numpy()
            return np.where(back[:, None, None], ahead * half_turn(degree)[:, None], ahead)
        return self._kept(degree)[edges]

    def _kept(self, degree: int) -> np.ndarray:
        """`wigner` of all directed pairs."""
        if degree not in self._wigner:
            ahead = self.oriented.wigner(degree).numpy()
            self._wigner[degree] = np.concatenate([ahead, ahead * half_turn(degree)[:, None]])
        return self._wigner[degree]

    def axes(self, edges: np.ndarray) -> np.ndarray:
        """Harmonics l = 0 ... `l_max` of the directions of directed pairs (E,), but for sqrt(4 pi / (2 l + 1)): (E, (l_max + 1)^2).

        What the first slot of an edge's frame is in the global frame, for natural parity.
        """
        if self.n_pairs <= KEPT:
            return self._axes[edges]
        directions = self.pairs.vectors[edges] / self.pairs.distance[edges, None]
        degree = np.repeat(np.arange(self.l_max + 1), 2 * np.arange(self.l_max + 1) + 1)
        scale = np.sqrt(4 * np.pi / (2 * degree + 1))
        return np.ascontiguousarray((real_harmonics(self.l_max, directions) * scale[:, None]).T)

    @cached_property
    def _axes(self) -> np.ndarray:
        """The middle rows of the rotations that are kept anyway."""
        return np.concatenate([self._kept(degree)[:, degree] for degree in range(self.l_max + 1)], 1)

    def environments(self, edges: np.ndarray, likeness: KernelParameters, triangles: Triangles) -> EdgeDescriptor:
        """What is around `edges`, which have these triangles."""
        return environments(triangles, self.pairs.distance[edges], self.n_species, likeness)


def radial_gaussians(distance: np.ndarray) -> np.ndarray:
    """Gaussians in the distance (E,) -> (E, N_GAUSSIANS)."""
    return np.exp(-(((distance[:, None] / SPACING) - 1 - np.arange(N_GAUSSIANS)) ** 2) / 2)


def pair_features(
    graph: Neighbourhoods, edges: np.ndarray, orders: int, triangles: Triangles | None
) -> list[np.ndarray]:
    """For each order M the linear features of directed edges: (E, F) at M = 0, else (2E, F), even halves first.

    Without `triangles` functions of the distance alone.
    """
    distance = graph.pairs.distance[edges]
    radial = radial_gaussians(distance)
    if triangles is None:
        return [radial, *[np.zeros((2 * len(edges), 0))] * orders]
    seen = three_centre(triangles, distance, graph.n_species, orders)
    around = seen[1:].reshape(orders, 2 * len(edges), seen.shape[2])
    return [np.concatenate([seen[0], radial], 1), *around]


@dataclass(frozen=True)
class Neighbourhood:
    """Edges (E,) that leave some atoms, rows (E,) which of the atoms each leaves, shares (E,) smooth weights or ones."""

    edges: np.ndarray
    rows: np.ndarray
    shares: np.ndarray
    n_atoms: int

    def __getitem__(self, chosen: np.ndarray) -> "Neighbourhood":
        return Neighbourhood(self.edges[chosen], self.rows[chosen], self.shares[chosen], self.n_atoms)

    def by_species(self, graph: "Neighbourhoods") -> "Neighbourhood":
        """The same sorted by atom and then by the neighbour's species, with a row for each two of them."""
        rows = self.rows * graph.n_species + graph.pairs.neighbour_species[self.edges]
        order = np.argsort(rows, kind="stable")
        return Neighbourhood(self.edges[order], rows[order], self.shares[order], self.n_atoms * graph.n_species)

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Sums over each atom's edges: (E, ...) -> (n_atoms, ...)."""
        out = np.zeros((self.n_atoms, *values.shape[1:]))
        if len(self.rows):
            out[self.rows[self._first]] = np.add.reduceat(values, self._first)
        return out

    @cached_property
    def _first(self) -> np.ndarray:
        return np.flatnonzero(np.diff(self.rows, prepend=-1))


def neighbourhood(graph: Neighbourhoods, atoms: np.ndarray) -> Neighbourhood:
    """All edges that leave `atoms` (distinct), sorted by atom, with shares of one."""
    rows, edges = leaving(graph.pairs.leaving, atoms)
    return Neighbourhood(edges, rows, np.ones(len(edges)), len(atoms))


def shared(graph: Neighbourhoods, around: Neighbourhood) -> Neighbourhood:
    """The same with shares that fall with the length of the edge against the atom's shortest, and sum to about one."""
    distance = graph.pairs.distance[around.edges]
    shortest = np.full(around.n_atoms, np.inf)
    np.minimum.at(shortest, around.rows, distance)
    weight = np.exp(-(distance - shortest[around.rows]) / SHARE_RANGE)
    share = weight / np.bincount(around.rows, weight, around.n_atoms)[around.rows] - LEAST_SHARE
    return Neighbourhood(around.edges, around.rows, share, around.n_atoms)[np.flatnonzero(share > 0)]


def turned_back(graph: Neighbourhoods, edges: np.ndarray, degree: int, parity: int) -> np.ndarray:
    """Rows of D(degree) that bring each slot of an edge's frame into the global frame: (slots, E, 2l+1)."""
    rows, signs = _slots(degree, parity)
    return (graph.wigner(degree, edges)[:, rows] * signs[:, None]).swapaxes(0, 1)


def axis_turned_back(graph: Neighbourhoods, edges: np.ndarray, degree: int) -> np.ndarray:
    """The first of them for natural parity, (E, 2l+1)."""
    return graph.axes(edges)[:, degree**2 : (degree + 1) ** 2]


@lru_cache(maxsize=64)
def _slots(degree: int, parity: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of D(degree) and signs, for each slot."""
    orders, signs = zip(*(slot_order(degree, parity, slot) for slot in range(2 * degree + 1)))
    return degree + np.array(orders), np.array(signs, dtype=float)


def atoms_in_turn(graph: Neighbourhoods, rows: np.ndarray, atoms: np.ndarray) -> list[np.ndarray]:
    """Parts of `rows` whose `atoms` have few enough edges to be in memory together."""
    _, start = graph.pairs.leaving
    count = np.cumsum(start[atoms[rows] + 1] - start[atoms[rows]])
    return np.split(rows, np.flatnonzero(np.diff(count // EDGES_AT_ONCE)) + 1)
