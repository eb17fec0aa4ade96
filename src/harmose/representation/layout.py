"""Order of the coefficients of a block: irreps in edge frames, and on-site irreps in the global frame.

In the frame of an edge (z along it) the remaining symmetry is O(2): rotations about the edge and the mirror y -> -y. The
components m and -m of an irrep of degree L form the SO(2) feature `x_m + i x_-m` of order m, which a rotation by an angle a
multiplies by `e^{i m a}`. The mirror conjugates it if the irrep is proper (parity (-1)^L); if it is pseudo, the same holds for
`i (x_m + i x_-m)`. So each component is the even or the odd half of an SO(2) feature, or at m = 0 a scalar (proper) or a
pseudoscalar (pseudo). A linear map that respects O(3) acts alike on both halves, and does not mix scalars with pseudoscalars.

Slots of an irrep, in this order: m = 0; m = 1 even, odd; m = 2 even, odd; ... up to the largest l (S = 2 l_max + 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from harmose.core.basis import n_orbitals
from harmose.so3.coupling import Coupling, block_coupling, onsite_coupling
from harmose.so3.wigner import half_turn
from harmose.spin import Spin


def slot_order(l: int, parity: int, slot: int) -> tuple[int, int]:
    """Return m and the sign of the component that fills a slot; parity is +1 for proper irreps, -1 for pseudo ones."""
    m, odd = (slot + 1) // 2, slot % 2 == 0
    if m == 0:
        return 0, 1
    if parity > 0:
        return (-m, 1) if odd else (m, 1)
    return (m, 1) if odd else (-m, -1)


class ChangeOfBasis:
    """Orthonormal change of basis from flattened blocks of channels to coefficients.

    `make_table` computes its sparse matrix, with orthonormal or zero rows. It is computed when it is first needed, since the
    network and the checks of files need only the labels of the irreps.
    """

    make_table: "partial[scipy.sparse.csr_array]"

    @cached_property
    def table(self) -> "scipy.sparse.csr_array":
        """The sparse matrix (coefficients, n_channels * n1 * n2)."""
        return self.make_table()

    @property
    def matrix(self) -> np.ndarray:
        """The dense matrix (coefficients, n_channels * n1 * n2)."""
        return self.table.toarray()

    def to_coefficients(self, blocks: Tensor) -> Tensor:
        """Return coefficients (N, coefficients) of blocks (N, n_channels * n1 * n2), float64."""
        return torch.as_tensor(np.ascontiguousarray((self.table @ blocks.numpy().T).T))

    def to_blocks(self, coefficients: Tensor) -> Tensor:
        """Return blocks (N, n_channels * n1 * n2) with these coefficients, float64."""
        return torch.as_tensor(np.ascontiguousarray((self._transpose @ coefficients.numpy().T).T))

    @cached_property
    def _transpose(self) -> "scipy.sparse.csc_array":
        return self.table.T


@dataclass(frozen=True)
class PairLayout(ChangeOfBasis):
    """K irreps of the blocks between two tuples of shells, one column for each; proper irreps first.

    Attributes:
        left: l of each shell of the first atom.
        right: l of each shell of the second atom.
        l_max: largest degree of the frames.
        make_table: computes `table` (S * K, n_channels * n1 * n2); blocks are in the edge frame.
        degree: degree L of each irrep (K,).
        parity: +1 for proper irreps, -1 for pseudo ones (K,).
        shells: numbers of the two shells (K, 2).
        channel: channel of the spin (K,).
        orbital_degree: degree of the orbitals' irrep (K,), which couples with the channel's to `degree`.
        spin: spin of the operators.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    l_max: int
    make_table: "partial[scipy.sparse.csr_array]"
    degree: np.ndarray
    parity: np.ndarray
    shells: np.ndarray
    channel: np.ndarray
    orbital_degree: np.ndarray
    spin: Spin = Spin.NONE

    @property
    def n_slots(self) -> int:
        """Number of slots S."""
        return 2 * self.l_max + 1

    @property
    def n_irreps(self) -> int:
        """Number of irreps K."""
        return len(self.degree)

    @property
    def n_proper(self) -> int:
        """Number of proper irreps."""
        return int((self.parity > 0).sum())

    @cached_property
    def mask(self) -> np.ndarray:
        """True where the slot exists, m <= L (S, K)."""
        m = (np.arange(self.n_slots) + 1) // 2
        return m[:, None] <= self.degree

    @cached_property
    def reversal(self) -> tuple[np.ndarray, np.ndarray]:
        """Column (K,) and sign (S, K) of the reversed edge: c[:, k] = sign[:, k] * c_reversed[:, column[k]].

        c_reversed are the coefficients of the adjoint block, from `right` to `left`, in the frame of the reversed edge, which is
        this frame after a half turn about x.
        """
        other = pair_layout(self.right, self.left, self.l_max, self.spin)
        find = {name: k for k, name in enumerate(other._names(exchanged=True))}
        column = [find[name] for name in self._names()]
        slot = np.arange(self.n_slots)
        m, odd = (slot + 1) // 2, (slot % 2 == 0) & (slot > 0)
        sign = np.where((self.degree + m[:, None]) % 2, -1.0, 1.0) * np.where(odd, -1.0, 1.0)[:, None]
        sign[0] *= self.parity
        # The transpose multiplies an irrep L of shells (l1, l2) by (-1)^(l1 + l2 + L); the parity above has J in place of L.
        adjoint = np.array([channel.adjoint for channel in self.spin.channels])[self.channel]
        return np.array(column), sign * (adjoint * np.where((self.degree + self.orbital_degree) % 2, -1.0, 1.0))

    def hermitian_mean(self, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
        """Return the mean of coefficients (P, S, K) of pairs of like atoms and the adjoints of those of the reversed pairs."""
        column, sign = self.reversal
        return (forward + sign * backward[..., column]) / 2

    def _names(self, exchanged: bool = False) -> list[tuple[int, ...]]:
        """Names that distinguish the irreps; with the shells exchanged if `exchanged`."""
        shells = self.shells[:, ::-1] if exchanged else self.shells
        columns = (self.degree, self.orbital_degree, self.channel, *shells.T)
        return [tuple(map(int, name)) for name in zip(*columns, strict=True)]


@lru_cache(maxsize=256)
def pair_layout(left: tuple[int, ...], right: tuple[int, ...], l_max: int, spin: Spin = Spin.NONE) -> PairLayout:
    """Return the layout of blocks between shells `left` and `right` (tuples of l)."""
    coupling = block_coupling(left, right, spin)
    heads = np.flatnonzero(coupling.order == -coupling.degree)  # first row of each irrep
    heads = heads[np.argsort(-coupling.parity[heads], kind="stable")]
    degree, parity = coupling.degree[heads], coupling.parity[heads]
    place, source, signs = [], [], []
    for k, (head, l, p) in enumerate(zip(heads.tolist(), degree.tolist(), parity.tolist(), strict=True)):
        for slot in range(2 * l + 1):
            m, sign = slot_order(l, p, slot)
            place, source, signs = [*place, slot * len(heads) + k], [*source, head + l + m], [*signs, sign]
    table = partial(_rows_at, coupling, place, source, signs, (2 * l_max + 1) * len(heads))
    columns = coupling.shells[heads], coupling.channel[heads], coupling.orbital_degree[heads]
    return PairLayout(left, right, l_max, table, degree, parity, *columns, spin)


def _rows_at(
    coupling: Coupling, place: ArrayLike, source: ArrayLike, signs: ArrayLike, n_rows: int
) -> "scipy.sparse.csr_array":
    """Return a table of `n_rows` rows: at each place the source row of the coupling's times a sign, zero elsewhere."""
    chosen = scipy.sparse.csr_array(
        (np.array(signs, float), (np.array(place), np.array(source))), (n_rows, coupling.n_coefficients)
    )
    return scipy.sparse.csr_array(chosen @ coupling.table)


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
class OnsiteLayout(ChangeOfBasis):
    """Irreps of the on-site blocks of an atom in the global frame: rows (l, m), columns number the irreps of one l and parity.

    Attributes:
        shells: l of each shell.
        l_max: largest degree.
        make_table: computes `table` ((l_max + 1)^2 * K, n_channels * n * n).
        mask: True where a row has this column ((l_max + 1)^2, K).
        n_proper: number of columns of proper irreps, which come first.
    """

    shells: tuple[int, ...]
    l_max: int
    make_table: "partial[scipy.sparse.csr_array]"
    mask: np.ndarray
    n_proper: int

    @property
    def n_columns(self) -> int:
        """Number of columns K."""
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
    """Return the layout of on-site blocks of an atom with these shells (tuple of l)."""
    coupling = onsite_coupling(shells, spin)
    n_proper = max((coupling.multiplicity(l, 1) for l in range(l_max + 1)), default=0)
    n_pseudo = max((coupling.multiplicity(l, -1) for l in range(l_max + 1)), default=0)
    rows = (l_max + 1) ** 2
    row = coupling.degree**2 + coupling.degree + coupling.order
    column = np.where(coupling.parity > 0, coupling.copy, n_proper + coupling.copy)
    mask = np.zeros((rows, n_proper + n_pseudo), dtype=bool)
    mask[row, column] = True
    n = coupling.n_coefficients
    table = partial(_rows_at, coupling, row * mask.shape[1] + column, np.arange(n), np.ones(n), mask.size)
    return OnsiteLayout(shells, l_max, table, mask, n_proper)


def order_rows(l_max: int, m: int) -> tuple[int, int]:
    """Return the first row of order m in `frame_rows`, and the first one after it."""
    starts = np.cumsum([0, l_max + 1, *(2 * (l_max + 1 - k) for k in range(1, l_max + 1))])
    return int(starts[m]), int(starts[m + 1])


@lru_cache(maxsize=32)
def frame_rows(l_max: int) -> np.ndarray:
    """Return the component l^2 + l + m in each row of a pair's frame ((l_max + 1)^2,).

    Rows are sorted by order m; at m = 0 there are l = 0..l_max, else l = m..l_max of the even halves and then of the odd ones.
    """
    l = np.arange(l_max + 1)
    rows = [l * l + l]
    for m in range(1, l_max + 1):
        rows += [l[m:] * l[m:] + l[m:] + m, l[m:] * l[m:] + l[m:] - m]
    return np.concatenate(rows)


def pair_frames(wigner: Sequence[Tensor]) -> Tensor:
    """Return the rotations into the frames of pairs (P, n, n), n = (l_max + 1)^2, rows as in `frame_rows`, columns l^2 + l + m.

    `wigner` holds `edge_wigner(l, vectors)` for l = 0..l_max. The rows of `frame @ features`, features (n, C), are SO(2) features
    of proper irreps. For pseudo irreps, the even half is the negative of the odd row, and the odd half is the even row. The
    transpose is the rotation back.
    """
    size = len(wigner) ** 2
    place = np.argsort(frame_rows(len(wigner) - 1))
    out = wigner[0].new_zeros(len(wigner[0]), size, size)
    for l, d in enumerate(wigner):
        out[:, torch.as_tensor(place[l * l : (l + 1) ** 2]), l * l : (l + 1) ** 2] = d
    return out


def reversal_signs(l_max: int) -> np.ndarray:
    """Return signs ((l_max + 1)^2,): the frame of the reversed edge is `signs[:, None] * frame`."""
    turn = np.concatenate([half_turn(l) for l in range(l_max + 1)])
    return turn[frame_rows(l_max)]


def shells_frames(degrees: tuple[int, ...], wigner: Sequence[Tensor]) -> Tensor:
    """Return the block-diagonal rotations of shells into edge frames (P, n, n); `wigner` as in `pair_frames`."""
    n, start = n_orbitals(degrees), 0
    out = wigner[0].new_zeros(len(wigner[0]), n, n)
    for l in degrees:
        out[:, start : start + 2 * l + 1, start : start + 2 * l + 1] = wigner[l]
        start += 2 * l + 1
    return out
