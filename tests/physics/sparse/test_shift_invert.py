"""The states nearest to an energy against the dense solver."""

import numpy as np
import pytest

from harmose.errors import ConfigError, MatrixError
from harmose.physics.eigen import eigenvalues, solve
from harmose.physics.sparse.bloch import sparse_at
from harmose.physics.sparse.settings import SparseSettings
from harmose.physics.sparse.shift_invert import states_near
from harmose.spin import Spin

KPOINTS = [(0.0, 0.0, 0.0), (0.1, 0.27, 0.0)]


SPARSE = SparseSettings(diagonalize_below=0)
"""Nothing is diagonalized as a whole."""


@pytest.fixture(params=["dissection", "superlu", "pardiso"])
def solver(request):
    if request.param == "pardiso":
        pytest.importorskip("pypardiso", exc_type=ImportError)
    return request.param


def test_states_are_those_of_the_dense_solver(graphene, solver):
    """18 atoms, 234 orbitals; to 1e-8 eV, at Gamma and where H(k) is complex."""
    sample = graphene("mg_000")
    h, s, level = sample.hamiltonian, sample.overlap, sample.fermi_level
    found = states_near(h, s, level, 12, KPOINTS, vectors=True, solver=solver, settings=SPARSE)
    all_energies, _ = solve(h, s, KPOINTS)
    assert found.coefficients is not None
    for i, expected in enumerate(all_energies):
        nearest = np.sort(expected[np.argsort(np.abs(expected - level))[:12]])
        np.testing.assert_allclose(found.energies[i], nearest, atol=1e-8)
        below = np.searchsorted(expected, nearest[0] - 1e-6)
        assert found.below[i] == (-1 if solver == "superlu" else below)
        c, h_k, s_k = found.coefficients[i], *(sparse_at(x, KPOINTS[i])[0] for x in (h, s))
        np.testing.assert_allclose(c.conj().T @ (s_k @ c), np.eye(12), atol=1e-9)
        np.testing.assert_allclose(h_k @ c, (s_k @ c) * found.energies[i], atol=1e-6)


def test_center_at_an_eigenvalue(graphene, solver):
    sample = graphene("mg_000")
    h, s = sample.hamiltonian, sample.overlap
    expected = eigenvalues(h, s)[0]
    for level in (expected[36], (expected[40] + expected[41]) / 2):
        found = states_near(h, s, float(level), 6, solver=solver, settings=SPARSE)
        nearest = np.sort(expected[np.argsort(np.abs(expected - level))[:6]])
        np.testing.assert_allclose(found.energies[0], nearest, atol=1e-8)


def test_spins(graphene, with_spin, solver):
    """A field along z splits the levels by twice itself, for collinear and spinor matrices alike."""
    sample = graphene("mg_000")
    h, s, level = sample.hamiltonian, sample.overlap, sample.fermi_level
    field = 0.05 * s.values[0]
    up, down = h.values[0] + field, h.values[0] - field
    expected = eigenvalues(h, s, KPOINTS[1])[0]
    collinear = states_near(
        with_spin(h, Spin.COLLINEAR, [up, down]), s, level, 8, KPOINTS[1], vectors=True, solver=solver
    )
    assert collinear.energies.shape == (2, 1, 8)
    assert collinear.coefficients.shape == (2, 1, 234, 8)
    for found, shift in zip(collinear.energies[:, 0], (0.05, -0.05)):
        shifted = expected + shift
        np.testing.assert_allclose(found, np.sort(shifted[np.argsort(np.abs(shifted - level))[:8]]), atol=1e-8)
    spinor = states_near(
        with_spin(h, Spin.SPINOR, [up, 0 * up, 0 * up, down]), s, level, 16, KPOINTS[1], solver=solver, settings=SPARSE
    )
    both = np.sort(np.concatenate([expected + 0.05, expected - 0.05]))
    np.testing.assert_allclose(spinor.energies[0], np.sort(both[np.argsort(np.abs(both - level))[:16]]), atol=1e-8)


def test_small_matrices_are_diagonalized(graphene):
    sample = graphene("pristine_1x1")
    h, s, level = sample.hamiltonian, sample.overlap, sample.fermi_level
    found = states_near(h, s, level, 4, KPOINTS, solver="not used")
    expected = eigenvalues(h, s, KPOINTS)
    assert found.energies.shape == (2, 4)
    assert found.coefficients is None
    for e, one in zip(expected, found.energies):
        np.testing.assert_allclose(one, np.sort(e[np.argsort(np.abs(e - level))[:4]]), atol=1e-12)


def test_bad_input(graphene):
    sample = graphene("pristine_1x1")
    h, s = sample.hamiltonian, sample.overlap
    with pytest.raises(ConfigError, match="expected 1 to 26 states, got 27"):
        states_near(h, s, 0.0, 27)
    with pytest.raises(ConfigError, match="expected an energy in eV, got nan"):
        states_near(h, s, np.nan, 2)
    with pytest.raises(ConfigError, match="expected dissection, pardiso, superlu, got 'mumps'"):
        states_near(h, s, 0.0, 2, solver="mumps", settings=SPARSE)
    with pytest.raises(MatrixError, match="orbital energies need the overlap"):
        states_near(h, None, 0.0, 2)
