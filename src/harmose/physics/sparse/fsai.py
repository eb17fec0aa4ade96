"""A factorized sparse approximate inverse of a positive definite matrix: Z = G^dagger G with G A G^dagger close to 1.

The rows of G of a cluster c solve for the cluster and those of its neighbours that come before it, J (Kolotilina and
Yeremin, SIAM J. Matrix Anal. Appl. 14, 45 (1993), with clusters in place of single rows):

    A[J, J] Y = E_c,        G[c, J] = K^-1 Y^dagger        with K K^dagger = Y[c]

so that the diagonal blocks of G A G^dagger are 1.
"""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular

from harmose.errors import MatrixError
from harmose.physics.sparse.bloch import Matrix
from harmose.physics.sparse.row_blocks import RowBlocks, dense_submatrix


def approximate_inverse(matrix: Matrix, clusters: list[np.ndarray], neighbours: list[np.ndarray]) -> RowBlocks:
    """Return G of A: `clusters` are the rows of each cluster, `neighbours` the columns near it, of which J are those before it.

    Raises `MatrixError` where A is not positive definite.
    """
    n, dtype = matrix.shape[0], matrix.dtype
    order = np.empty(n, dtype=np.int64)  # position of each row in the order of clusters
    order[np.concatenate(clusters)] = np.arange(n)
    columns, values = [], []
    for rows, near in zip(clusters, neighbours):
        j = np.concatenate([near[order[near] < order[rows[0]]], rows])
        k = len(rows)
        unit = np.zeros((len(j), k), dtype)
        unit[-k:] = np.eye(k)
        try:
            y = cho_solve(cho_factor(dense_submatrix(matrix, j, dtype), lower=True, overwrite_a=True), unit)
            factor = cholesky(y[-k:], lower=True)
        except LinAlgError:
            raise MatrixError("sparse approximate inverse: the matrix is not positive definite") from None
        columns.append(j)
        values.append(solve_triangular(factor, y.conj().T, lower=True).astype(dtype))
    return RowBlocks(n, clusters, columns, values)
