"""What a closed-form fit sees of an edge or an atom: functions of distances and triangles that O(3) allows.

Pairs: for each order m complex features (E, features) in the frame of the edge. Atoms: for each irrep features
(N, 2l + 1, features) in the global frame, summed over the atom's edges.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harmose.so3.layout import slot_order
from harmose.so3.wigner import half_turn
from harmose.targets import OrientedPairs, TargetSpace
from harmose.triangles import DirectedPairs, Triangles, directed_pairs, find_triangles, moments

SPACING = 0.4
"""Angstrom between the Gaussians in the distance, and their width. Narrower ones fit noise."""

N_GAUSSIANS = 30
ONSITE_ORDERS = 2
"""Largest order m of the doublets that on-site features are made of."""


class Surroundings:
    """Directed pairs, triangles and rotations of one graph, or of many laid end to end."""

    def __init__(self, space: TargetSpace, oriented: OrientedPairs) -> None:
        self.oriented = oriented
        self.pairs: DirectedPairs = directed_pairs(oriented)
        self.n_pairs = len(oriented.first)
        self.n_species = len(space.elements)
        self._wigner: dict[int, np.ndarray] = {}

    @cached_property
    def triangles(self) -> Triangles:
        return find_triangles(self.pairs, self.oriented.wigner(1).numpy())

    def wigner(self, degree: int) -> np.ndarray:
        """D(degree) into the frame of every directed pair (2P, 2l+1, 2l+1)."""
        if degree not in self._wigner:
            ahead = self.oriented.wigner(degree).numpy()
            self._wigner[degree] = np.concatenate([ahead, ahead * half_turn(degree)[:, None]])
        return self._wigner[degree]


def radial_gaussians(distance: np.ndarray) -> np.ndarray:
    """Gaussians in the distance (E,) -> (E, N_GAUSSIANS)."""
    return np.exp(-(((distance[:, None] / SPACING) - 1 - np.arange(N_GAUSSIANS)) ** 2) / 2)


def pair_features(graph: Surroundings, centres: Mapping, edges: np.ndarray, orders: int) -> list[np.ndarray]:
    """For each order m the features of directed edges: complex (E, features); at m = 0 with the distance's Gaussians."""
    parts = [moments(graph.triangles, edges, third, points, orders) for (third,), points in centres.items()]
    stacked = np.concatenate(parts, -1) if parts else np.zeros((orders + 1, len(edges), 0), complex)
    return [np.concatenate([np.real(stacked[0]), radial_gaussians(graph.pairs.distance[edges])], 1), *stacked[1:]]


@dataclass(frozen=True)
class EdgeViews:
    """What atoms see along their edges to one species: edges (E,) sorted by atom, rows (E,), moments per third species."""

    edges: np.ndarray
    rows: np.ndarray
    radial: np.ndarray
    moments: list[np.ndarray]


def views_of_atoms(graph: Surroundings, centres: Mapping, atoms: np.ndarray) -> list[EdgeViews]:
    """The edges of `atoms`, one entry for each species of neighbour."""
    place = np.full(len(graph.oriented.species), -1)
    place[atoms] = np.arange(len(atoms))
    row, out = place[graph.pairs.centre], []
    for neighbour in range(graph.n_species):
        edges = np.flatnonzero((row >= 0) & (graph.pairs.neighbour_species == neighbour))
        edges = edges[np.argsort(row[edges], kind="stable")]
        kinds = [(third, points) for (b, third), points in centres.items() if b == neighbour]
        seen = [moments(graph.triangles, edges, third, points, ONSITE_ORDERS) for third, points in kinds]
        out.append(EdgeViews(edges, row[edges], radial_gaussians(graph.pairs.distance[edges]), seen))
    return out


def onsite_features(graph: Surroundings, seen: list[EdgeViews], n_atoms: int, degree: int, parity: int) -> np.ndarray:
    """Irreps of atoms from all their edges: (N, 2l+1, features)."""
    parts = [np.ones((n_atoms, 1, 1))] if degree == 0 and parity > 0 else []
    for view in seen:
        wigner = graph.wigner(degree)[view.edges]
        if parity > 0:
            parts.append(_sum_rows(wigner[:, degree, :, None] * view.radial[:, None], view.rows, n_atoms))
        for x in view.moments:
            orders = x[: min(degree, ONSITE_ORDERS) + 1]
            parts += [_sum_rows(y, view.rows, n_atoms) for y in _turned_back(orders, wigner, degree, parity)]
    return np.concatenate(parts, -1) if parts else np.zeros((n_atoms, 2 * degree + 1, 0))


def _turned_back(seen: np.ndarray, wigner: np.ndarray, degree: int, parity: int) -> Iterable[np.ndarray]:
    """Doublets of edges as irreps in the global frame, one array (E, 2l+1, Q) for each order m."""
    for m in range(0 if parity > 0 else 1, len(seen)):
        out = 0
        for slot, half in ((2 * m - 1, np.real(seen[m])), (2 * m, np.imag(seen[m]))) if m else ((0, np.real(seen[0])),):
            order, sign = slot_order(degree, parity, slot)
            out = out + sign * wigner[:, degree + order, :, None] * half[:, None]
        yield np.asarray(out)


def _sum_rows(values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """Sum `values` (E, ...) with the same row; rows ascending."""
    out = np.zeros((n, *values.shape[1:]))
    if len(rows):
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        out[rows[first]] = np.add.reduceat(values, first)
    return out
