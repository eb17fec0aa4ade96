"""The overlap S(R) of a structure from the radial functions of its orbitals: no DFT program, no dense matrix.

A block is a sum of Slater-Koster integrals (`two_centre`), functions of the distance alone, times functions of the
direction alone, the same for all shells of the same l:

    S[l1 m1, l2 m2](r, u) = sum_k S_k(r) P_k[m1, m2](u)
    P_k[m1, m2](u) = sum_L sum_{m = k, -k} C[L, 0, m, m] sum_M C[L, M, m1, m2] sqrt(4 pi / (2L + 1)) Y(L, M)(u)

P_k(u) is the matrix with ones at (k, k) and (-k, -k), rotated from the z axis to u. The sum over harmonics up to l1 + l2 is
cheaper than Wigner matrices on both sides. For many pairs S_k is interpolated in a table of its exact values; for few pairs
the exact values are used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, pi, sqrt

import numpy as np
import torch
from ase import Atoms

from harmose.core.basis import n_orbitals
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import Graph, build_graph, pair_vectors
from harmose.core.radial import RadialBasis
from harmose.core.species import species_of
from harmose.core.structure import check_atoms
from harmose.physics.integrals.interpolation import Table, tabulate
from harmose.physics.integrals.two_centre import TwoCentre
from harmose.so3.clebsch_gordan import clebsch_gordan
from harmose.so3.harmonics import real_harmonics

TOLERANCE = 1e-11
"""Largest error of an interpolated integral. A value of S is the sum of a few of them, with factors below 1."""

CHUNK = 2e5
"""Number of values computed at once, so that they stay in the processor's cache with their intermediate arrays."""


def two_centre_overlap(atoms: Atoms, basis: RadialBasis) -> BlockMatrix:
    """Return S in the blocks of the graph of `atoms`, whose radii come from `basis.basis`.

    Equal to the sums of `two_centre` to 1e-10. Raises `BasisError` for an element without radial functions, `StructureError`
    for atoms on top of each other and for positions or cells without meaning.
    """
    for z in np.unique(species_of(atoms)).tolist():
        basis.of(z)
    check_atoms(atoms)
    return Overlaps(basis).of(build_graph(atoms, basis.basis))


def overlap_like(matrix: BlockMatrix, atoms: Atoms, basis: RadialBasis) -> BlockMatrix:
    """Return S of `atoms` in the blocks of another matrix of theirs; `BasisError` for an element without functions."""
    graph = Graph(matrix.numbers, matrix.pairs, pair_vectors(atoms, matrix.pairs))
    return Overlaps(basis.like(matrix.basis)).of(graph)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """S of any number of structures in one basis set. Integrals that depend on the elements alone are computed once."""

    basis: RadialBasis

    def of(self, graph: Graph) -> BlockMatrix:
        """Return S in the blocks of a graph, as `two_centre_overlap` does without its checks."""
        basis, distance = self.basis.basis, np.linalg.norm(graph.vectors, axis=1)
        matrix = empty_matrix(basis, graph.numbers, graph.pairs)
        values, starts = matrix.values[0], matrix.offsets[:-1]
        for z in np.unique(graph.numbers).tolist():
            where = np.flatnonzero(graph.numbers == z)
            _store(values, starts[where], np.repeat(self._onsite_block(z)[:, None], len(where), axis=1))
        for (z1, z2), pairs in _by_elements(graph.numbers, graph.pairs):
            integrals = self._integrals(z1, z2)
            pairs = pairs[distance[pairs] < integrals.reach]
            if len(pairs):
                bond = _Bond(integrals, _table(integrals, distance[pairs]))
                size = basis.n_orbitals(z1) * basis.n_orbitals(z2)
                for chunk in np.array_split(pairs, ceil(len(pairs) * size / CHUNK)):
                    r = distance[chunk]
                    blocks = bond.blocks(r, graph.vectors[chunk] / r[:, None])
                    _store(values, starts[graph.n_atoms + chunk], blocks)
        return matrix

    def _integrals(self, z1: int, z2: int) -> TwoCentre:
        if (z1, z2) not in self._integrals_cache:
            self._integrals_cache[z1, z2] = TwoCentre(self.basis.of(z1), self.basis.of(z2))
        return self._integrals_cache[z1, z2]

    def _onsite_block(self, z: int) -> np.ndarray:
        """Return the flat on-site block of an element: shells of the same l at distance zero."""
        if z not in self._onsite_cache:
            bond = _Bond(self._integrals(z, z), None)
            self._onsite_cache[z] = bond.blocks(np.zeros(1), np.array([[0.0, 0.0, 1.0]]))[:, 0]
        return self._onsite_cache[z]

    @cached_property
    def _integrals_cache(self) -> dict[tuple[int, int], TwoCentre]:
        return {}

    @cached_property
    def _onsite_cache(self) -> dict[int, np.ndarray]:
        return {}


def _by_elements(numbers: np.ndarray, pairs: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Yield each ordered pair of elements with the indices of its pairs of atoms."""
    z1, z2 = numbers[pairs[:, 0]], numbers[pairs[:, 1]]
    elements = np.unique(numbers).tolist()
    for a in elements:
        of_first = z1 == a
        for b in elements:
            yield (a, b), np.flatnonzero(of_first & (z2 == b))


def _store(values: np.ndarray, starts: np.ndarray, blocks: np.ndarray) -> None:
    """Write blocks, the columns of (n1 n2, B), to `starts` (B,) in `values`."""
    size, count = blocks.shape
    by_block = torch.from_numpy(blocks).T
    if starts[-1] - starts[0] == size * (count - 1):  # side by side, as in a structure of one element
        torch.from_numpy(values)[starts[0] : starts[0] + size * count].view(count, size).copy_(by_block)
    else:
        values[starts[:, None] + np.arange(size)] = by_block.contiguous().numpy()


def _table(integrals: TwoCentre, distance: np.ndarray) -> Table | None:
    """Return a table that covers `distance` (angstrom), or None where it has more points than there are distances."""
    return tabulate(integrals, float(distance.min()), float(distance.max()), TOLERANCE, most=len(distance))


@dataclass(frozen=True, eq=False)
class _Bond:
    """Blocks between two elements, from a table of the integrals or, without one, from the exact integrals."""

    exact: TwoCentre
    table: Table | None

    def integrals(self, r: np.ndarray) -> np.ndarray:
        """Return S_k(r), (rows, E)."""
        return self.exact(r) if self.table is None else np.ascontiguousarray(self.table(r).T)

    def blocks(self, r: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return blocks (n1 n2, E) as columns, at distances r (E,) in angstrom along unit vectors (E, 3)."""
        return slater_koster_blocks(*self.exact.degrees, self.integrals(r), directions)


def slater_koster_blocks(
    l1: Sequence[int], l2: Sequence[int], integrals: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Return blocks (n1 n2, E) as columns, from integrals on the axis (rows, E) and unit vectors (E, 3).

    `l1`, `l2`: degrees of the shells of both atoms. Rows run over the shells of the first, those of the second, then k.
    """
    harmonics = real_harmonics(max(l1) + max(l2), directions)
    angular = {(a, b): _angular(a, b, harmonics) for a in set(l1) for b in set(l2)}
    out = np.empty((n_orbitals(l1), n_orbitals(l2), len(directions)))
    row = i = 0
    for a in l1:
        j = 0
        for b in l2:
            block = out[i : i + 2 * a + 1, j : j + 2 * b + 1]
            np.multiply(angular[a, b][0], integrals[row], out=block)
            for k in range(1, min(a, b) + 1):
                block += angular[a, b][k] * integrals[row + k]
            row += min(a, b) + 1
            j += 2 * b + 1
        i += 2 * a + 1
    return out.reshape(-1, len(directions))


def _angular(l1: int, l2: int, harmonics: np.ndarray) -> np.ndarray:
    """Return P_k of directions (k, 2 l1 + 1, 2 l2 + 1, E), from their harmonics."""
    factors = _angular_factors(l1, l2)
    return (factors @ harmonics[: factors.shape[1]]).reshape(-1, 2 * l1 + 1, 2 * l2 + 1, harmonics.shape[1])


@lru_cache(maxsize=64)
def _angular_factors(l1: int, l2: int) -> np.ndarray:
    """Return the factors of Y(L, M) in P_k[m1, m2]: (k m1 m2, (l1 + l2 + 1)^2), Y in the order of `real_harmonics`."""
    count = min(l1, l2) + 1
    out = np.zeros((count, 2 * l1 + 1, 2 * l2 + 1, (l1 + l2 + 1) ** 2))
    for l in range(abs(l1 - l2), l1 + l2 + 1, 2):
        coupling = clebsch_gordan(l1, l2, l)
        axis = coupling[l]
        for k in range(count):
            weight = sum(axis[l1 + m, l2 + m] for m in {k, -k}) * sqrt(4 * pi / (2 * l + 1))
            out[k, ..., l * l : (l + 1) ** 2] = weight * np.moveaxis(coupling, 0, -1)
    return out.reshape(-1, (l1 + l2 + 1) ** 2)
