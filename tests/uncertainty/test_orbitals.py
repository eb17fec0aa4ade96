"""Spreads of orbital energies follow from those of blocks to first order."""

import numpy as np
import pytest

from harmose.physics.eigen import eigenvalues, overlap_at_gamma, solve
from harmose.physics.ghosts import OCCUPIED_LIMIT, on_site_of, overlap_ratios
from harmose.spin import Spin
from harmose.uncertainty.orbitals import OrbitalEnergies, orbital_energies, orbital_errors, orbital_spreads


def uniform(sample, n_electrons: float | None = 10) -> OrbitalEnergies:
    """Orbital energies of a sample whose blocks all have a spread of 1 meV."""
    spreads = np.full(len(sample.hamiltonian.keys), 1e-3)
    return orbital_energies(sample.hamiltonian, sample.overlap, spreads, n_electrons)


def test_energies_scatter_as_predicted(water_sample):
    """2,000 draws of independent errors, whose size differs from block to block."""
    sample, rng = water_sample(0), np.random.default_rng(0)
    h, s = sample.hamiltonian, sample.overlap
    spreads = 1e-4 * np.exp(rng.normal(size=len(h.keys)))
    noise = rng.normal(size=(2000, h.values.shape[1])) * np.repeat(spreads, np.diff(h.offsets))
    coefficients = solve(h, s)[1][0]
    # on-site blocks of the noise are not symmetric: the equation takes their elements as independent
    shifts = [coefficients.T @ h.with_values(x[None]).dense() @ coefficients for x in noise]
    observed = np.std(np.diagonal(shifts, axis1=1, axis2=2), axis=0)
    np.testing.assert_allclose(orbital_spreads(h, coefficients, spreads), observed, rtol=0.08)


def test_an_error_of_one_block_shifts_energies_by_at_most_its_population(water_sample):
    sample = water_sample(1)
    h, s = sample.hamiltonian, sample.overlap
    spreads = np.zeros(len(h.keys))
    spreads[0] = 1e-5
    before, after = (eigenvalues(x, s)[0] for x in (h, h.with_values(h.values + 1e-5 * (h.indices[0] == 0))))
    largest = h.orbital_counts[0] * orbital_energies(h, s, spreads, 10).spreads
    assert (np.abs(after - before) <= largest * (1 + 1e-3) + 1e-12).all()


def test_frontier_orbitals(water_sample):
    sample = water_sample(2)
    energies, frontier = np.asarray(sample.orbital_energies), uniform(sample).frontier()
    assert frontier["homo"][0] == pytest.approx(energies[4])
    assert frontier["gap"][0] == pytest.approx(energies[5] - energies[4])
    assert frontier["gap"][1] == pytest.approx(np.hypot(frontier["homo"][1], frontier["lumo"][1]))


def test_no_gap_without_unoccupied_orbitals():
    full = OrbitalEnergies(np.array([-1.0, 0.5]), np.ones(2), 2)
    assert set(full.frontier()) == {"homo"}
    assert set(OrbitalEnergies(np.array([0.5]), np.ones(1), 0).frontier()) == {"lumo"}


def test_errors_by_kind(water_sample):
    sample = water_sample(2)
    errors = orbital_errors(uniform(sample), np.asarray(sample.orbital_energies) + 0.25)
    np.testing.assert_allclose(errors["occupied"][0], 0.25)
    assert len(errors["occupied"][0]) == 5
    assert len(errors["unoccupied"][0]) == 2
    assert errors["gap"][0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR, Spin.SPINOR])
def test_crystals_have_bands_at_gamma(random_crystal, spin):
    sample = random_crystal(spin)
    bands = uniform(sample, None)
    n = sample.hamiltonian.n_orbitals * (1 if spin is Spin.NONE else 2)
    assert bands.energies.shape == bands.spreads.shape == (n,)
    assert not bands.frontier()
    assert set(orbital_errors(bands, bands.energies)) == {"gamma"}
    assert (bands.spreads > 0).all()


def test_ghosts_of_molecules(water_sample, with_ghost):
    sample = water_sample(0)
    h, s = sample.hamiltonian, sample.overlap
    assert len(uniform(sample).ghosts) == 0
    wrong = orbital_energies(with_ghost(h, s), s, np.full(len(h.keys), 1e-3), 10)
    assert wrong.ghosts.energies.tolist() == [wrong.energies[1]]


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR, Spin.SPINOR])
def test_ghosts_at_gamma(random_crystal, spin):
    """Bands that the electrons of a cell fill count as occupied, which concerns nothing but ghosts."""
    sample = random_crystal(spin)
    h, s = sample.hamiltonian, sample.overlap
    spreads = np.full(len(h.keys), 1e-3)
    bands, full = (orbital_energies(h, s, spreads, n) for n in (None, 2 * h.n_orbitals))
    assert len(bands.ghosts) == 0
    np.testing.assert_array_equal(full.energies, bands.energies)
    assert full.n_occupied is None
    _, c = solve(h, s)
    ratios = overlap_ratios(c.reshape(-1, *c.shape[-2:]), overlap_at_gamma(s, spin), on_site_of(s, spin))
    np.testing.assert_allclose(np.sort(full.ghosts.ratios), np.sort(ratios[ratios < OCCUPIED_LIMIT]))
