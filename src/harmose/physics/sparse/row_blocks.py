"""Sparse matrices as dense panels: what multiplies many vectors at the speed of a matrix product.

Atoms near each other form a cluster (8 to 16 atoms). Their rows meet the same columns, nearly, so that the rows of a
cluster are stored as one dense matrix over the union of their columns:

    y[rows of c] = panel[c] @ x[columns of c]

That union holds half as many values again as the sparse rows do, which is the price; there is no index for a value, and every
value that is read from memory serves all vectors. The loop is over clusters.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy import sparse

CLUSTER = 16
"""Largest number of atoms of a cluster."""


def clusters(structure: Atoms, size: int = CLUSTER) -> list[np.ndarray]:
    """Atoms (N,) in clusters of at most `size`, by halving space across its longest side again and again."""
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
class Panels:
    """`rows[c]` (r,), `columns[c]` (m,) and `values[c]` (r, m) of each cluster c of a matrix of n rows."""

    n: int
    rows: list[np.ndarray]
    columns: list[np.ndarray]
    values: list[np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(panel.nbytes for panel in self.values)

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        """The matrix times x (n, v)."""
        y = np.zeros((self.n, x.shape[1]), np.result_type(x, self.values[0]))
        for rows, columns, panel in zip(self.rows, self.columns, self.values):
            y[rows] = panel @ x[columns]
        return y

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """The matrix's adjoint times y (n, v)."""
        x = np.zeros((self.n, y.shape[1]), np.result_type(y, self.values[0]))
        for rows, columns, panel in zip(self.rows, self.columns, self.values):
            x[columns] += panel.conj().T @ y[rows]
        return x

    def gram(self, x: np.ndarray) -> np.ndarray:
        """`self.adjoint(self @ x)`, with each panel read once."""
        z = np.zeros((self.n, x.shape[1]), np.result_type(x, self.values[0]))
        for columns, panel in zip(self.columns, self.values):
            z[columns] += panel.conj().T @ (panel @ x[columns])
        return z


def panels(matrix: sparse.csr_matrix | sparse.bsr_matrix, rows: list[np.ndarray], dtype: np.dtype) -> Panels:
    """A sparse matrix as panels of the given `rows`."""
    n = matrix.shape[0]
    columns, values = [], []
    for of_cluster in rows:
        column, panel = dense_rows(matrix, of_cluster, dtype)
        columns.append(column)
        values.append(panel)
    return Panels(n, rows, columns, values)


def dense_rows(
    matrix: sparse.csr_matrix | sparse.bsr_matrix, rows: np.ndarray, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The columns (m,) that occur in `rows` (r,) of a matrix, ascending, and its values there (r, m)."""
    if matrix.format == "bsr":
        return _of_blocks(matrix, rows, dtype)
    part = matrix[rows]
    occurs = np.zeros(matrix.shape[1], dtype=bool)
    occurs[part.indices] = True
    columns = np.flatnonzero(occurs)
    place = np.cumsum(occurs) - 1
    panel = np.zeros((len(rows), len(columns)), dtype)
    panel[np.repeat(np.arange(len(rows)), np.diff(part.indptr)), place[part.indices]] = part.data
    return columns, panel


def columns_of(matrix: sparse.csr_matrix | sparse.bsr_matrix, rows: np.ndarray) -> np.ndarray:
    """The columns that occur in `rows`, ascending; of a matrix of blocks all rows of some atoms."""
    size = matrix.blocksize[0] if matrix.format == "bsr" else 1
    of_rows = rows[::size] // size
    occurs = np.zeros(matrix.shape[1] // size, dtype=bool)
    occurs[matrix.indices[ranges(matrix.indptr, of_rows)]] = True
    return (np.flatnonzero(occurs)[:, None] * size + np.arange(size)).ravel()


def ranges(pointers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where the entries of `rows` are, one row after the other."""
    counts = np.diff(pointers)[rows]
    return np.repeat(pointers[rows] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _of_blocks(matrix: sparse.bsr_matrix, rows: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """`dense_rows` of whole blocks: `rows` are all rows of some atoms."""
    size = matrix.blocksize[0]
    atoms = rows[::size] // size
    counts = np.diff(matrix.indptr)[atoms]
    where = ranges(matrix.indptr, atoms)
    neighbours = matrix.indices[where]
    occurs = np.zeros(matrix.shape[1] // size, dtype=bool)
    occurs[neighbours] = True
    columns = np.flatnonzero(occurs)
    place = np.cumsum(occurs) - 1
    panel = np.zeros((len(atoms), size, len(columns), size), dtype)
    panel[np.repeat(np.arange(len(atoms)), counts), :, place[neighbours]] = matrix.data[where]
    return (columns[:, None] * size + np.arange(size)).ravel(), panel.reshape(len(rows), -1)
