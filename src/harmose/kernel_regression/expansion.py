"""Covariant functions of edges as sums of kernels with sparse points of the training set.

    f_M(e) = sum over sparse points e' of K_M(e, e') w_M(e')

Sparse points, or inducing points: Quinonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harmose.kernel_regression.descriptors import Triangles, from_positions
from harmose.kernel_regression.kernel import (
    EdgeDescriptor,
    KernelParameters,
    SparseReferences,
    edge_descriptors,
    kernel_sums,
)


@dataclass(frozen=True)
class SparsePoints:
    """R edges of the training set, and the T third atoms around them.

    Attributes:
        distance: length of each edge (R,), angstrom.
        edge: edge of each third atom (T,), ascending.
        third: species of each third atom (T,).
        position: position of each third atom in the frame of its edge (T, 3), angstrom.
        n_species: number of species.
        parameters: kernel parameters.
    """

    distance: np.ndarray
    edge: np.ndarray
    third: np.ndarray
    position: np.ndarray
    n_species: int
    parameters: KernelParameters

    @staticmethod
    def from_triangles(
        triangles: Triangles, distance: np.ndarray, n_species: int, parameters: KernelParameters
    ) -> "SparsePoints":
        """Return edges with these lengths (R,) and triangles."""
        return SparsePoints(distance, triangles.edge, triangles.third, triangles.position, n_species, parameters)

    @cached_property
    def references(self) -> SparseReferences:
        """Their descriptors, computed at first use."""
        triangles = from_positions(self.edge, self.third, self.position, self.distance)
        return SparseReferences(edge_descriptors(triangles, self.distance, self.n_species, self.parameters))


@dataclass(frozen=True)
class KernelExpansion:
    """K covariant functions of edges.

    Attributes:
        sparse_points: R edges of the training set.
        weights: by order M, (R, K) at M = 0, else (2R, K).
        n_proper: number of columns that are scalars at M = 0; the others are pseudoscalars.
    """

    sparse_points: SparsePoints
    weights: Mapping[int, np.ndarray]
    n_proper: int

    def add(self, out: list[np.ndarray], edges: EdgeDescriptor) -> None:
        """Add the values at some edges to `out[0]` (E, slots, K) and, if there is one, those at the reversed edges to `out[1]`."""
        columns, weights = zip(*self._nonzero)
        directions = kernel_sums(edges, self.sparse_points.references, weights, self.n_proper, both=len(out) == 2)
        for one, orders in zip(out, directions, strict=True):
            for m, values in enumerate(orders):
                add_order(one, m, columns[m], values)

    @cached_property
    def _nonzero(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return nonzero_columns(self.weights)


def nonzero_columns(weights: Mapping[int, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the columns of each order that are not all zero, and their weights, up to the last order that has any.

    Irreps of degree L have no component of an order above L. Order 0 keeps all its columns.
    """
    columns = [np.flatnonzero(w.any(0)) if m else np.arange(w.shape[1]) for m, w in sorted(weights.items())]
    last = max(m for m, c in enumerate(columns) if len(c) or m == 0)
    return [(columns[m], np.ascontiguousarray(weights[m][:, columns[m]])) for m in range(last + 1)]


def add_order(out: np.ndarray, m: int, columns: np.ndarray, values: np.ndarray) -> None:
    """Add components of order M, (E, columns) at M = 0, else (2E, columns), to their slots in (E, slots, K)."""
    if m == 0:
        out[:, 0] += values
    else:
        out[:, 2 * m - 1 : 2 * m + 1, columns] += values.reshape(2, len(out), -1).swapaxes(0, 1)
