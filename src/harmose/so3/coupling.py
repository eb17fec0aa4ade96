"""Block <-> irreps: the direct-sum form of a Hamiltonian block, and its symmetric form for on-site blocks.

A block between shells of degrees (l1, l2) is the product l1 x l2 = |l1-l2| + ... + l1+l2. With the real, orthonormal
Clebsch-Gordan coefficients `C` (sqrt(2L+1) times e3nn's Wigner 3j),

    w[L, M] = sum_{m1, m2} C[L, M, m1, m2] H[m1, m2]        H[m1, m2] = sum_{L, M} C[L, M, m1, m2] w[L, M]

so that both directions are one orthogonal matrix per pair of elements, and norms of errors are the same in both.

An operator with spin has several real channels (`harmose.spin`). A vector channel is an axial vector in spin space times
a block: each irrep L of the block and the vector (degree 1, even under inversion) couple once more, to J = |L-1| ... L+1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from harmose.spin import Channel, Spin


@lru_cache(maxsize=256)
def clebsch_gordan(l1: int, l2: int, l: int) -> np.ndarray:
    """Orthonormal real coupling coefficients, float64, shape (2l+1, 2l1+1, 2l2+1)."""
    table = o3.wigner_3j(l1, l2, l, dtype=torch.float64).numpy()
    return np.ascontiguousarray(np.moveaxis(table, -1, 0)) * np.sqrt(2 * l + 1)


@dataclass(frozen=True)
class Coupling:
    """The orthogonal change of basis between a block `(n_channels, n1, n2)`, flattened, and its irreps.

    `matrix` (n_coefficients, n_channels * n1 * n2); row r holds the coefficient (degree[r], order[r], parity[r], copy[r]):
    degree J, order M, parity +1 for natural irreps, (-1)^J under inversion, and -1 for unnatural ones; `copy` counts the
    irreps (J, parity). Rows are sorted by (J, parity natural first, copy, M), copies by channel.
    """

    matrix: np.ndarray
    degree: np.ndarray
    order: np.ndarray
    parity: np.ndarray
    copy: np.ndarray
    shells: np.ndarray
    """(n_coefficients, 2): which pair of shells each coefficient comes from."""
    channel: np.ndarray
    """(n_coefficients,): number of the channel in `Spin.channels`."""
    orbital_degree: np.ndarray
    """(n_coefficients,): degree L of the block's irrep that formed J with the channel; J itself for scalar channels."""

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
def block_coupling(left: tuple[int, ...], right: tuple[int, ...], spin: Spin = Spin.NONE) -> Coupling:
    """Coupling of a general block between the shells `left` and `right` (tuples of l)."""
    n1, n2 = sum(2 * l + 1 for l in left), sum(2 * l + 1 for l in right)
    blocks = []
    for a, (l1, i) in enumerate(zip(left, _starts(left), strict=True)):
        for b, (l2, j) in enumerate(zip(right, _starts(right), strict=True)):
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                rows = np.zeros((2 * l + 1, n1, n2))
                rows[:, i : i + 2 * l1 + 1, j : j + 2 * l2 + 1] = clebsch_gordan(l1, l2, l)
                blocks.append((l, (-1) ** (l1 + l2), (a, b), rows))
    return _collect(
        [irrep for k in range(len(spin.channels)) for block in blocks for irrep in _with_spin(spin, k, block)]
    )


@lru_cache(maxsize=256)
def onsite_coupling(shells: tuple[int, ...], spin: Spin = Spin.NONE) -> Coupling:
    """Coupling of an atom's own block: only the coefficients that its symmetry leaves free, orthonormal.

    X = +-X^T in each channel, + in those that are symmetric. Shell pairs (a, b) and (b, a) with a < b become one irrep,
    their sum (difference) over sqrt 2; within one shell only even (odd) L. The transpose of `matrix` restores a block of
    that symmetry exactly.
    """
    irreps = []
    for k, channel in enumerate(spin.channels):
        for block in _onsite_blocks(shells, channel):
            irreps += _with_spin(spin, k, block)
    return _collect(irreps)


Block = tuple[int, int, tuple[int, int], np.ndarray]
"""An irrep of the orbitals alone: degree L, (-1)^(l1 + l2), pair of shells, rows (2L + 1, n1, n2)."""


def _onsite_blocks(shells: tuple[int, ...], channel: Channel) -> list[Block]:
    n = sum(2 * l + 1 for l in shells)
    starts = _starts(shells)
    blocks = []
    for a, (l1, i) in enumerate(zip(shells, starts, strict=True)):
        for b in range(a, len(shells)):
            l2, j = shells[b], starts[b]
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                if a == b and (-1) ** l != channel.adjoint:
                    continue
                rows = np.zeros((2 * l + 1, n, n))
                rows[:, i : i + 2 * l1 + 1, j : j + 2 * l2 + 1] = clebsch_gordan(l1, l2, l)
                if a != b:
                    rows = (rows + channel.adjoint * rows.transpose(0, 2, 1)) / np.sqrt(2)
                blocks.append((l, (-1) ** (l1 + l2), (a, b), rows))
    return blocks


def _with_spin(spin: Spin, channel: int, block: Block) -> list[tuple]:
    """The irreps J that an irrep of the orbitals forms with a channel, rows (2J + 1, n_channels, n1, n2)."""
    l, inversion, shells, rows = block
    sizes = [2 * c.degree + 1 for c in spin.channels]
    degree, start = spin.channels[channel].degree, sum(sizes[:channel])
    out = []
    for j in range(abs(l - degree), l + degree + 1):
        whole = np.zeros((2 * j + 1, sum(sizes), *rows.shape[1:]))
        coupled = np.einsum("jcm,mab->jcab", clebsch_gordan(degree, l, j), rows) if degree else rows[:, None]
        whole[:, start : start + sizes[channel]] = coupled
        out.append((j, inversion * (-1) ** j, shells, whole, channel, l))
    return out


def _starts(shells: Sequence[int]) -> list[int]:
    return [sum(2 * l + 1 for l in shells[:k]) for k in range(len(shells))]


def _collect(irreps: list) -> Coupling:
    irreps = sorted(irreps, key=lambda irrep: (irrep[0], -irrep[1]))
    count: dict[tuple[int, int], int] = {}
    table = []
    for j, parity, shells, _, channel, l in irreps:
        copy = count[j, parity] = count.get((j, parity), -1) + 1
        table += [(j, order, parity, copy, *shells, channel, l) for order in range(-j, j + 1)]
    matrix = np.concatenate([irrep[3].reshape(2 * irrep[0] + 1, -1) for irrep in irreps])
    degree, order, parity, copy, a, b, channel, l = np.array(table).T
    return Coupling(matrix, degree, order, parity, copy, np.stack([a, b], 1), channel, l)
