"""The kernel polynomial method against dense eigenvalues: operators, moments to rounding, densities within their errors."""

import numpy as np
import pytest
from scipy.linalg import cholesky, eigvalsh

from harmose.errors import ConfigError, MatrixError
from harmose.physics.eigen import eigenvalues
from harmose.physics.sparse import kpm as module
from harmose.physics.sparse import resolvent as resolvents
from harmose.physics.sparse.bloch import sparse_at
from harmose.physics.sparse.kpm import _rows, jackson, kpm, moments, plan, random_vectors
from harmose.physics.sparse.resolvent import lanczos_ends, resolvent
from harmose.physics.sparse.row_blocks import clusters, panels
from harmose.spin import Spin

K = (0.1, 0.27, 0.0)
SHIFT = 45.0


@pytest.fixture
def cell(graphene, monkeypatch):
    """H, S, and structure of 18 atoms, whose clusters have four atoms and are near only where they overlap by 0.1."""
    monkeypatch.setattr(module, "clusters", lambda structure: clusters(structure, 4))
    monkeypatch.setattr(resolvents, "NEAR", 0.1)
    sample = graphene("mg_000")
    level = sample.fermi_level
    h = sample.hamiltonian
    return h.with_values(h.values - level * sample.overlap.values), sample.overlap, sample.structure


def operator(cell, k=(0, 0, 0), blocked=True, dtype=np.float64):
    h, s, structure = cell
    (h_k,), (s_k,) = (sparse_at(x, k, blocked=blocked) for x in (h, s))
    return resolvent(h_k, s_k, _rows(structure, h), SHIFT, np.result_type(h_k.dtype, dtype))


def spectrum(found) -> np.ndarray:
    """Eigenvalues of M S, dense."""
    one = np.eye(found.n, dtype=found.dtype)
    s = found.s @ one
    root = cholesky(s, lower=True)
    return eigvalsh(root.conj().T @ found.inverse(one) @ root)


def test_clusters_are_of_atoms_that_are_near(cell):
    found = clusters(cell[2], 4)
    assert sorted(np.concatenate(found).tolist()) == list(range(18))
    assert max(map(len, found)) == 4
    assert [len(c) for c in clusters(cell[2], 18)] == [18]


@pytest.mark.parametrize("k", [(0, 0, 0), K])
@pytest.mark.parametrize("blocked", [False, True])
def test_panels_are_the_matrix(cell, k, blocked):
    h, _, structure = cell
    (matrix,) = sparse_at(h, k, blocked=blocked)
    found = panels(matrix, _rows(structure, h), matrix.dtype)
    x = np.random.default_rng(0).normal(size=(234, 3)) + (1j if any(k) else 0)
    dense = matrix.toarray()
    np.testing.assert_allclose(found @ x, dense @ x, atol=1e-10)
    np.testing.assert_allclose(found.adjoint(x), dense.conj().T @ x, atol=1e-10)
    np.testing.assert_allclose(found.gram(x), dense.conj().T @ (dense @ x), atol=1e-8)


@pytest.mark.parametrize(("k", "blocked", "near"), [(K, True, 0.15), (K, False, 0.1)])
def test_the_resolvent_has_the_energies(cell, k, blocked, near, monkeypatch):
    """Near the Fermi level to 20 meV, with an inverse that is wrong by a third elsewhere."""
    monkeypatch.setattr(resolvents, "NEAR", near)
    found = operator(cell, k, blocked)
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
    start = found.start(np.eye(found.n))
    inverse = found.inverse(np.eye(found.n))
    np.testing.assert_allclose(start @ start.conj().T, inverse, atol=1e-5 * np.abs(inverse).max())


def test_ends_of_a_spectrum():
    d = np.linspace(-3, 5, 200)[:, None]
    low, high = lanczos_ends(lambda x: d * x, None, 200, np.dtype(float), 40)
    assert -3.5 < low <= -3
    assert 5 <= high < 5.5


def test_moments_of_the_whole_trace_are_exact(cell):
    """One vector for each orbital: sum of lambda T_n((lambda - m) / w) over the eigenvalues of the same operator."""
    found = operator(cell)
    got = moments(found, 64, np.eye(found.n))
    lam = spectrum(found)
    theta = np.arccos((lam - got.middle) / got.half)
    expected = [(lam * np.cos(n * theta)).sum() for n in range(64)]
    # The start vectors' root of 2 - B is a polynomial of degree 16.
    np.testing.assert_allclose(got.values.sum(axis=0), expected, atol=1e-6 * expected[0])


def test_jackson_kernel_is_positive():
    g = jackson(50)
    theta = np.linspace(0.01, np.pi, 300)
    series = g[0] + 2 * sum(g[n] * np.cos(n * theta) for n in range(1, 50))
    assert g[0] == pytest.approx(1)
    assert series.min() > -1e-12


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_density_is_within_its_error(cell, dtype):
    """Of dense levels broadened as much; it holds every orbital, and the electrons below the Fermi level."""
    h, s, structure = cell
    found = kpm(h, s, structure, (-22, 10), 0.7, n_electrons=72, n_vectors=32, dtype=dtype)
    (one,) = found.moments
    density, error = found.dos((-15, 8), 60)
    levels = eigenvalues(h, s)[0]
    width = one.width(density.energies)[:, None]
    assert width.max() < 0.75
    expected = (np.exp(-(((density.energies[:, None] - levels) / width) ** 2) / 2) / np.sqrt(2 * np.pi) / width).sum(1)
    # Jackson's kernel is nearly, not wholly, a Gaussian.
    assert (np.abs(density.total - expected) / (error + 0.03 * expected.max())).mean() < 1.5
    assert one.found[0] == pytest.approx(234, rel=2e-3)
    assert found.fermi_error is not None
    assert abs(found.fermi_level) < 4 * found.fermi_error + 0.1
    assert found.electrons([found.fermi_level]).mean() == pytest.approx(72, abs=0.1)
    again = kpm(h, s, structure, (-22, 10), 0.7, n_electrons=72, n_vectors=32, dtype=dtype)
    np.testing.assert_array_equal(again.moments[0].values, one.values)


def test_spins(cell, with_spin):
    """A field moves the densities of two collinear spins; a spinor's is their sum, at a k-point where H is complex."""
    h, s, structure = cell
    settings = dict(window=(-22, 10), width=2.0, n_vectors=8, kpoint=K, fermi_level=0.0, dtype=np.float64)
    field = 1.0 * s.values[0]
    up, down = h.values[0] + field, h.values[0] - field
    both = kpm(with_spin(h, Spin.COLLINEAR, [up, down]), s, structure, **settings)
    density, error = both.dos((-10, 5), 40)
    assert density.total.shape == error.shape == (2, 40)
    plain = kpm(h, s, structure, **settings)
    shifted = plain.moments[0].density(density.energies + 1.0).mean(axis=0)
    assert np.abs(density.total[1] - shifted).mean() < 0.15 * shifted.mean()
    spinor = kpm(with_spin(h, Spin.SPINOR, [up, 0 * up, 0 * up, down]), s, structure, **settings)
    total, error = spinor.dos((-10, 5), 40)
    assert total.total.shape == (40,)
    assert spinor.moments[0].found[0] == pytest.approx(468, rel=5e-3)
    assert (np.abs(total.total - density.total.sum(axis=0)) / (error + 0.05 * total.total.max())).mean() < 1.5


def test_the_plan_resolves_its_window():
    shift, number = plan(-20.0, (-20.0, 10.0), 0.1)
    assert shift > 25
    assert 1500 < number < 2000
    assert plan(-20.0, (-20.0, 10.0), 0.2)[1] == pytest.approx(number / 2, abs=2)


def test_random_vectors_have_the_covariance_one():
    for is_complex in (False, True):
        r = random_vectors(30, 20000, 3, is_complex)
        np.testing.assert_allclose(r @ r.conj().T / 20000, np.eye(30), atol=0.04)
    np.testing.assert_array_equal(random_vectors(5, 2, 1, False), random_vectors(5, 2, 1, False))


def test_requests_without_meaning(cell):
    h, s, structure = cell
    with pytest.raises(MatrixError, match="need the overlap"):
        kpm(h, None, structure)
    for wrong, message in (({"window": (2, -2)}, "the lower first"), ({"width": 0.0}, "positive width"),
                           ({"n_moments": 7}, "an even number"), ({"n_vectors": 0}, "1 to 10000"),
                           ({"width": 1e-5}, "needs [0-9]+ moments")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            kpm(h, s, structure, **wrong)
    with pytest.raises(MatrixError, match="expected more than 0 and less than 468 electrons, got 500"):
        kpm(h, s, structure, (-5, 5), 2.0, n_electrons=500, n_vectors=2)
