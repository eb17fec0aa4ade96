"""The resolvent of the kernel polynomial method against dense eigenvalues."""

import numpy as np
import pytest
from scipy.linalg import cholesky, eigvalsh

from harmose.errors import MatrixError
from harmose.physics.eigen import eigenvalues
from harmose.physics.sparse.bloch import sparse_at
from harmose.physics.sparse.kpm import _cluster_rows
from harmose.physics.sparse.resolvent import lanczos_bounds, resolvent
from harmose.physics.sparse.settings import SparseSettings

K = (0.1, 0.27, 0.0)
SHIFT = 45.0


@pytest.fixture
def cell(graphene):
    """H - E_F S, S and structure of graphene with 18 atoms."""
    sample = graphene("mg_000")
    h = sample.hamiltonian
    return h.with_values(h.values - sample.fermi_level * sample.overlap.values), sample.overlap, sample.structure


def operator(cell, k=(0, 0, 0), blocked=True, near=0.1, shift=SHIFT):
    h, s, structure = cell
    (h_k,), (s_k,) = (sparse_at(x, k, blocked=blocked) for x in (h, s))
    settings = SparseSettings(neighbour_overlap=near)
    return resolvent(h_k, s_k, _cluster_rows(structure, h, 4), shift, h_k.dtype, settings)


def spectrum(found) -> np.ndarray:
    """Return the eigenvalues of M S by diagonalization."""
    one = np.eye(found.n, dtype=found.dtype)
    s = found.s @ one
    root = cholesky(s, lower=True)
    return eigvalsh(root.conj().T @ found.inverse(one) @ root)


@pytest.mark.parametrize(("k", "blocked", "near"), [(K, True, 0.15), (K, False, 0.1)])
def test_energies_near_the_fermi_level(cell, k, blocked, near):
    """Errors of 20 meV, with an inverse that is wrong by a third elsewhere."""
    found = operator(cell, k, blocked, near)
    low, high = found.spread
    if not blocked:  # as blocks, all atoms of this cell are near to each other, and the inverse is exact
        assert 0.2 < low < 0.95
        assert 1.05 < high < 1.8
    energies = 1 / spectrum(found)[::-1] - SHIFT
    expected = eigenvalues(cell[0], cell[1], k)[0]
    for window, error in (((-2, 2), 0.02), ((-12, 5), 0.5)):
        inside = (expected > window[0]) & (expected < window[1])
        np.testing.assert_allclose(energies[inside], expected[inside], atol=error)
    assert found.highest == pytest.approx(1 / (expected[0] + SHIFT), rel=2e-2)


def test_start_vectors_have_the_covariance_of_the_inverse(cell):
    found = operator(cell)
    start, inverse = found.start(np.eye(found.n)), found.inverse(np.eye(found.n))
    np.testing.assert_allclose(start @ start.conj().T, inverse, atol=1e-5 * np.abs(inverse).max())


def test_a_shift_within_the_spectrum_is_refused(cell):
    with pytest.raises(MatrixError, match="not positive definite"):
        operator(cell, shift=5.0)


def test_bounds_of_a_spectrum():
    d = np.linspace(-3, 5, 200)[:, None]
    low, high = lanczos_bounds(lambda x: d * x, None, 200, np.dtype(float), 40)
    assert -3.5 < low <= -3
    assert 5 <= high < 5.5
