"""Row blocks against the sparse matrix that they hold."""

import numpy as np
import pytest
from ase import Atoms
from scipy import sparse

from harmose.physics.sparse.row_blocks import clusters, columns_of, dense_rows, dense_submatrix, ranges, row_blocks

ROWS = [np.array([4, 5, 0, 1]), np.array([2, 3, 6, 7, 8, 9])]
"""Rows of five blocks of two rows each, in two clusters."""


@pytest.fixture(params=["csr", "bsr"])
def matrix(request):
    """A complex, non-Hermitian 10 x 10 matrix of blocks of two rows, half of which are zero."""
    random = np.random.default_rng(0)
    pattern = np.kron(random.random((5, 5)) < 0.5, np.ones((2, 2)))
    dense = pattern * (random.normal(size=(10, 10)) + 1j * random.normal(size=(10, 10)))
    return sparse.bsr_matrix(dense, blocksize=(2, 2)).asformat(request.param)


def test_products_are_those_of_the_matrix(matrix):
    blocks, dense = row_blocks(matrix, ROWS, matrix.dtype), matrix.toarray()
    x = np.random.default_rng(1).normal(size=(10, 3))
    np.testing.assert_allclose(blocks @ x, dense @ x, atol=1e-12)
    np.testing.assert_allclose(blocks.adjoint(x), dense.conj().T @ x, atol=1e-12)
    np.testing.assert_allclose(blocks.gram(x), dense.conj().T @ (dense @ x), atol=1e-12)


def test_dense_rows_and_submatrix(matrix):
    dense, rows = matrix.toarray(), ROWS[0]
    columns, values = dense_rows(matrix, rows, matrix.dtype)
    np.testing.assert_array_equal(columns, columns_of(matrix, rows))
    expected = np.zeros((4, 10), complex)
    expected[:, columns] = values
    np.testing.assert_array_equal(expected, dense[rows])
    np.testing.assert_array_equal(dense_submatrix(matrix, rows, matrix.dtype), dense[np.ix_(rows, rows)])


def test_ranges():
    matrix = sparse.csr_matrix([[0, 1, 2], [0, 0, 0], [3, 4, 0]])
    np.testing.assert_array_equal(ranges(matrix.indptr, np.array([2, 1, 0])), [2, 3, 0, 1])


def test_clusters_hold_each_atom_once():
    positions = np.random.default_rng(0).random((50, 3))
    atoms = Atoms("H50", positions * [10, 2, 2])
    found = clusters(atoms, 8)
    assert sorted(np.concatenate(found).tolist()) == list(range(50))
    assert max(map(len, found)) == 8
    # halved across the longest side: clusters are short along x
    assert max(np.ptp(atoms.positions[cluster, 0]) for cluster in found) < 5
    assert [len(cluster) for cluster in clusters(atoms, 50)] == [50]
