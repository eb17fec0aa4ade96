"""Covariant functions of edges, expanded around reference edges of the training set (`kernel`)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harmose.kernel_regression.descriptors import Triangles, from_positions
from harmose.kernel_regression.kernel import Compared, EdgeDescriptor, KernelParameters, environments, weighted
from harmose.kernel_regression.neighbourhoods import Neighbourhoods

AT_ONCE = 5 * 10**5
"""Numbers of features of edges in memory."""
ENVIRONMENT = 1000
"""Numbers for each species that a picture of an edge's surroundings takes, about."""


@dataclass(frozen=True)
class References:
    """Edges of the training set that others are compared with: lengths (R,), and the atoms around: edge (T,), ascending,
    third (T,) species, position (T, 3) in the edge's frame, angstrom.
    """

    distance: np.ndarray
    edge: np.ndarray
    third: np.ndarray
    position: np.ndarray
    n_species: int
    likeness: KernelParameters

    @staticmethod
    def of(triangles: Triangles, distance: np.ndarray, n_species: int, likeness: KernelParameters) -> "References":
        """Edges with these triangles."""
        return References(distance, triangles.edge, triangles.third, triangles.position, n_species, likeness)

    @cached_property
    def compared(self) -> Compared:
        triangles = from_positions(self.edge, self.third, self.position, self.distance)
        return Compared(environments(triangles, self.distance, self.n_species, self.likeness))


@dataclass(frozen=True)
class KernelExpansion:
    """A covariant function of edges, expanded around references: weights[M] (R, K) at M = 0, else (2R, K)."""

    references: References
    weights: Mapping[int, np.ndarray]
    n_proper: int
    """Columns of scalars at M = 0; the others are pseudoscalars."""

    def values(self, graph: Neighbourhoods, edges: np.ndarray) -> np.ndarray:
        """Directed edges (E,) -> slots (E, 2 M + 1, K)."""
        out = np.zeros((len(edges), 2 * len(self.weights) - 1, self.weights[0].shape[1]))
        for part, rows in in_turn(edges, ENVIRONMENT * graph.n_species):
            self.add([out[rows]], graph.environments(part, self.references.likeness, graph.triangles(part)))
        return out

    def add(self, out: list[np.ndarray], seen: EdgeDescriptor) -> None:
        """The same, added to `out[0]` (E, slots, K), of few edges whose surroundings these are; and to `out[1]`, if there is one,
        that of the same edges reversed.
        """
        columns, weights = zip(*self._some)
        sides = weighted(seen, self.references.compared, weights, self.n_proper, both=len(out) == 2)
        for side, orders in zip(out, sides, strict=True):
            for m, found in enumerate(orders):
                add_order(side, m, columns[m], found)

    @cached_property
    def _some(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return some_columns(self.weights)


def some_columns(weights: Mapping[int, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each order the columns that are not all zero, and what is in them; up to the last order that has any.

    Irreps of degree L have no component of an order above L. Order 0 keeps all its columns.
    """
    columns = [np.flatnonzero(w.any(0)) if m else np.arange(w.shape[1]) for m, w in sorted(weights.items())]
    last = max(m for m, c in enumerate(columns) if len(c) or m == 0)
    return [(columns[m], np.ascontiguousarray(weights[m][:, columns[m]])) for m in range(last + 1)]


def add_order(out: np.ndarray, m: int, columns: np.ndarray, values: np.ndarray) -> None:
    """Components of order M, (E, columns) at M = 0, else (2E, columns), into their slots of (E, slots, K)."""
    if m == 0:
        out[:, 0] += values
        return
    out[:, 2 * m - 1 : 2 * m + 1, columns] += values.reshape(2, len(out), -1).swapaxes(0, 1)


def in_turn(edges: np.ndarray, width: int) -> Iterable[tuple[np.ndarray, slice]]:
    """Parts of the edges whose rows of so many numbers fit into memory, and where they are."""
    step = max(AT_ONCE // max(width, 1), 1)
    return ((edges[start : start + step], slice(start, start + step)) for start in range(0, len(edges), step))


def rows_by_key(keys: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    """Each value that occurs, and where."""
    return ((k, np.flatnonzero(keys == k)) for k in np.flatnonzero(np.bincount(keys)).tolist())
