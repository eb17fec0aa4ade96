"""Places of the blocks of a Hermitian `BlockMatrix` in a scipy sparse matrix.

    X[row i, column j] = sum_R phase(R) X[i, j, R],        X[j, i, -R] = X[i, j, R]^dagger

Row pointers are computed block by block. Values are copied to their places in chunks, and blocks of several R are added
up. There is no table of the row and column of each value, so the memory beside the result does not grow with the
matrix.
"""

from collections.abc import Iterator

import numpy as np
import scipy  # imports its subpackages on first use

CHUNK = 2**21
"""Number of values that are copied at once."""


class BlockRows:
    """Places of the stored blocks of a `BlockMatrix`, given its `orbital_counts` (N,), `keys` (N + P, 5) and `offsets`.

    Attributes:
        forward: number of the result's block that each stored block is added to (N + P,).
        backward: number of the result's block that the adjoint of each pair is added to (P,).
    """

    def __init__(self, counts: np.ndarray, keys: np.ndarray, offsets: np.ndarray) -> None:
        self.counts, self.offsets = counts, offsets
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        n, first, second = len(counts), keys[:, 0], keys[:, 1]
        self.first, self.second = first, second
        # Pairs are sorted by (i, j, R), so those that add up are neighbours. Images of an atom add to its on-site
        # block.
        pair = first[n:] * n + second[n:]
        new = np.concatenate([[True], pair[1:] != pair[:-1]]) if len(pair) else np.zeros(0, dtype=bool)
        of_pair = np.cumsum(new) - 1
        begins = np.flatnonzero(new)
        self.rank = np.concatenate([np.zeros(n, np.int64), np.arange(len(pair)) - begins[of_pair]])
        i, j = first[n:][begins], second[n:][begins]
        between = i != j
        rows = np.concatenate([np.arange(n), i[between], j[between]])
        cols = np.concatenate([np.arange(n), j[between], i[between]])
        order = np.lexsort([cols, rows])
        self.cols = cols[order]
        self.block_starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        n_between = np.count_nonzero(between)
        forward, backward = i.copy(), i.copy()  # right for i == j
        forward[between], backward[between] = place[n : n + n_between], place[n + n_between :]
        forward[~between] = backward[~between] = place[i[~between]]
        self.forward = np.concatenate([place[:n], forward[of_pair]])
        self.backward = backward[of_pair]

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    @property
    def block_size(self) -> int | None:
        """Number of orbitals of an atom if it is the same for all atoms, else None."""
        return int(self.counts[0]) if len(self.counts) and (self.counts == self.counts[0]).all() else None

    def bsr(
        self, values: np.ndarray, adjoint: np.ndarray, phases: np.ndarray | None = None, dtype=None
    ) -> "scipy.sparse.bsr_matrix":
        """The matrix with an index for each block; all atoms must have the same number of orbitals.

        `values` (size,) are the stored values, added times `phases` (N + P,) of their blocks. `adjoint` (size,) are the
        values of the reversed pairs before transposition: `values` if real, else their conjugate; added times the
        conjugate phases.
        """
        size = self.block_size
        assert size is not None
        dtype = dtype or np.result_type(values, float if phases is None else phases)
        data = np.zeros((len(self.cols), size, size), dtype)
        stored, mirrored = values.reshape(-1, size, size), adjoint.reshape(-1, size, size).swapaxes(1, 2)
        n = len(self.counts)
        for blocks in self._chunks(np.arange(len(self.first)), size * size):
            data[self.forward[blocks]] += _times(stored[blocks], phases, blocks)
            pairs = blocks[blocks >= n]
            data[self.backward[pairs - n]] += _times(mirrored[pairs], None if phases is None else phases.conj(), pairs)
        index = np.int32 if len(self.cols) < 2**31 else np.int64
        shape = (self.size, self.size)
        out = scipy.sparse.bsr_matrix(
            (data, self.cols.astype(index), self.block_starts.astype(index)), shape, copy=False
        )
        out.has_sorted_indices = True
        return out

    def csr(
        self, values: np.ndarray, adjoint: np.ndarray, phases: np.ndarray | None = None, dtype=None
    ) -> "scipy.sparse.csr_matrix":
        """The matrix with an index for each value, for any atoms; arguments as in `bsr`."""
        dtype = dtype or np.result_type(values, float if phases is None else phases)
        widths = self.counts[self.cols]
        before = np.concatenate([[0], np.cumsum(widths)])  # sum of the widths of all blocks before each block
        row_sizes = np.diff(before[self.block_starts])
        within = before[:-1] - np.repeat(before[self.block_starts[:-1]], np.diff(self.block_starts))
        pointers = np.concatenate([[0], np.cumsum(np.repeat(row_sizes, self.counts))])
        total = int(pointers[-1])
        index = np.int32 if total < 2**31 else np.int64
        data, indices = np.zeros(total, dtype), np.empty(total, index)
        n = len(self.counts)

        def places(blocks: np.ndarray, rows: np.ndarray, n_rows: int, n_cols: int) -> np.ndarray:
            first = pointers[self.starts[rows]] + within[blocks]
            return first[:, None, None] + row_sizes[rows, None, None] * np.arange(n_rows)[:, None] + np.arange(n_cols)

        for n1, n2, some in self._by_size():
            of_block = np.arange(n1 * n2).reshape(n1, n2)
            for blocks in self._chunks(some, n1 * n2):
                stored = self.offsets[blocks][:, None, None] + of_block
                where = places(self.forward[blocks], self.first[blocks], n1, n2)
                data[where] += _times(values[stored], phases, blocks)
                indices[where] = (self.starts[self.second[blocks]][:, None] + np.arange(n2))[:, None, :]
                pairs = blocks >= n
                if pairs.any():
                    conjugate = None if phases is None else phases.conj()
                    where = places(self.backward[blocks[pairs] - n], self.second[blocks[pairs]], n2, n1)
                    data[where] += _times(adjoint[stored[pairs]].swapaxes(1, 2), conjugate, blocks[pairs])
                    indices[where] = (self.starts[self.first[blocks[pairs]]][:, None] + np.arange(n1))[:, None, :]
        out = scipy.sparse.csr_matrix((data, indices, pointers.astype(index)), shape=(self.size, self.size), copy=False)
        out.has_canonical_format = True
        return out

    def _by_size(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Number of rows, number of columns, and the stored blocks of this shape, for each shape."""
        n1, n2 = self.counts[self.first], self.counts[self.second]
        for a in np.unique(self.counts).tolist():
            for b in np.unique(self.counts).tolist():
                some = np.flatnonzero((n1 == a) & (n2 == b))
                if len(some) and a and b:
                    yield a, b, some

    def _chunks(self, blocks: np.ndarray, block_size: int) -> Iterator[np.ndarray]:
        """`blocks`, a chunk at a time; no two blocks of a chunk are added to the same place."""
        step = max(1, CHUNK // max(1, block_size))
        rank = self.rank[blocks]
        for k in range(int(rank.max(initial=-1)) + 1):
            same = blocks[rank == k]
            if k == 0:  # images of an atom are added to its on-site block, so those are chunks of their own
                n = len(self.counts)
                yield from _cut(same[same < n], step)
                same = same[same >= n]
            yield from _cut(same, step)


def _cut(blocks: np.ndarray, step: int) -> Iterator[np.ndarray]:
    return (blocks[start : start + step] for start in range(0, len(blocks), step))


def _times(blocks: np.ndarray, phases: np.ndarray | None, which: np.ndarray) -> np.ndarray:
    return blocks if phases is None else phases[which, None, None] * blocks
