"""Block <-> irreps: the direct-sum form of a Hamiltonian block, and its symmetric form for on-site blocks.

A block between shells of degrees (l1, l2) is the product l1 x l2 = |l1-l2| + ... + l1+l2. With the real, orthonormal
Clebsch-Gordan coefficients `C` (sqrt(2L+1) times e3nn's Wigner 3j),

    w[L, M] = sum_{m1, m2} C[L, M, m1, m2] H[m1, m2]        H[m1, m2] = sum_{L, M} C[L, M, m1, m2] w[L, M]

so that both directions are one orthogonal matrix per pair of elements, and norms of errors are the same in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from e3nn import o3
from torch import Tensor


@lru_cache(maxsize=256)
def clebsch_gordan(l1: int, l2: int, l: int) -> np.ndarray:
    """Orthonormal real coupling coefficients, float64, shape (2l+1, 2l1+1, 2l2+1)."""
    table = o3.wigner_3j(l1, l2, l, dtype=torch.float64).numpy()
    return np.ascontiguousarray(np.moveaxis(table, -1, 0)) * np.sqrt(2 * l + 1)


@dataclass(frozen=True)
class Coupling:
    """The orthogonal change of basis between a block `(n1, n2)`, flattened by rows, and its irreps.

    `matrix` (n_coefficients, n1 * n2); row r holds the coefficient (degree[r], order[r], parity[r], copy[r]): degree L,
    order M, parity +1 for natural irreps, (-1)^L under inversion, and -1 for unnatural ones; `copy` counts the irreps
    (L, parity). Rows are sorted by (L, parity natural first, copy, M).
    """

    matrix: np.ndarray
    degree: np.ndarray
    order: np.ndarray
    parity: np.ndarray
    copy: np.ndarray
    shells: np.ndarray
    """(n_coefficients, 2): which pair of shells each coefficient comes from."""

    @property
    def n_coefficients(self) -> int:
        return len(self.degree)

    def multiplicity(self, degree: int, parity: int) -> int:
        """How many copies of the irrep (degree, parity) the block holds."""
        return int(np.sum((self.degree == degree) & (self.parity == parity)) // (2 * degree + 1))

    def to_irreps(self, blocks: Tensor) -> Tensor:
        """(..., n1, n2) -> (..., n_coefficients)."""
        return blocks.flatten(-2) @ torch.as_tensor(self.matrix.T, dtype=blocks.dtype, device=blocks.device)

    def to_blocks(self, coefficients: Tensor, n1: int, n2: int) -> Tensor:
        """(..., n_coefficients) -> (..., n1, n2)."""
        matrix = torch.as_tensor(self.matrix, dtype=coefficients.dtype, device=coefficients.device)
        return (coefficients @ matrix).unflatten(-1, (n1, n2))


@lru_cache(maxsize=1024)
def block_coupling(left: tuple[int, ...], right: tuple[int, ...]) -> Coupling:
    """Coupling of a general block between the shells `left` and `right` (tuples of l)."""
    n1, n2 = sum(2 * l + 1 for l in left), sum(2 * l + 1 for l in right)
    irreps = []
    for a, (l1, i) in enumerate(zip(left, _starts(left), strict=True)):
        for b, (l2, j) in enumerate(zip(right, _starts(right), strict=True)):
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                rows = np.zeros((2 * l + 1, n1, n2))
                rows[:, i : i + 2 * l1 + 1, j : j + 2 * l2 + 1] = clebsch_gordan(l1, l2, l)
                irreps.append((l, (-1) ** (l1 + l2 + l), (a, b), rows))
    return _collect(irreps)


@lru_cache(maxsize=256)
def onsite_coupling(shells: tuple[int, ...]) -> Coupling:
    """Coupling of a real symmetric block of one atom: only the coefficients that H = H^T leaves free, orthonormal.

    Shell pairs (a, b) and (b, a) with a < b become one irrep, their sum over sqrt 2; within one shell only even L, since
    odd ones are antisymmetric. The transpose of `matrix` restores a symmetric block exactly.
    """
    n = sum(2 * l + 1 for l in shells)
    starts = _starts(shells)
    irreps = []
    for a, (l1, i) in enumerate(zip(shells, starts, strict=True)):
        for b in range(a, len(shells)):
            l2, j = shells[b], starts[b]
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                if a == b and l % 2:
                    continue
                rows = np.zeros((2 * l + 1, n, n))
                rows[:, i : i + 2 * l1 + 1, j : j + 2 * l2 + 1] = clebsch_gordan(l1, l2, l)
                if a != b:
                    rows = (rows + rows.transpose(0, 2, 1)) / np.sqrt(2)
                irreps.append((l, (-1) ** (l1 + l2 + l), (a, b), rows))
    return _collect(irreps)


def _starts(shells: Sequence[int]) -> list[int]:
    return [sum(2 * l + 1 for l in shells[:k]) for k in range(len(shells))]


def _collect(irreps: list) -> Coupling:
    irreps = sorted(irreps, key=lambda irrep: (irrep[0], -irrep[1]))
    degree, order, parity, copy, shells, count = [], [], [], [], [], {}
    for l, p, pair, _ in irreps:
        k = count[l, p] = count.get((l, p), -1) + 1
        degree += [l] * (2 * l + 1)
        order += range(-l, l + 1)
        parity += [p] * (2 * l + 1)
        copy += [k] * (2 * l + 1)
        shells += [pair] * (2 * l + 1)
    matrix = np.concatenate([rows.reshape(len(rows), -1) for *_, rows in irreps])
    return Coupling(matrix, *(np.array(x) for x in (degree, order, parity, copy, shells)))
