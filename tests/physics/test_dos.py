"""Densities of states against closed forms, and for the sums that they must have."""

import numpy as np
import pytest

from harmose.errors import ConfigError, MatrixError
from harmose.physics import dos as dos_module
from harmose.physics.bloch import bloch_sum
from harmose.physics.dos import DENSE_ORBITALS, DosSettings, dos, uses_kpm
from harmose.physics.eigen import eigenvalues, solve
from harmose.physics.projections import GROUPINGS, mulliken
from harmose.physics.sparse.kpm import KpmSettings
from harmose.spin import Spin


@pytest.mark.parametrize("width", [0.1, None])
def test_van_hove_density_of_a_chain(chain, width):
    """g(E) = 1 / (pi sqrt(4 t^2 - E^2)) for e = 2 t cos k."""
    h, s, atoms = chain(0.0, -1.0)
    found = dos(h, s, atoms, mesh=(600, 1, 1), settings=DosSettings((-1.5, 1.5), width and 0.02, points=61))
    expected = 1 / (np.pi * np.sqrt(4 - found.energies**2))
    np.testing.assert_allclose(found.total, expected, rtol=1e-2)


@pytest.mark.parametrize("by", [None, *GROUPINGS])
def test_integral_and_sum_of_projections(graphene, by):
    sample = graphene("pristine_1x1")
    found = dos(
        sample.hamiltonian, sample.overlap, sample.structure, (6, 6, 1), 8, settings=DosSettings(by=by, points=4001)
    )
    assert np.trapezoid(found.total, found.energies) == pytest.approx(26, abs=1e-6)
    if by is not None:
        np.testing.assert_allclose(sum(found.projections.values()), found.total, atol=1e-10)
    names = {"element": ["C"], "atom": ["C 0", "C 1"], "l": ["C s", "C p", "C d"],
             "shell": ["C 2s", "C 3s", "C 2p", "C 3p", "C 3d"], None: []}  # fmt: skip
    assert list(found.projections) == names[by]


def test_integral_up_to_the_fermi_level(graphene):
    """Two per state; and the tetrahedra agree with Gaussians about it."""
    sample = graphene("pristine_1x1")
    for width, error in ((0.02, 0.01), (None, 0.08)):
        found = dos(
            sample.hamiltonian,
            sample.overlap,
            sample.structure,
            (9, 9, 1),
            8,
            settings=DosSettings((-25, 0), width, points=2001),
        )
        assert found.relative[-1] == pytest.approx(0)
        assert 2 * np.trapezoid(found.total, found.energies) == pytest.approx(8, abs=error)


def test_graphene_is_pi_at_the_fermi_level(graphene):
    """Odd under z -> -z: p_z with some d_xz and d_yz, but no s at all."""
    sample = graphene("pristine_1x1")
    found = dos(
        sample.hamiltonian,
        sample.overlap,
        sample.structure,
        (12, 12, 1),
        8,
        settings=DosSettings((-2, 2), by="l", points=101),
    )
    total = found.total.sum()
    assert found.projections["C p"].sum() > 0.85 * total
    assert found.projections["C s"].sum() == pytest.approx(0, abs=1e-9 * total)


def test_mulliken_weights(graphene):
    sample = graphene("mg_000")
    h, s, k = sample.hamiltonian, sample.overlap, np.array([[0.1, 0.2, 0.0]])
    _, c = solve(h, s, k)
    overlap = bloch_sum(s, k)
    weights = mulliken(c, overlap, GROUPINGS["atom"](h), h.spin)[0]
    assert weights.shape == (18, 234)
    for atom, band in ((0, 0), (5, 36), (17, 100)):
        mine = slice(13 * atom, 13 * atom + 13)
        expected = np.real(c[0, mine, band].conj() @ (overlap[0] @ c[0, :, band])[mine])
        assert weights[atom, band] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-10)


def test_molecule(water_sample):
    sample = water_sample(0)
    found = dos(
        sample.hamiltonian,
        sample.overlap,
        sample.structure,
        n_electrons=10,
        settings=DosSettings(width=0.05, by="atom", points=20001),
    )
    assert np.trapezoid(found.total, found.energies) == pytest.approx(7, abs=1e-6)
    assert list(found.projections) == ["O 0", "H 1", "H 2"]
    levels = eigenvalues(sample.hamiltonian, sample.overlap)[0]
    assert levels[4] < found.fermi_level < levels[5]


def test_collinear_and_spinor(chain, with_spin):
    h, s, atoms = chain(0, 0)
    both = with_spin(h, Spin.COLLINEAR, [[-1.5, 0.25], [0.5, -0.25]])
    found = dos(both, s, atoms, (12, 1, 1), 1, settings=DosSettings(by="shell", points=2001))
    assert found.total.shape == (2, 2001)
    np.testing.assert_allclose(np.trapezoid(found.total, found.energies), 1, atol=1e-9)
    np.testing.assert_allclose(found.projections["H 1s"], found.total, atol=1e-12)
    assert found.energies[np.argmax(found.total[0])] < found.fermi_level < found.energies[np.argmax(found.total[1])]
    band, field = np.array([0.0, -0.1]), np.array([0.4, 0.0])
    spinor = with_spin(h, Spin.SPINOR, [band, field, field, band])
    found = dos(spinor, s, atoms, (12, 1, 1), 1, settings=DosSettings(by="element", points=2001))
    assert np.trapezoid(found.total, found.energies) == pytest.approx(2)
    np.testing.assert_allclose(found.projections["H"], found.total, atol=1e-12)


def test_window_relative_to_the_fermi_level(chain):
    h, s, atoms = chain(-3.0, -0.5)
    known = dos(h, s, atoms, (12, 1, 1), 1, settings=DosSettings((-1, 2), points=4))
    np.testing.assert_allclose(known.relative, [-1, 0, 1, 2], atol=1e-9)
    np.testing.assert_allclose(known.energies, [-4, -3, -2, -1], atol=1e-6)
    unknown = dos(h, s, atoms, (12, 1, 1), settings=DosSettings((-1, 2), points=4))
    assert unknown.fermi_level is None
    np.testing.assert_allclose(unknown.relative, [-1, 0, 1, 2])


def test_bad_input(chain):
    h, s, atoms = chain(-1.0, -0.5)
    with pytest.raises(MatrixError, match=r"density of states: .* overlap S is needed"):
        dos(h, None, atoms)
    with pytest.raises(ConfigError, match="projection: expected one of element, atom, shell, l, got 'colour'"):
        DosSettings(by="colour")
    with pytest.raises(ConfigError, match="positive width"):
        DosSettings(width=0.0)
    with pytest.raises(ConfigError, match="the lower first, got 2 and -2"):
        dos(h, s, atoms, settings=DosSettings((2, -2)))
    with pytest.raises(ConfigError, match="2 to 1000000 points"):
        DosSettings(points=1)


def test_default_method():
    large = DENSE_ORBITALS + 1
    assert uses_kpm(large, None, DosSettings())
    assert not uses_kpm(DENSE_ORBITALS, None, DosSettings())
    assert uses_kpm(1, None, DosSettings(method="kpm"))
    assert not uses_kpm(large, None, DosSettings(method="dense"))
    for mesh, settings in (((2, 2, 1), {}), (None, {"by": "element"}), (None, {"width": None})):
        assert not uses_kpm(large, mesh, DosSettings(**settings))
        with pytest.raises(ConfigError, match="expected method dense, got kpm"):
            uses_kpm(1, mesh, DosSettings(**settings, method="kpm"))
    with pytest.raises(ConfigError, match="expected auto, dense or kpm, got 'chebyshev'"):
        DosSettings(method="chebyshev")


def test_kernel_polynomials_of_a_large_cell(graphene, monkeypatch):
    sample = graphene("pristine_1x1")
    h, s, atoms = sample.hamiltonian, sample.overlap, sample.structure
    settings = DosSettings((-25, 10), 1.0, points=401, kpm=KpmSettings(n_vectors=64))
    dense = dos(h, s, atoms, (1, 1, 1), fermi_level=0.0, settings=settings)
    monkeypatch.setattr(dos_module, "DENSE_ORBITALS", h.n_orbitals - 1)
    large = dos(h, s, atoms, fermi_level=0.0, settings=settings)
    assert dense.error is None
    assert large.error is not None
    assert large.error.shape == large.total.shape == (401,)
    np.testing.assert_array_equal(large.energies, dense.energies)
    assert np.trapezoid(large.total, large.energies) == pytest.approx(
        np.trapezoid(dense.total, dense.energies), rel=0.1
    )
