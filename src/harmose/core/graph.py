"""The graph of a structure: atoms within each other's reach, periodic images included, one entry per undirected pair.

A pair `(i, j, R)` stands for the block between atom i in the home cell and atom j in the cell displaced by R. Of
`(i, j, R)` and `(j, i, -R)` only the first in canonical order is kept (i < j, or i == j and R lexicographically
positive), sorted by (i, j, R). The order of a graph's pairs IS the order of its matrices' blocks, after the on-site ones.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.structure import MIN_DISTANCE, check_distances, neighbour_pairs


@dataclass(frozen=True)
class Graph:
    """numbers (N,); pairs (P, 5) int64 as `i, j, Rx, Ry, Rz`; vectors (P, 3) angstrom from atom i to the image of j."""

    numbers: np.ndarray
    pairs: np.ndarray
    vectors: np.ndarray

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)


def build_graph(atoms: Atoms, basis: BasisSet) -> Graph:
    """All pairs closer than the sum of their orbital radii.

    `BasisError` for an element that the basis does not have, `StructureError` for positions or a cell that have no meaning
    and for atoms on top of each other.
    """
    radius = basis.reach(atoms.numbers)
    i, j, shift, distance = neighbour_pairs(atoms, max(2 * float(radius.max(initial=0.0)), MIN_DISTANCE))
    check_distances(i, j, distance)
    near = distance < radius[i] + radius[j]
    pairs = canonical_pairs(np.column_stack([i, j, shift])[near])
    return Graph(np.asarray(atoms.numbers, dtype=np.int64), pairs, pair_vectors(atoms, pairs))


def pair_vectors(atoms: Atoms, pairs: np.ndarray) -> np.ndarray:
    """Vector from atom i to atom j in cell R for each pair (P, 5), in angstrom, shape (P, 3)."""
    return atoms.positions[pairs[:, 1]] + pairs[:, 2:] @ atoms.cell.array - atoms.positions[pairs[:, 0]]


def canonical_pairs(pairs: np.ndarray) -> np.ndarray:
    """Pairs (P, 5) turned to canonical direction and sorted."""
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 5)
    turned = np.where(is_canonical(pairs)[:, None], pairs, reversed_pairs(pairs))
    return turned[np.lexsort(turned.T[::-1])]


def is_canonical(pairs: np.ndarray) -> np.ndarray:
    """True where i < j, or i == j and the first non-zero component of R is positive."""
    i, j, x, y, z = pairs.T
    positive = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    return (i < j) | ((i == j) & positive)


def reversed_pairs(pairs: np.ndarray) -> np.ndarray:
    """(i, j, R) -> (j, i, -R)."""
    return np.column_stack([pairs[:, 1], pairs[:, 0], -pairs[:, 2:]])
