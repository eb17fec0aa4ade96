"""A sparse approximate inverse of a positive definite matrix: Z = G^dagger G with G A G^dagger close to 1.

The rows of G of a cluster solve for the cluster and those of its neighbours that come before it, J (Kolotilina and
Yeremin, SIAM J. Matrix Anal. Appl. 14, 45 (1993), with clusters in place of single rows):

    A[J, J] Y = E_c,        G[c, J] = K^-1 Y^dagger        with K K^dagger = Y[c]

so that the blocks of clusters on the diagonal of G A G^dagger are 1.
"""

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular

from harmose.errors import MatrixError
from harmose.physics.sparse.row_blocks import Panels, dense_rows


def local_inverse(
    matrix: sparse.csr_matrix | sparse.bsr_matrix, clusters: list[np.ndarray], near: list[np.ndarray]
) -> Panels:
    """G as panels, of A: the rows of each cluster, and the columns that are near to it, of which J are those before it.

    `MatrixError` where A is not positive definite.
    """
    n = matrix.shape[0]
    order = np.empty(n, dtype=np.int64)  # position of each orbital in the order of clusters
    order[np.concatenate(clusters)] = np.arange(n)
    columns, values, dtype = [], [], matrix.dtype
    for rows, candidates in zip(clusters, near):
        before = candidates[order[candidates] < order[rows[0]]]
        j = np.concatenate([before, rows])
        k = len(rows)
        part = _square(matrix, j, dtype)
        right = np.zeros((len(j), k), dtype)
        right[-k:] = np.eye(k)
        try:
            y = cho_solve(cho_factor(part, lower=True, overwrite_a=True), right)
            factor = cholesky(y[-k:], lower=True)
        except LinAlgError:
            raise MatrixError("local inverse: the matrix is not positive definite") from None
        columns.append(j)
        values.append(solve_triangular(factor, y.conj().T, lower=True).astype(dtype))
    return Panels(n, clusters, columns, values)


def _square(matrix: sparse.csr_matrix | sparse.bsr_matrix, j: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A[J, J] as a dense matrix."""
    columns, panel = dense_rows(matrix, j, dtype)
    place = np.full(matrix.shape[1], -1)
    place[columns] = np.arange(len(columns))
    where = place[j]
    out = np.zeros((len(j), len(j)), dtype)
    out[:, where >= 0] = panel[:, where[where >= 0]]
    return out
