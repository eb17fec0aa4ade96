"""The Fermi level from states near it against the one of all bands."""

import pytest

from harmose.errors import MatrixError
from harmose.physics.occupations import Gaussian
from harmose.physics.sparse.inertia_fermi import counted_fermi_level
from harmose.physics.states import mesh_fermi_level
from harmose.spin import Spin


@pytest.mark.parametrize("solver", ["dissection", "pardiso"])
@pytest.mark.parametrize(("guess", "electrons"), [(0.0, 72), (6.0, 71.5)])
def test_level_of_all_bands(graphene, guess, electrons, solver):
    if solver == "pardiso":
        pytest.importorskip("pypardiso", exc_type=ImportError)
    sample = graphene("mg_000")
    h, s = sample.hamiltonian, sample.overlap
    expected = mesh_fermi_level(h, s, (2, 2, 1), electrons)
    found = counted_fermi_level(h, s, (2, 2, 1), electrons, guess=expected + guess, solver=solver)
    assert found == pytest.approx(expected, abs=1e-8)


def test_collinear_spins(graphene, with_spin):
    sample = graphene("mg_000")
    h, s = sample.hamiltonian, sample.overlap
    field = 0.2 * s.values[0]
    both = with_spin(h, Spin.COLLINEAR, [h.values[0] + field, h.values[0] - field])
    smearing = Gaussian(0.05)
    expected = mesh_fermi_level(both, s, (1, 1, 1), 73, smearing)
    found = counted_fermi_level(both, s, (1, 1, 1), 73, smearing, sample.fermi_level)
    assert found == pytest.approx(expected, abs=1e-8)


def test_the_middle_of_a_gap(graphene):
    sample = graphene("mg_000")
    h, s = sample.hamiltonian, sample.overlap
    expected = mesh_fermi_level(h, s, (1, 1, 1), 72)
    assert counted_fermi_level(h, s, (1, 1, 1), 72, guess=expected - 1) == pytest.approx(expected, abs=1e-6)


def test_a_solver_that_cannot_count(graphene):
    sample = graphene("mg_000")
    with pytest.raises(MatrixError, match="the solver cannot count the states below an energy"):
        counted_fermi_level(sample.hamiltonian, sample.overlap, (1, 1, 1), 72, solver="superlu")


def test_more_electrons_than_states(graphene):
    sample = graphene("mg_000")
    with pytest.raises(MatrixError, match=r"Fermi level: the states that hold 1e\+06 electrons were not found"):
        counted_fermi_level(sample.hamiltonian, sample.overlap, (1, 1, 1), 1e6)
