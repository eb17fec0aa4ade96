"""Directed pairs, triangles and rotations of a graph, and the sums over the edges of atoms."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from harmose.kernel_regression.descriptors import (
    RADIUS,
    DirectedPairs,
    Triangles,
    directed_pairs,
    find_triangles,
    leaving,
    three_centre,
)
from harmose.kernel_regression.kernel import EdgeDescriptor, KernelParameters, edge_descriptors
from harmose.kernel_regression.settings import DEFAULT, RegressionSettings
from harmose.representation.block_irreps import BlockIrreps, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.layout import slot_order
from harmose.so3.harmonics import degree_of_slot, real_harmonics
from harmose.so3.wigner import edge_wigner, half_turn

SPACING = 0.4
"""Angstrom. Distance between the Gaussians of `radial_gaussians`, and their width; narrower ones fit noise."""
N_GAUSSIANS = 30
GAUSSIAN_CENTRES = SPACING * (1 + np.arange(N_GAUSSIANS))
"""Angstrom."""
TAPER = 0.25
"""Angstrom. What an atom adds to the blocks of another falls to zero over this distance before their orbitals part."""
WEIGHT_DECAY = 2.0
"""Angstrom. Kernel terms of an atom come mostly from its edges that are not much longer than the shortest."""
WEIGHT_FLOOR = 1e-3
"""Subtracted from all weights of edges; edges with a negative weight are dropped."""
OOD_DEGREES = 4
"""Number of degrees l = 0, 1, ... of the harmonics in the out-of-domain score."""
DESCRIPTOR_NUMBERS = 1000
"""About the numbers in the descriptor of an edge, for each species."""


class Neighbourhoods:
    """Directed pairs, triangles and rotations of a graph, or of a concatenated graph.

    Attributes:
        charges: charge features of the atoms, or None.
        mean_density: by species, `electronic_terms.mean_density` of the training set.
        n_pairs: number P of pairs; directed pairs are numbered 0 ... 2P - 1, the reversed ones from P on.
        same_from_both_ends: True if an edge and its reverse have the same third atoms: all pairs of atoms nearer than
            `RADIUS` are in the graph.
        reach: largest length of each directed pair (2P,), angstrom.
    """

    def __init__(
        self,
        space: BlockIrreps,
        oriented: OrientedPairs,
        charges: ChargeFeatures | None = None,
        mean_density: Mapping[int, np.ndarray] | None = None,
        settings: RegressionSettings = DEFAULT,
    ) -> None:
        self.space, self.oriented, self.charges, self.settings = space, oriented, charges, settings
        self.mean_density = mean_density or {}
        self.pairs: DirectedPairs = directed_pairs(oriented)
        self.n_pairs = len(oriented.first)
        self.n_species = len(space.elements)
        radii = np.array([space.basis.radii[z] for z in space.elements])
        self.same_from_both_ends = bool(2 * radii.min(initial=np.inf) >= RADIUS)
        self._rotations: dict[int, np.ndarray] = {}
        self.l_max = max(space.l_max, OOD_DEGREES - 1)
        self.reach = radii[self.pairs.centre_species] + radii[self.pairs.neighbour_species]

    @cached_property
    def taper(self) -> np.ndarray:
        """Weight of each directed pair (2P,): 1, falling smoothly to 0 over the last `TAPER` before its atoms part."""
        x = np.clip((self.pairs.distance - self.reach) / TAPER + 1, 0.0, 1.0)
        return 1 - x**3 * (10 - 15 * x + 6 * x**2)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """Second atom of each directed pair (2P,)."""
        return np.concatenate([self.oriented.second, self.oriented.first])

    @cached_property
    def pair_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of each pair's group, and the pair's row in it (P,), (P,)."""
        group, row = np.empty(self.n_pairs, dtype=int), np.empty(self.n_pairs, dtype=int)
        for k, pairs in enumerate(self.oriented.pairs.values()):
            group[pairs], row[pairs] = k, np.arange(len(pairs))
        return group, row

    @cached_property
    def atom_rows(self) -> np.ndarray:
        """Row of each atom among those of its shell type (N,)."""
        row = np.empty(len(self.oriented.species), dtype=int)
        for atoms in self.oriented.atoms.values():
            row[atoms] = np.arange(len(atoms))
        return row

    def triangles(self, edges: np.ndarray) -> Triangles:
        """Return the triangles on directed pairs (E,), numbered in this order."""
        return find_triangles(self.pairs, edges, self.wigner(1, edges))

    def edge_descriptors(self, edges: np.ndarray, parameters: KernelParameters, triangles: Triangles) -> EdgeDescriptor:
        """Return the descriptors of directed pairs (E,) with these triangles."""
        return edge_descriptors(triangles, self.pairs.distance[edges], self.n_species, parameters)

    def edge_chunks(self, edges: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Yield parts of `edges` (E,) whose descriptors fit into memory, and their rows."""
        step = max(self.settings.feature_numbers // max(DESCRIPTOR_NUMBERS * self.n_species, 1), 1)
        return ((edges[start : start + step], slice(start, start + step)) for start in range(0, len(edges), step))

    def atom_chunks(self, rows: np.ndarray, atoms: np.ndarray) -> list[np.ndarray]:
        """Split `rows` of `atoms` into parts whose atoms have few enough edges to be processed together."""
        _, start = self.pairs.leaving
        count = np.cumsum(start[atoms[rows] + 1] - start[atoms[rows]])
        return np.split(rows, np.flatnonzero(np.diff(count // self.settings.edges_of_atoms)) + 1)

    def wigner(self, degree: int, edges: np.ndarray) -> np.ndarray:
        """Return D(degree) into the frames of directed pairs (E,): (E, 2l+1, 2l+1)."""
        if self.n_pairs > self.settings.stored_pairs:
            pairs, is_reversed = edges % self.n_pairs, edges >= self.n_pairs
            forward = edge_wigner(degree, self.oriented.vectors[pairs])
            return np.where(is_reversed[:, None, None], forward * half_turn(degree)[:, None], forward)
        return self._stored_rotations(degree)[edges]

    def prepare(self) -> None:
        """Compute what is kept of a small graph, before several threads read it."""
        if self.n_pairs <= self.settings.stored_pairs:
            _ = self._axes, self.neighbours, self.pair_rows, self.atom_rows, self.taper
        _ = self.pairs.near, self.pairs.leaving

    def _stored_rotations(self, degree: int) -> np.ndarray:
        """D(degree) of all directed pairs (2P, 2l+1, 2l+1)."""
        if degree not in self._rotations:
            forward = self.oriented.wigner(degree).numpy()
            self._rotations[degree] = np.concatenate([forward, forward * half_turn(degree)[:, None]])
        return self._rotations[degree]

    def axes(self, edges: np.ndarray) -> np.ndarray:
        """Return sqrt(4 pi / (2l+1)) Y_lm of the directions of directed pairs (E,), l = 0 ... `l_max`: (E, (l_max+1)^2).

        For proper irreps it is the component m = 0 of the edge's frame, in the global frame.
        """
        if self.n_pairs <= self.settings.stored_pairs:
            return self._axes[edges]
        directions = self.pairs.vectors[edges] / self.pairs.distance[edges, None]
        scale = np.sqrt(4 * np.pi / (2 * degree_of_slot(self.l_max) + 1))
        return np.ascontiguousarray((real_harmonics(self.l_max, directions) * scale[:, None]).T)

    @cached_property
    def _axes(self) -> np.ndarray:
        """`axes` of all directed pairs: the middle rows of the stored rotations."""
        return np.concatenate([self._stored_rotations(degree)[:, degree] for degree in range(self.l_max + 1)], 1)

    def to_global(self, edges: np.ndarray, degree: int, parity: int) -> np.ndarray:
        """Return the rows of D(degree) that turn each slot of an edge's frame into the global frame: (slots, E, 2l+1)."""
        rows, signs = _slots(degree, parity)
        return (self.wigner(degree, edges)[:, rows] * signs[:, None]).swapaxes(0, 1)

    def axis_to_global(self, edges: np.ndarray, degree: int) -> np.ndarray:
        """Return the first of these rows, for proper irreps: (E, 2l+1)."""
        return self.axes(edges)[:, degree**2 : (degree + 1) ** 2]

    def atom_edges(self, atoms: np.ndarray) -> "AtomEdges":
        """Return all directed pairs that leave `atoms` (N,), distinct, with weights of one."""
        rows, edges = leaving(self.pairs.leaving, atoms)
        return AtomEdges(self, edges, rows, np.ones(len(edges)), len(atoms))


@lru_cache(maxsize=64)
def _slots(degree: int, parity: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of D(degree) and signs of all slots."""
    orders, signs = zip(*(slot_order(degree, parity, slot) for slot in range(2 * degree + 1)))
    return degree + np.array(orders), np.array(signs, dtype=float)


@dataclass(frozen=True)
class AtomEdges:
    """Directed pairs that leave some atoms, sorted by atom.

    Attributes:
        graph: the graph.
        edges: numbers of the directed pairs (E,).
        rows: row of the first atom of each (E,).
        weights: weight of each edge in sums over the edges of an atom (E,).
        n_atoms: number of atoms.
    """

    graph: Neighbourhoods
    edges: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    n_atoms: int

    def __getitem__(self, chosen: np.ndarray) -> "AtomEdges":
        return AtomEdges(self.graph, self.edges[chosen], self.rows[chosen], self.weights[chosen], self.n_atoms)

    @property
    def distance(self) -> np.ndarray:
        """Length of each edge (E,) in angstrom."""
        return self.graph.pairs.distance[self.edges]

    @property
    def taper(self) -> np.ndarray:
        """Weight of each edge (E,), which falls to zero where its atoms part."""
        return self.graph.taper[self.edges]

    @property
    def neighbour_species(self) -> np.ndarray:
        """Species of the second atom of each edge (E,)."""
        return self.graph.pairs.neighbour_species[self.edges]

    def by_species(self) -> "AtomEdges":
        """Return the same edges with one row for each atom and species of neighbours, row = atom * n_species + species."""
        n_species = self.graph.n_species
        rows = self.rows * n_species + self.neighbour_species
        order = np.argsort(rows, kind="stable")
        return AtomEdges(self.graph, self.edges[order], rows[order], self.weights[order], self.n_atoms * n_species)

    def weighted(self) -> "AtomEdges":
        """Return the edges with weights that fall with the length of the edge beyond the atom's shortest, and sum to about 1.

        They are zero where the atoms part, also if no other edge is left.
        """
        distance, shortest = self.distance, np.full(self.n_atoms, np.inf)
        np.minimum.at(shortest, self.rows, distance)
        weight = np.exp(-(distance - shortest[self.rows]) / WEIGHT_DECAY) * self.taper
        total = np.maximum(np.bincount(self.rows, weight, self.n_atoms), 1e-300)[self.rows]
        weight = (weight / total - WEIGHT_FLOOR) * self.taper
        return AtomEdges(self.graph, self.edges, self.rows, weight, self.n_atoms)[np.flatnonzero(weight > 0)]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum values of edges (E, ...) over the edges of each atom: (n_atoms, ...)."""
        out = np.zeros((self.n_atoms, *values.shape[1:]))
        if len(self.rows):
            out[self.rows[self._first]] = np.add.reduceat(values, self._first)
        return out

    @cached_property
    def _first(self) -> np.ndarray:
        return np.flatnonzero(np.diff(self.rows, prepend=-1))


def radial_gaussians(distance: np.ndarray) -> np.ndarray:
    """Return Gaussians in the distance: (E,) -> (E, N_GAUSSIANS)."""
    return np.exp(-(((distance[:, None] / SPACING) - 1 - np.arange(N_GAUSSIANS)) ** 2) / 2)


def pair_features(
    graph: Neighbourhoods, edges: np.ndarray, orders: int, triangles: Triangles | None
) -> list[np.ndarray]:
    """Return the linear features of directed pairs of orders M = 0 ... `orders`: (E, F) at M = 0, else (2E, F), even halves first.

    Without `triangles` these are functions of the distance alone.
    """
    distance = graph.pairs.distance[edges]
    radial = radial_gaussians(distance)
    if triangles is None:
        return [radial, *[np.zeros((2 * len(edges), 0))] * orders]
    terms = three_centre(triangles, distance, graph.n_species, orders)
    return [np.concatenate([terms[0], radial], 1), *terms[1:].reshape(orders, 2 * len(edges), terms.shape[2])]
