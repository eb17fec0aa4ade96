"""All solvers against dense solutions and eigenvalues."""

from functools import partial

import numpy as np
import pytest
from scipy import sparse

from harmose.errors import ConfigError, SingularMatrix
from harmose.physics.sparse.factorization import factorizer

N = 60


@pytest.fixture(params=["dissection", "pardiso", "superlu"])
def solver(request):
    if request.param == "pardiso":
        pytest.importorskip("pypardiso", exc_type=ImportError)
    return request.param


def hermitian(is_complex: bool) -> sparse.csr_matrix:
    """A sparse indefinite matrix."""
    sample = partial(sparse.random_array, (N, N), density=0.05)
    a = sample(rng=0) + (1j * sample(rng=1) if is_complex else 0)
    return (a + a.conj().T + sparse.diags_array(np.linspace(-3.05, 3, N))).tocsr()


@pytest.mark.parametrize("is_complex", [False, True])
def test_solutions(solver, is_complex):
    matrix = hermitian(is_complex)
    b = np.random.default_rng(2).normal(size=N).astype(matrix.dtype)
    factors = factorizer(solver)(matrix)
    np.testing.assert_allclose(factors.solve(b), np.linalg.solve(matrix.toarray(), b), atol=1e-9)
    factors.free()


@pytest.mark.parametrize("is_complex", [False, True])
def test_counts_of_negative_eigenvalues(solver, is_complex):
    matrix = hermitian(is_complex)
    energies = np.linalg.eigvalsh(matrix.toarray())
    for shift in (-10.0, -1.0, 0.3, 10.0):
        found = factorizer(solver)((matrix - shift * sparse.eye_array(N)).tocsr()).negative()
        assert found == (None if solver == "superlu" else np.count_nonzero(energies < shift))


@pytest.mark.parametrize("solver", ["dissection", "superlu"])  # PARDISO perturbs pivots that are zero
def test_a_singular_matrix(solver):
    matrix = sparse.csr_matrix(np.kron([[1.0, 1.0], [1.0, 1.0]], np.eye(4)))
    with pytest.raises(SingularMatrix, match="the matrix is singular to rounding"):
        factorizer(solver)(matrix).solve(np.arange(8.0))


def test_unknown_solver():
    with pytest.raises(ConfigError, match="solver: expected dissection, pardiso, superlu, got 'mumps'"):
        factorizer("mumps")
