"""The sparse approximate inverse against the dense one."""

import numpy as np
import pytest
from scipy import sparse

from harmose.errors import MatrixError
from harmose.physics.sparse.fsai import approximate_inverse

N = 24
CLUSTERS = [np.arange(start, start + 4) for start in range(0, N, 4)]


def banded(is_complex: bool) -> sparse.csr_matrix:
    """A positive definite Hermitian matrix whose values fall away from the diagonal."""
    random = np.random.default_rng(0)
    a = random.normal(size=(N, N)) + (1j * random.normal(size=(N, N)) if is_complex else 0)
    distance = np.abs(np.arange(N)[:, None] - np.arange(N))
    return sparse.csr_matrix((a + a.conj().T) * 0.3 ** np.maximum(distance, 1) + 2 * np.eye(N))


def factor(matrix, neighbours):
    return approximate_inverse(matrix, CLUSTERS, neighbours) @ np.eye(N)


@pytest.mark.parametrize("is_complex", [False, True])
def test_exact_where_all_are_neighbours(is_complex):
    matrix = banded(is_complex)
    g = factor(matrix, [np.arange(N)] * len(CLUSTERS))
    np.testing.assert_allclose(g.conj().T @ g, np.linalg.inv(matrix.toarray()), atol=1e-12)


@pytest.mark.parametrize("is_complex", [False, True])
def test_close_to_one_with_the_nearest_neighbours(is_complex):
    matrix = banded(is_complex)
    neighbours = [np.arange(max(rows[0] - 4, 0), min(rows[-1] + 5, N)) for rows in CLUSTERS]
    g = factor(matrix, neighbours)
    product = g @ matrix.toarray() @ g.conj().T
    for rows in CLUSTERS:
        np.testing.assert_allclose(product[np.ix_(rows, rows)], np.eye(4), atol=1e-12)
    assert 1e-8 < np.abs(product - np.eye(N)).max() < 0.02
    assert not np.triu(g, 4).any()  # only clusters before it


def test_indefinite_matrices_are_refused():
    with pytest.raises(MatrixError, match="sparse approximate inverse: the matrix is not positive definite"):
        factor(banded(False) - 3 * sparse.eye_array(N), [np.arange(N)] * len(CLUSTERS))
