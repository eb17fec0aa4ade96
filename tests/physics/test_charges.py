"""Charges and density of H0: number of electrons, self-consistency, rotation."""

import numpy as np
import pytest
from scipy.linalg import eigh

from harmose.errors import MatrixError
from harmose.physics import charges
from harmose.physics.charges import (
    TEMPERATURE,
    UnconvergedCharges,
    charge_state,
    coulomb,
    fixed_point,
    response,
    thermal_occupations,
)
from harmose.so3.wigner import random_rotation
from harmose.units import HARTREE


def state(sample, rotation=None):
    prior, overlap, positions = sample.hamiltonian, sample.overlap, sample.structure.positions
    if rotation is not None:
        prior, overlap, positions = prior.rotate(rotation), overlap.rotate(rotation), positions @ rotation.T
    return charge_state(prior, overlap, positions, 10.0)


def test_self_consistency(water_sample):
    sample = water_sample(0)
    found = state(sample)
    assert found.charge.sum() == pytest.approx(0, abs=1e-9)
    assert found.density.dense().trace() == pytest.approx(10, abs=1e-9)
    kernel = coulomb(sample.structure.numbers, sample.structure.positions)
    np.testing.assert_allclose(found.potential, kernel @ found.charge, atol=1e-8)
    # The density is that of H0 + (V_i + V_j) / 2 in the orthogonalized basis: solved here as a generalized problem.
    s, h = sample.overlap.dense(), sample.hamiltonian.dense() / HARTREE
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(values)) @ vectors.T
    shift = np.diag(np.repeat(found.potential, sample.hamiltonian.orbital_counts))
    levels, orbitals = eigh(h + root @ shift @ root, s)
    density = (orbitals * thermal_occupations(levels, 10.0)) @ orbitals.T
    np.testing.assert_allclose(root @ density @ root, found.density.dense(), atol=1e-8)


def test_rotation(water_sample):
    sample, rotation = water_sample(3), random_rotation(np.random.default_rng(1))
    here, there = state(sample), state(sample, rotation)
    np.testing.assert_allclose(there.charge, here.charge, atol=1e-9)
    np.testing.assert_allclose(there.density.dense(), here.density.rotate(rotation).dense(), atol=1e-8)


def test_thermal_occupations():
    levels = np.array([-2.0, -0.5, -0.5 + TEMPERATURE, 1.0])
    filled = thermal_occupations(levels, 4.0)
    assert filled.sum() == pytest.approx(4)
    assert (np.diff(filled) < 0).all()
    assert 1 < filled[1] < 2


def test_an_indefinite_overlap(water_sample):
    sample = water_sample(0)
    with pytest.raises(MatrixError, match="positive definite"):
        charge_state(sample.hamiltonian, sample.overlap.with_values(-sample.overlap.values), np.eye(3), 10.0)


def test_charges_that_do_not_converge_warn(water_sample, monkeypatch):
    monkeypatch.setattr(charges, "MAX_CYCLES", 2)
    with pytest.warns(UnconvergedCharges, match=r"charges: not self-consistent after 2 cycles; .* by .*e-0. Hartree"):
        found = state(water_sample(0))
    assert np.isfinite(found.density.values).all()


def test_more_electrons_than_orbitals_hold(water_sample):
    sample = water_sample(0)
    with pytest.raises(MatrixError, match="expected more than 0 and less than 14 electrons, got 14"):
        charge_state(sample.hamiltonian, sample.overlap, sample.structure.positions, 14.0)


def test_fixed_point():
    x, residual = fixed_point(np.cos, np.array([0.0, 1.0]), 0.3 * np.eye(2))
    np.testing.assert_allclose(x, 0.7390851332151607, atol=1e-9)
    assert residual < 1e-9


def test_the_response_is_the_slope_of_the_charges(water_sample):
    """By differences of the charges of a potential, with levels that are partly filled."""
    sample = water_sample(0)
    h, atom = sample.hamiltonian.dense() / HARTREE, np.repeat([0, 1, 2], sample.hamiltonian.orbital_counts)

    def charge(potential, n):
        levels, orbitals = eigh(h + np.diag(potential[atom]))
        filled = thermal_occupations(levels, n)
        return np.bincount(atom, (orbitals**2 * filled).sum(1)), levels, orbitals, filled

    for n in (10.0, 9.3):
        _, *solution = charge(np.zeros(3), n)
        moved = [charge(1e-4 * v, n)[0] - charge(-1e-4 * v, n)[0] for v in np.eye(3)]
        np.testing.assert_allclose(response(*solution, atom), np.transpose(moved) / 2e-4, atol=1e-6)
