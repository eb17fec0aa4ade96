"""Occupations against their definitions as integrals, Fermi levels against formulas."""

import numpy as np
import pytest
from scipy.integrate import quad

from harmose.errors import ConfigError, MatrixError
from harmose.physics.occupations import (
    FermiDirac,
    Gaussian,
    MethfesselPaxton,
    fermi_level,
    occupations,
    solve_chemical_potential,
)
from harmose.spin import Spin

RULES = [FermiDirac(0.1), Gaussian(0.1), MethfesselPaxton(0.1), MethfesselPaxton(0.1, 3)]


@pytest.mark.parametrize("rule", RULES)
def test_full_and_empty_states(rule):
    energies = np.array([-1e6, -5.0, 0.0, 5.0, 1e6])
    np.testing.assert_allclose(occupations(energies, 0.0, rule), [1, 1, 0.5, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "delta"),
    [
        (Gaussian(1.0), lambda x: np.exp(-(x**2)) / np.sqrt(np.pi)),
        (FermiDirac(1.0), lambda x: 0.25 / np.cosh(x / 2) ** 2),
        # D_1 of Methfessel and Paxton: A_0 H_0 + A_1 H_2 = 1 - (4 x^2 - 2) / 4, over sqrt(pi)
        (MethfesselPaxton(1.0), lambda x: (1.5 - x**2) * np.exp(-(x**2)) / np.sqrt(np.pi)),
    ],
)
def test_occupation_is_the_integral_of_the_broadened_state(rule, delta):
    for x in (-2.0, -0.3, 0.0, 0.8, 2.5):
        assert rule.occupation(np.array(x)) == pytest.approx(quad(delta, x, 40)[0], abs=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_mid_gap(rule):
    energies = np.array([[-5.0, -4.0, 3.0], [-4.5, -2.0, 4.0]])
    level = fermi_level(energies, np.array([0.5, 0.5]), 4, smearing=rule)
    assert level == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_the_fermi_level_counts_the_electrons(rule):
    energies = np.random.default_rng(0).normal(size=(7, 9))
    weights = np.full(7, 1 / 7)
    for n, spin in ((9.3, Spin.NONE), (5.0, Spin.SPINOR)):
        level = fermi_level(energies, weights, n, spin, rule)
        per_state = 2 if spin is Spin.NONE else 1
        assert per_state * weights @ occupations(energies, level, rule).sum(axis=1) == pytest.approx(n, abs=1e-7)
    both = np.stack([energies, energies + 1.0])
    level = fermi_level(both, weights, 8, Spin.COLLINEAR, rule)
    assert (occupations(both, level, rule).sum(axis=-1) @ weights).sum() == pytest.approx(8, abs=1e-7)


def test_two_levels_at_a_temperature():
    """One electron, g = 2 on a level at 0 and 1 eV: f(0) + f(1) = 1/2."""
    beta = 1 / 0.2
    # with z = exp(beta mu): z / (1 + z) + z / (q + z) = 1/2, q = exp(beta): 3 z^2 + (1 + q) z - q = 0
    q = np.exp(beta)
    z = (-(1 + q) + np.sqrt((1 + q) ** 2 + 12 * q)) / 6
    level = fermi_level(np.array([[0.0, 1.0]]), np.ones(1), 1.0, smearing=FermiDirac(0.2))
    assert level == pytest.approx(np.log(z) / beta, abs=1e-9)


def test_bad_input():
    energies = np.zeros((2, 2, 3))
    for n in (0, -1, 12, np.nan):
        with pytest.raises(MatrixError, match="more than 0 and less than 6 electrons"):
            fermi_level(energies, np.ones(2) / 2, n, Spin.COLLINEAR)
    for make in (FermiDirac, Gaussian, MethfesselPaxton):
        with pytest.raises(ConfigError, match="positive width"):
            make(0.0)
    with pytest.raises(ConfigError, match="order of 1 to 10"):
        MethfesselPaxton(0.1, 0)


def test_chemical_potential():
    def count(mu):
        return np.clip(mu, 0, 1) + np.clip(mu - 3, 0, 1)

    assert solve_chemical_potential(count, 0.25, -1, 5) == pytest.approx(0.25, abs=1e-12)
    assert solve_chemical_potential(count, 1, -1, 5, tolerance=1e-9) == pytest.approx(2, abs=1e-8)
    with pytest.raises(MatrixError, match="expected more than 0 and less than 2 electrons, got 2"):
        solve_chemical_potential(count, 2, -1, 5)
