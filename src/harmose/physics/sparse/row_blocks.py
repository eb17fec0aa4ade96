"""Sparse matrices as dense row blocks, which multiply many vectors at the speed of a matrix product.

Atoms near each other form a cluster (8 to 16 atoms). The rows of a cluster have nearly the same columns, so that they are stored as
one dense matrix over the union of their columns:

    y[rows[c]] = values[c] @ x[columns[c]]

The union holds half as many values again as the sparse rows do. In return there is no index for a value, and every
value that is read from memory serves all vectors. The loop is over clusters.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from harmose.physics.sparse.bloch import Matrix


def clusters(structure: Atoms, size: int) -> list[np.ndarray]:
    """Return the atoms (N,) in clusters of at most `size`: space is halved across its longest side again and again."""
    positions = structure.positions
    todo, done = [np.arange(len(structure))], []
    while todo:
        atoms = todo.pop()
        if len(atoms) <= size:
            done.append(np.sort(atoms))
            continue
        axis = np.argmax(np.ptp(positions[atoms], axis=0))
        order = atoms[np.argsort(positions[atoms, axis], kind="stable")]
        # Halves of a whole number of full clusters, so that few are small.
        middle = -(-len(atoms) // size) // 2 * size if len(atoms) > 2 * size else len(atoms) // 2
        todo += [order[middle:], order[:middle]]
    return done


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """A matrix of n columns: `rows[c]` (r,), `columns[c]` (m,) and `values[c]` (r, m) for each cluster c."""

    n: int
    rows: list[np.ndarray]
    columns: list[np.ndarray]
    values: list[np.ndarray]

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        """Return the product of the matrix and x (n, v)."""
        y = np.zeros((self.n, x.shape[1]), np.result_type(x, self.values[0]))
        for rows, columns, values in zip(self.rows, self.columns, self.values):
            y[rows] = values @ x[columns]
        return y

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return the product of the adjoint matrix and y (n, v)."""
        x = np.zeros((self.n, y.shape[1]), np.result_type(y, self.values[0]))
        for rows, columns, values in zip(self.rows, self.columns, self.values):
            x[columns] += values.conj().T @ y[rows]
        return x

    def gram(self, x: np.ndarray) -> np.ndarray:
        """Return `self.adjoint(self @ x)`; each block is read once."""
        z = np.zeros((self.n, x.shape[1]), np.result_type(x, self.values[0]))
        for columns, values in zip(self.columns, self.values):
            z[columns] += values.conj().T @ (values @ x[columns])
        return z


def row_blocks(matrix: Matrix, rows: list[np.ndarray], dtype: np.dtype) -> RowBlocks:
    """Return a square sparse matrix as row blocks of the given `rows`."""
    columns, values = zip(*(dense_rows(matrix, of_cluster, dtype) for of_cluster in rows))
    return RowBlocks(matrix.shape[0], rows, list(columns), list(values))


def dense_rows(matrix: Matrix, rows: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns (m,) that occur in `rows` (r,), ascending, and the values there (r, m).

    For a BSR matrix `rows` are all rows of some of its blocks.
    """
    size = matrix.blocksize[0] if matrix.format == "bsr" else 1
    block_rows = rows[::size] // size
    counts = np.diff(matrix.indptr)[block_rows]
    where = ranges(matrix.indptr, block_rows)
    occurring = matrix.indices[where]
    columns, place = _columns(occurring, matrix.shape[1] // size)
    values = np.zeros((len(block_rows), size, len(columns), size), dtype)
    values[np.repeat(np.arange(len(block_rows)), counts), :, place[occurring]] = matrix.data[where].reshape(
        -1, size, size
    )
    return _expand(columns, size), values.reshape(len(rows), -1)


def dense_submatrix(matrix: Matrix, rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return matrix[rows, rows] (r, r) of a square matrix as a dense one; `rows` as for `dense_rows`."""
    columns, values = dense_rows(matrix, rows, dtype)
    place = np.full(matrix.shape[1], -1)
    place[columns] = np.arange(len(columns))
    where = place[rows]
    out = np.zeros((len(rows), len(rows)), dtype)
    out[:, where >= 0] = values[:, where[where >= 0]]
    return out


def columns_of(matrix: Matrix, rows: np.ndarray) -> np.ndarray:
    """Return the columns that occur in `rows` (r,), ascending; `rows` as for `dense_rows`."""
    size = matrix.blocksize[0] if matrix.format == "bsr" else 1
    occurring = matrix.indices[ranges(matrix.indptr, rows[::size] // size)]
    return _expand(_columns(occurring, matrix.shape[1] // size)[0], size)


def ranges(pointers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the positions of the entries of `rows`, one row after the other, from a CSR matrix's `indptr`."""
    counts = np.diff(pointers)[rows]
    return np.repeat(pointers[rows] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _columns(occurring: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the different ones among `occurring` columns, ascending, and the place of each column (n,) among them."""
    occurs = np.zeros(n, dtype=bool)
    occurs[occurring] = True
    return np.flatnonzero(occurs), np.cumsum(occurs) - 1


def _expand(blocks: np.ndarray, size: int) -> np.ndarray:
    """Return the rows of blocks of `size` rows each."""
    return (blocks[:, None] * size + np.arange(size)).ravel()
