"""The graph of a structure: all pairs of atoms within the sum of their radii, periodic images included.

A pair `(i, j, R)` stands for the block between atom i in the home cell and atom j in the cell displaced by R. The graph
has one of `(i, j, R)` and `(j, i, -R)`: the one in canonical direction, with i < j, or i == j and R lexicographically
positive. Pairs are sorted by (i, j, R). Matrices store their blocks in this order, after the on-site blocks.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.electrons import moment_signs
from harmose.core.species import species_of
from harmose.core.structure import MIN_DISTANCE, check_distances, neighbour_pairs


@dataclass(frozen=True)
class Graph:
    """Atoms and pairs of a structure.

    Attributes:
        numbers: atomic numbers, shape (N,); further sets of orbitals of an element by `core.species`.
        pairs: (i, j, Rx, Ry, Rz), shape (P, 5), int64.
        vectors: vectors from atom i to the image of atom j in angstrom, shape (P, 3).
        moment_signs: sign of each atom's initial magnetic moment, shape (N,); None where the structure does not state them.
    """

    numbers: np.ndarray
    pairs: np.ndarray
    vectors: np.ndarray
    moment_signs: np.ndarray | None = None

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)


def build_graph(atoms: Atoms, basis: BasisSet, where: str = "structure") -> Graph:
    """The graph of all pairs closer than the sum of their orbital radii.

    Raises `BasisError` for an element that the basis set lacks, `StructureError`, which begins with `where`, for
    positions or a cell without meaning and for atoms on top of each other.
    """
    species = species_of(atoms)
    radius = basis.reach(species)
    i, j, shift, distance = neighbour_pairs(atoms, max(2 * float(radius.max(initial=0.0)), MIN_DISTANCE), where)
    check_distances(i, j, distance, where)
    near = distance < radius[i] + radius[j]
    pairs = canonical_pairs(np.column_stack([i, j, shift])[near])
    return Graph(species, pairs, pair_vectors(atoms, pairs), moment_signs(atoms))


def pair_vectors(atoms: Atoms, pairs: np.ndarray) -> np.ndarray:
    """Vectors in angstrom (P, 3) from atom i to atom j in cell R, for pairs (P, 5)."""
    return atoms.positions[pairs[:, 1]] + pairs[:, 2:] @ atoms.cell.array - atoms.positions[pairs[:, 0]]


def canonical_pairs(pairs: np.ndarray) -> np.ndarray:
    """Pairs (P, 5) in canonical direction and sorted."""
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 5)
    turned = np.where(is_canonical(pairs)[:, None], pairs, reversed_pairs(pairs))
    return turned[np.lexsort(turned.T[::-1])]


def is_canonical(pairs: np.ndarray) -> np.ndarray:
    """True for each pair (P, 5) with i < j, or with i == j and a positive first non-zero component of R."""
    i, j, x, y, z = pairs.T
    positive = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    return (i < j) | ((i == j) & positive)


def reversed_pairs(pairs: np.ndarray) -> np.ndarray:
    """The pairs (j, i, -R) of pairs (i, j, R), both (P, 5)."""
    return np.column_stack([pairs[:, 1], pairs[:, 0], -pairs[:, 2:]])
