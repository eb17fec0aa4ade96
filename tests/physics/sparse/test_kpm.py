"""The kernel polynomial method against dense eigenvalues: moments to rounding, densities within their errors."""

import numpy as np
import pytest
from scipy.linalg import eigh

from harmose.errors import ConfigError, MatrixError
from harmose.physics.eigen import eigenvalues
from harmose.physics.sparse.bloch import sparse_at
from harmose.physics.sparse.kpm import (
    KpmSettings,
    _cluster_rows,
    chebyshev_moments,
    choose_shift,
    jackson,
    kpm,
    random_vectors,
)
from harmose.physics.sparse.resolvent import resolvent
from harmose.physics.sparse.settings import SparseSettings
from harmose.spin import Spin

K = (0.1, 0.27, 0.0)
SPARSE = SparseSettings(cluster_atoms=4, neighbour_overlap=0.1)


@pytest.fixture
def cell(graphene):
    """H - E_F S, S and structure of graphene with 18 atoms."""
    sample = graphene("mg_000")
    h = sample.hamiltonian
    return h.with_values(h.values - sample.fermi_level * sample.overlap.values), sample.overlap, sample.structure


def test_moments_of_the_whole_trace(cell):
    """One vector for each orbital: sum of lambda T_n((lambda - m) / w) over the eigenvalues of the same operator."""
    h, s, structure = cell
    (h_k,), (s_k,) = (sparse_at(x, blocked=True) for x in (h, s))
    operator = resolvent(h_k, s_k, _cluster_rows(structure, h, 4), 45.0, h_k.dtype, SPARSE)
    got = chebyshev_moments(operator, 64, np.eye(operator.n))
    overlap = operator.s @ np.eye(operator.n)
    lam = eigh(overlap @ operator.inverse(overlap), overlap, eigvals_only=True)
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
def test_density_within_its_error(cell, dtype):
    """Compare with eigenvalues broadened as much; count all orbitals and the electrons below the Fermi level."""
    h, s, structure = cell
    settings = KpmSettings(n_vectors=32, dtype=dtype, sparse=SPARSE)
    found = kpm(h, s, structure, (-22, 10), 0.7, n_electrons=72, settings=settings)
    (one,) = found.moments
    density, error = found.dos((-15, 8), 60)
    levels = eigenvalues(h, s)[0]
    width = one.width(density.energies)[:, None]
    assert width.max() < 0.75
    expected = (np.exp(-(((density.energies[:, None] - levels) / width) ** 2) / 2) / np.sqrt(2 * np.pi) / width).sum(1)
    # Jackson's kernel is nearly, not wholly, a Gaussian.
    assert (np.abs(density.total - expected) / (error + 0.03 * expected.max())).mean() < 1.5
    assert one.counted_states[0] == pytest.approx(234, rel=2e-3)
    assert found.fermi_error is not None
    assert abs(found.fermi_level) < 4 * found.fermi_error + 0.1
    assert found.electrons([found.fermi_level]).mean() == pytest.approx(72, abs=0.1)
    again = kpm(h, s, structure, (-22, 10), 0.7, n_electrons=72, settings=settings)
    np.testing.assert_array_equal(again.moments[0].values, one.values)


def test_spins(cell, with_spin):
    """A field moves the densities of two collinear spins; a spinor's is their sum, at a k-point where H is complex."""
    h, s, structure = cell
    kpm_settings = KpmSettings(n_vectors=8, dtype=np.float64, sparse=SPARSE)
    settings = dict(window=(-22, 10), width=2.0, kpoint=K, fermi_level=0.0, settings=kpm_settings)
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
    assert spinor.moments[0].counted_states[0] == pytest.approx(468, rel=5e-3)
    assert (np.abs(total.total - density.total.sum(axis=0)) / (error + 0.05 * total.total.max())).mean() < 1.5


def test_number_of_moments():
    shift, number = choose_shift(-20.0, (-20.0, 10.0), 0.1, 5.0)
    assert shift > 25
    assert 1500 < number < 2000
    assert choose_shift(-20.0, (-20.0, 10.0), 0.2, 5.0)[1] == pytest.approx(number / 2, abs=2)


def test_covariance_of_random_vectors():
    for is_complex in (False, True):
        r = random_vectors(30, 20000, 3, is_complex)
        np.testing.assert_allclose(r @ r.conj().T / 20000, np.eye(30), atol=0.04)
    np.testing.assert_array_equal(random_vectors(5, 2, 1, False), random_vectors(5, 2, 1, False))


def test_bad_input(cell):
    h, s, structure = cell
    with pytest.raises(MatrixError, match="need the overlap"):
        kpm(h, None, structure)
    for wrong, message in (({"window": (2, -2)}, "the lower first"), ({"width": 0.0}, "positive width"),
                           ({"width": 1e-5}, "needs [0-9]+ moments")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            kpm(h, s, structure, **wrong)
    for wrong, message in (({"n_moments": 7}, "an even number"), ({"n_vectors": 0}, "1 to 10000")):
        with pytest.raises(ConfigError, match=message):
            KpmSettings(**wrong)
    with pytest.raises(MatrixError, match=r"expected more than 0 and less than 4[67][0-9.]* electrons, got 500"):
        kpm(h, s, structure, (-5, 5), 2.0, n_electrons=500, settings=KpmSettings(n_vectors=2, sparse=SPARSE))
