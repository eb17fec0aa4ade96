"""Change of basis between a Hamiltonian block and its irreducible representations (irreps) of O(3).

A block between shells of degrees l1 and l2 is the product l1 x l2 = |l1-l2| + ... + (l1+l2). With the real, orthonormal
Clebsch-Gordan coefficients C,

    w[L, M] = sum_{m1, m2} C[L, M, m1, m2] H[m1, m2]        H[m1, m2] = sum_{L, M} C[L, M, m1, m2] w[L, M].

For a pair of elements this is one orthogonal matrix, so errors of blocks and of irreps have the same norm.

An operator with spin has several real channels (`harmose.spin`). A channel of degree 1 is an axial vector in spin
space, even under inversion. Each irrep L of the block couples with it to J = |L-1| ... L+1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import scipy  # imports its subpackages on first use

from harmose.so3.clebsch_gordan import clebsch_gordan
from harmose.spin import Channel, Spin


@dataclass(frozen=True)
class Coupling:
    """The orthogonal change of basis between a flattened block (n_channels, n1, n2) and its coefficients in irreps.

    Rows are sorted by degree J, parity (proper first), copy and order M; copies are in the order of channels. All
    arrays but the entries of `table` have one value for each row.

    Attributes:
        entries: value, row and column of each entry of `table`, with zeros among them.
        width: number of columns, n_channels * n1 * n2.
        degree: degree J of the irrep.
        order: order M = -J..J.
        parity: +1 for proper tensors, which inversion multiplies by (-1)^J; -1 for pseudotensors.
        copy: number of the irrep among those of the same J and parity.
        shells: places of the two shells in the lists of shells, shape (n_coefficients, 2).
        channel: place of the channel in `Spin.channels`.
        orbital_degree: degree L of the block's irrep before coupling with the channel; J itself for scalar channels.
    """

    entries: tuple[np.ndarray, np.ndarray, np.ndarray]
    width: int
    degree: np.ndarray
    order: np.ndarray
    parity: np.ndarray
    copy: np.ndarray
    shells: np.ndarray
    channel: np.ndarray
    orbital_degree: np.ndarray

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients of a block."""
        return len(self.degree)

    @cached_property
    def table(self) -> "scipy.sparse.csr_array":
        """Sparse matrix (n_coefficients, n_channels * n1 * n2)."""
        value, row, column = self.entries
        table = scipy.sparse.csr_array((value, (row, column)), shape=(self.n_coefficients, self.width))
        table.eliminate_zeros()
        return table

    @property
    def matrix(self) -> np.ndarray:
        """`table` as a dense matrix."""
        return self.table.toarray()

    def multiplicity(self, degree: int, parity: int) -> int:
        """Number of irreps of this degree and parity."""
        return int(np.sum((self.degree == degree) & (self.parity == parity)) // (2 * degree + 1))


class _Irrep(NamedTuple):
    """One irrep: rows (2 degree + 1, n) of its table over n places of the flattened block."""

    degree: int
    inversion: int
    """Sign of the block under inversion, (-1)^(l1 + l2)."""
    shells: tuple[int, int]
    rows: np.ndarray
    places: np.ndarray
    channel: int = 0
    orbital_degree: int = 0

    @property
    def parity(self) -> int:
        return self.inversion * (-1) ** self.degree


@lru_cache(maxsize=1024)
def block_coupling(left: tuple[int, ...], right: tuple[int, ...], spin: Spin = Spin.NONE) -> Coupling:
    """Coupling of a block between two different atoms with the shells `left` and `right` (tuples of l)."""
    place = _places(left, right)
    orbital = [
        _Irrep(l, (-1) ** (l1 + l2), (a, b), clebsch_gordan(l1, l2, l).reshape(2 * l + 1, -1), place(a, b).ravel())
        for a, l1 in enumerate(left)
        for b, l2 in enumerate(right)
        for l in range(abs(l1 - l2), l1 + l2 + 1)
    ]
    n_elements = _size(left) * _size(right)
    return _collect(
        n_elements, spin, [x for k in range(len(spin.channels)) for x in _coupled(orbital, spin, k, n_elements)]
    )


@lru_cache(maxsize=256)
def onsite_coupling(shells: tuple[int, ...], spin: Spin = Spin.NONE) -> Coupling:
    """Coupling of an on-site block of an atom with these shells (tuple of l): its independent coefficients.

    Each channel X is symmetric or antisymmetric, X = +-X^T. Shell pairs (a, b) and (b, a) with a < b become one irrep,
    their sum (difference) over sqrt 2; within one shell there are only even (odd) L. The transpose of `matrix` restores
    a block of that symmetry exactly.
    """
    n_elements, irreps = _size(shells) ** 2, []
    for k, channel in enumerate(spin.channels):
        irreps += _coupled(_onsite_irreps(shells, channel), spin, k, n_elements)
    return _collect(n_elements, spin, irreps)


def _onsite_irreps(shells: tuple[int, ...], channel: Channel) -> list[_Irrep]:
    """Irreps of an on-site block in one channel."""
    place, irreps = _places(shells, shells), []
    for a, l1 in enumerate(shells):
        for b, l2 in enumerate(shells[a:], a):
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                if a == b and (-1) ** l != channel.adjoint:
                    continue
                rows, places = clebsch_gordan(l1, l2, l).reshape(2 * l + 1, -1), place(a, b).ravel()
                if a != b:
                    rows = np.concatenate([rows, channel.adjoint * rows], 1) / np.sqrt(2)
                    places = np.concatenate([places, place(b, a).T.ravel()])
                irreps.append(_Irrep(l, (-1) ** (l1 + l2), (a, b), rows, places))
    return irreps


def _coupled(orbital: list[_Irrep], spin: Spin, channel: int, n_elements: int) -> list[_Irrep]:
    """Irreps J of the block irreps `orbital` with a channel, with places in the flattened blocks of all channels."""
    sizes = [2 * c.degree + 1 for c in spin.channels]
    degree, first = spin.channels[channel].degree, sum(sizes[:channel])
    shift = (first + np.arange(sizes[channel])) * n_elements
    out = []
    for irrep in orbital:
        l, places = irrep.degree, (shift[:, None] + irrep.places).ravel()
        for j in range(abs(l - degree), l + degree + 1):
            rows = irrep.rows
            if degree:
                rows = np.einsum("jcm,mn->jcn", clebsch_gordan(degree, l, j), rows).reshape(2 * j + 1, -1)
            out.append(_Irrep(j, irrep.inversion, irrep.shells, rows, places, channel, l))
    return out


def _size(shells: Sequence[int]) -> int:
    return sum(2 * l + 1 for l in shells)


def _places(left: Sequence[int], right: Sequence[int]) -> Callable[[int, int], np.ndarray]:
    """A function of two shell numbers: places (2l1+1, 2l2+1) of their elements in the flattened block."""
    numbers = np.arange(_size(left) * _size(right)).reshape(_size(left), _size(right))
    rows, columns = ([_size(shells[:k]) for k in range(len(shells) + 1)] for shells in (left, right))
    return lambda a, b: numbers[rows[a] : rows[a + 1], columns[b] : columns[b + 1]]


def _collect(n_elements: int, spin: Spin, irreps: list[_Irrep]) -> Coupling:
    """The coupling with these irreps, sorted."""
    irreps = sorted(irreps, key=lambda irrep: (irrep.degree, -irrep.parity))
    count: dict[tuple[int, int], int] = {}
    labels, start = [], 0
    row, column, value = [], [], []
    for irrep in irreps:
        j, parity = irrep.degree, irrep.parity
        copy = count[j, parity] = count.get((j, parity), -1) + 1
        labels += [(j, m, parity, copy, *irrep.shells, irrep.channel, irrep.orbital_degree) for m in range(-j, j + 1)]
        row.append(np.repeat(start + np.arange(2 * j + 1), len(irrep.places)))
        column.append(np.tile(irrep.places, 2 * j + 1))
        value.append(irrep.rows.ravel())
        start += 2 * j + 1
    entries = np.concatenate(value), np.concatenate(row), np.concatenate(column)
    degree, order, parity, copy, a, b, channel, l = np.array(labels).T
    return Coupling(entries, spin.n_channels * n_elements, degree, order, parity, copy, np.stack([a, b], 1), channel, l)
