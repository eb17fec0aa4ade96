"""Spreads of orbital energies follow from those of blocks to first order."""

import numpy as np
import pytest

from harmose.physics.eigen import eigenvalues, solve
from harmose.spin import Spin
from harmose.uncertainty.orbitals import compared, level_spreads, levels


def test_levels_scatter_as_predicted(water_sample):
    """2,000 draws of independent errors, elements of each block of their own size, in the eigenproblem itself."""
    sample, rng = water_sample(0), np.random.default_rng(0)
    h, s = sample.hamiltonian, sample.overlap
    spreads = 1e-4 * np.exp(rng.normal(size=len(h.keys)))
    noise = rng.normal(size=(2000, h.values.shape[1])) * np.repeat(spreads, np.diff(h.offsets))
    coefficients = solve(h, s)[1][0]
    # on-site blocks of the noise are not symmetric: their elements are independent, as the equation has it
    moved = [coefficients.T @ h.with_values(x[None]).dense() @ coefficients for x in noise]
    found = np.std(np.diagonal(moved, axis1=1, axis2=2), axis=0)
    np.testing.assert_allclose(level_spreads(h, coefficients, spreads), found, rtol=0.08)


def test_first_order_is_the_change_of_the_eigenvalue(water_sample):
    sample = water_sample(1)
    h, s = sample.hamiltonian, sample.overlap
    spreads = np.zeros(len(h.keys))
    spreads[0] = 1e-5  # of every element of oxygen's own block, all at once: p_O^2 is the most that they can do
    before, after = (eigenvalues(x, s)[0] for x in (h, h.with_values(h.values + 1e-5 * (h.indices[0] == 0))))
    n = h.orbital_counts[0]
    assert (np.abs(after - before) <= n * levels(h, s, spreads, 10).spreads * (1 + 1e-3) + 1e-12).all()


def test_frontier_and_comparison(water_sample):
    sample = water_sample(2)
    found = levels(sample.hamiltonian, sample.overlap, np.full(len(sample.hamiltonian.keys), 1e-3), 10)
    e = np.asarray(sample.orbital_energies)
    frontier = found.frontier()
    assert frontier["gap"][0] == pytest.approx(e[5] - e[4])
    assert frontier["gap"][1] == pytest.approx(np.hypot(frontier["homo"][1], frontier["lumo"][1]))
    errors = compared(found, e + 0.25)
    np.testing.assert_allclose(errors["occupied"][0], 0.25)
    assert len(errors["occupied"][0]) == 5
    assert len(errors["unoccupied"][0]) == 2
    assert errors["gap"][0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR, Spin.SPINOR])
def test_crystals_have_bands_at_gamma(random_crystal, spin):
    sample = random_crystal(spin)
    found = levels(sample.hamiltonian, sample.overlap, np.full(len(sample.hamiltonian.keys), 1e-3), None)
    n = sample.hamiltonian.n_orbitals * (1 if spin is Spin.NONE else 2)
    assert found.energies.shape == found.spreads.shape == (n,)
    assert not found.frontier()
    assert set(compared(found, found.energies)) == {"gamma"}
    assert (found.spreads > 0).all()
