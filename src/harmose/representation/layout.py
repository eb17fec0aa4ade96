"""Edge frames and the coefficient layouts that the network predicts in.

In the frame of an edge (z along it) the symmetry left is O(2): turns about the edge and the mirror y -> -y. A component
(L, m) with its partner (L, -m) is a doublet `x_m + i x_-m` that turns by `e^{i m a}` and is conjugated by the mirror when
the irrep is natural (parity (-1)^L); for an unnatural irrep `i (x_m + i x_-m)` does the same. So every component of
either parity becomes the *even* or the *odd* half of a doublet, or at m = 0 a scalar (natural) or a pseudoscalar
(unnatural), and a linear map that respects O(3) acts on both halves alike and never mixes scalars with pseudoscalars.

Slots of one irrep, in this order: m = 0; m = 1 even, odd; m = 2 even, odd; ... up to the largest l (S = 2 l_max + 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from torch import Tensor

from harmose.so3.coupling import block_coupling, onsite_coupling
from harmose.so3.wigner import half_turn
from harmose.spin import Spin


def slot_order(l: int, parity: int, slot: int) -> tuple[int, int]:
    """(m, sign): which component of an irrep fills a slot. `parity` is +1 natural, -1 unnatural."""
    m, odd = (slot + 1) // 2, slot % 2 == 0
    if m == 0:
        return 0, 1
    if parity > 0:
        return (-m, 1) if odd else (m, 1)
    return (m, 1) if odd else (-m, -1)


class Table:
    """The change of basis between flattened blocks of channels and their coefficients, and back: `table`, its transpose."""

    table: sparse.csr_array

    @property
    def matrix(self) -> np.ndarray:
        """`table`, dense."""
        return self.table.toarray()

    def to_coefficients(self, blocks: Tensor) -> Tensor:
        """(N, n_channels * n1 * n2) -> (N, coefficients), float64."""
        return torch.as_tensor(np.ascontiguousarray((self.table @ blocks.numpy().T).T))

    def to_blocks(self, coefficients: Tensor) -> Tensor:
        """(N, coefficients) -> (N, n_channels * n1 * n2), float64."""
        return torch.as_tensor(np.ascontiguousarray((self._transpose @ coefficients.numpy().T).T))

    @cached_property
    def _transpose(self) -> sparse.csc_array:
        return self.table.T


@dataclass(frozen=True)
class PairLayout(Table):
    """Irreps of the blocks between two tuples of shells, one column for each irrep.

    table (S * K, n_channels * n1 * n2), sparse, has orthonormal or zero rows: `layout = table @ block.flatten()` for a block
    of `spin`'s channels that is given in the edge frame, and its transpose brings a layout back.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    l_max: int
    table: sparse.csr_array
    degree: np.ndarray
    """(K,) degree L of each irrep; columns come natural first, then unnatural."""
    parity: np.ndarray
    """(K,) +1 natural, -1 unnatural."""
    shells: np.ndarray
    """(K, 2) which pair of shells."""
    channel: np.ndarray
    """(K,) which of the spin's channels."""
    orbital_degree: np.ndarray
    """(K,) degree L of the orbitals' irrep, which with the channel's forms J = `degree`."""
    spin: Spin = Spin.NONE

    @property
    def n_slots(self) -> int:
        return 2 * self.l_max + 1

    @property
    def n_irreps(self) -> int:
        return len(self.degree)

    @property
    def n_proper(self) -> int:
        return int((self.parity > 0).sum())

    @cached_property
    def mask(self) -> np.ndarray:
        """(S, K) True where the slot exists, m <= L."""
        m = (np.arange(self.n_slots) + 1) // 2
        return m[:, None] <= self.degree

    @cached_property
    def reversal(self) -> tuple[np.ndarray, np.ndarray]:
        """`(column, sign)` of the reversed edge: layout_ab[:, k] = sign[:, k] * layout_ba[:, column[k]].

        The reversed edge's frame is ours after a half turn about x; `layout_ba` is the layout of the transposed block
        (shells right, left) in that frame.
        """
        other = pair_layout(self.right, self.left, self.l_max, self.spin)
        find = {name: k for k, name in enumerate(other._names(turned=True))}
        column = [find[name] for name in self._names()]
        slot = np.arange(self.n_slots)
        m, odd = (slot + 1) // 2, (slot % 2 == 0) & (slot > 0)
        sign = np.where((self.degree + m[:, None]) % 2, -1.0, 1.0) * np.where(odd, -1.0, 1.0)[:, None]
        sign[0] *= self.parity
        # Transposed, an irrep L of shells (l1, l2) gets the sign (-1)^(l1 + l2 + L), of which the parity has J instead.
        adjoint = np.array([channel.adjoint for channel in self.spin.channels])[self.channel]
        return np.array(column), sign * (adjoint * np.where((self.degree + self.orbital_degree) % 2, -1.0, 1.0))

    def hermitian_mean(self, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
        """Return the mean of coefficients (P, S, K) of pairs of like atoms and the adjoints of those of the reversed pairs."""
        column, sign = self.reversal
        return (forward + sign * backward[..., column]) / 2

    def _names(self, turned: bool = False) -> list[tuple[int, ...]]:
        """What tells the irreps apart; with the shells exchanged if `turned`."""
        shells = self.shells[:, ::-1] if turned else self.shells
        columns = (self.degree, self.orbital_degree, self.channel, *shells.T)
        return [tuple(map(int, name)) for name in zip(*columns, strict=True)]


@lru_cache(maxsize=256)
def pair_layout(left: tuple[int, ...], right: tuple[int, ...], l_max: int, spin: Spin = Spin.NONE) -> PairLayout:
    """Layout of the blocks between shells `left` and `right` (tuples of l)."""
    coupling = block_coupling(left, right, spin)
    heads = np.flatnonzero(coupling.order == -coupling.degree)  # first row of each irrep
    heads = heads[np.argsort(-coupling.parity[heads], kind="stable")]
    degree, parity = coupling.degree[heads], coupling.parity[heads]
    place, source, signs = [], [], []
    for k, (head, l, p) in enumerate(zip(heads.tolist(), degree.tolist(), parity.tolist(), strict=True)):
        for slot in range(2 * l + 1):
            m, sign = slot_order(l, p, slot)
            place, source, signs = [*place, slot * len(heads) + k], [*source, head + l + m], [*signs, sign]
    table = _rows_at(coupling.table, place, source, signs, (2 * l_max + 1) * len(heads))
    columns = coupling.shells[heads], coupling.channel[heads], coupling.orbital_degree[heads]
    return PairLayout(left, right, l_max, table, degree, parity, *columns, spin)


def _rows_at(
    table: sparse.csr_array, place: ArrayLike, source: ArrayLike, signs: ArrayLike, n_rows: int
) -> sparse.csr_array:
    """A table of `n_rows` rows: at each place a row of another one times a sign, zero elsewhere."""
    chosen = sparse.csr_array((np.array(signs, float), (np.array(place), np.array(source))), (n_rows, table.shape[0]))
    return sparse.csr_array(chosen @ table)


class OnsiteIrreps(NamedTuple):
    """Irreps of one degree and parity on an atom.

    Attributes:
        degree: L.
        parity: +1 proper, -1 pseudo.
        columns: their columns of the layout.
        place: their places among all irreps of the atom, counted without gaps.
    """

    degree: int
    parity: int
    columns: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class OnsiteLayout(Table):
    """Irreps of the on-site blocks of an atom in the global frame: rows (l, m), columns copies per parity.

    table ((l_max + 1)^2 * K, n_channels * n * n); columns 0..n_natural-1 hold natural irreps, the rest unnatural ones; a column of a
    row exists where `mask` says so.
    """

    shells: tuple[int, ...]
    l_max: int
    table: sparse.csr_array
    mask: np.ndarray
    """((l_max + 1)^2, K)."""
    n_proper: int

    @property
    def n_columns(self) -> int:
        return self.mask.shape[1]

    @cached_property
    def irreps(self) -> list[OnsiteIrreps]:
        """All irreps: the proper ones by degree, and then the pseudo ones."""
        out, start = [], 0
        for parity in (1, -1):
            for degree in range(self.l_max + 1):
                exists = np.flatnonzero(self.mask[degree**2])
                columns = exists[exists < self.n_proper] if parity > 0 else exists[exists >= self.n_proper]
                if len(columns):
                    out.append(OnsiteIrreps(degree, parity, columns, np.arange(start, start + len(columns))))
                    start += len(columns)
        return out


@lru_cache(maxsize=256)
def onsite_layout(shells: tuple[int, ...], l_max: int, spin: Spin = Spin.NONE) -> OnsiteLayout:
    """Layout of the on-site blocks of an atom with these shells (tuple of l)."""
    coupling = onsite_coupling(shells, spin)
    n_proper = max((coupling.multiplicity(l, 1) for l in range(l_max + 1)), default=0)
    n_pseudo = max((coupling.multiplicity(l, -1) for l in range(l_max + 1)), default=0)
    rows = (l_max + 1) ** 2
    row = coupling.degree**2 + coupling.degree + coupling.order
    column = np.where(coupling.parity > 0, coupling.copy, n_proper + coupling.copy)
    mask = np.zeros((rows, n_proper + n_pseudo), dtype=bool)
    mask[row, column] = True
    n = coupling.n_coefficients
    table = _rows_at(coupling.table, row * mask.shape[1] + column, np.arange(n), np.ones(n), mask.size)
    return OnsiteLayout(shells, l_max, table, mask, n_proper)


def order_rows(l_max: int, m: int) -> tuple[int, int]:
    """First row of order m in a pair's frame, and the first after it: at m = 0 degrees l = 0..l_max, else l = m..l_max of the even
    halves and then of the odd ones."""
    starts = np.cumsum([0, l_max + 1, *(2 * (l_max + 1 - k) for k in range(1, l_max + 1))])
    return int(starts[m]), int(starts[m + 1])


@lru_cache(maxsize=32)
def frame_rows(l_max: int) -> np.ndarray:
    """Where the rows of a pair's frame come from, ((l_max + 1)^2,): the component (l, m) at l^2 + l + m."""
    l = np.arange(l_max + 1)
    rows = [l * l + l]
    for m in range(1, l_max + 1):
        rows += [l[m:] * l[m:] + l[m:] + m, l[m:] * l[m:] + l[m:] - m]
    return np.concatenate(rows)


def pair_frames(wigner: Sequence[Tensor]) -> Tensor:
    """Rotations into the frames of pairs (P, S, S), S = (l_max + 1)^2, rows as in `frame_rows`, columns l^2 + l + m.

    `wigner` holds `so3.wigner.edge_wigner(l, vectors)` for l = 0..l_max. `frame @ features` with features (S, C) has natural
    doublets as rows; of an unnatural one the even half is the opposite of the odd row and the odd half is the even row.
    The transpose brings messages back.
    """
    size = len(wigner) ** 2
    place = np.argsort(frame_rows(len(wigner) - 1))
    out = wigner[0].new_zeros(len(wigner[0]), size, size)
    for l, d in enumerate(wigner):
        out[:, torch.as_tensor(place[l * l : (l + 1) ** 2]), l * l : (l + 1) ** 2] = d
    return out


def reversal_signs(l_max: int) -> np.ndarray:
    """(S,): the frame of the reversed edge is `signs[:, None] * frame`."""
    turn = np.concatenate([half_turn(l) for l in range(l_max + 1)])
    return turn[frame_rows(l_max)]


def shells_frames(degrees: tuple[int, ...], wigner: Sequence[Tensor]) -> Tensor:
    """Block-diagonal rotation of an atom's shells into the edge frames, (P, n, n); `wigner` as in `edge_frames`."""
    n, start = sum(2 * l + 1 for l in degrees), 0
    out = wigner[0].new_zeros(len(wigner[0]), n, n)
    for l in degrees:
        out[:, start : start + 2 * l + 1, start : start + 2 * l + 1] = wigner[l]
        start += 2 * l + 1
    return out
