"""Predictions with bounds."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.errors import ModelError
from harmose.uncertainty.calibration import fit_blocks, fit_orbitals
from harmose.uncertainty.features import ErrorFeatures
from harmose.uncertainty.orbitals import orbital_energies, orbital_errors
from harmose.uncertainty.prediction import BoundedEnergy, Uncertainty, mean_errors


@pytest.fixture(scope="module")
def uncertainty(water_sample, held_out) -> Uncertainty:
    """Water, with bounds of orbital energies from forty other waters."""
    calibration, orbitals = fit_blocks(held_out(40)), []
    for seed in range(40):
        sample = water_sample(seed)
        h, s = sample.hamiltonian, sample.overlap
        energies = orbital_energies(h, s, np.full(len(h.keys), 1e-3), 10)
        orbitals.append((f"g{seed}", orbital_errors(energies, energies.energies + 1e-3 * energies.spreads)))
    calibration = fit_orbitals(calibration, orbitals)
    n, one = len(h.keys), np.ones(len(h.keys))
    block_type, elements = np.array([-1] * 3 + [0] * (n - 3)), np.diff(h.offsets) * h.multiplicity
    features = ErrorFeatures(block_type, 0.01 * one, one, 0.1 * one, one, one, elements, np.ones(3))
    return Uncertainty(h, 0.9, features, calibration, energies)


def test_a_higher_confidence_has_wider_bounds(uncertainty):
    assert (uncertainty.at(0.5).blocks < uncertainty.blocks).all()
    assert uncertainty.at(0.5).confidence == 0.5
    with pytest.raises(ModelError, match="support confidences up to"):
        uncertainty.at(0.999)


def test_each_energy_has_the_bound_of_its_kind(uncertainty):
    energies, calibration = uncertainty.orbitals, uncertainty.calibration
    occupied = calibration.orbital_bounds("occupied", energies.spreads[:5], 0.9)
    np.testing.assert_allclose(uncertainty.orbital_bounds[:5], occupied)
    unoccupied = calibration.orbital_bounds("unoccupied", energies.spreads[5:], 0.9)
    np.testing.assert_allclose(uncertainty.orbital_bounds[5:], unoccupied)


def test_the_gap_is_the_difference_of_the_frontier_energies(uncertainty):
    assert uncertainty.gap.value == pytest.approx(uncertainty.lumo.value - uncertainty.homo.value)
    assert 0 < uncertainty.gap.bound < np.inf


def test_the_expected_error_is_a_mean_over_all_elements(uncertainty):
    h, expected = uncertainty.hamiltonian, uncertainty.calibration.expected(uncertainty.features)
    elements = np.zeros((7, 7))
    starts = h.orbital_starts
    for (i, j, *_), value in zip(h.keys, expected):
        for a, b in ((i, j), (j, i)):
            elements[starts[a] : starts[a + 1], starts[b] : starts[b + 1]] = value
    assert uncertainty.expected_error == pytest.approx(elements.mean())


def test_without_orbitals_there_are_no_energies(uncertainty):
    without = replace(uncertainty, orbitals=None)
    assert without.gap is None
    assert without.orbital_energies is None
    assert without.orbital_bounds is None
    assert set(without.arrays()) == {"confidence", "block_bounds", "ood_scores"}
    assert set(without.summary()) == {"confidence", "outside", "expected_error"}
    assert set(uncertainty.summary()) == {*without.summary(), "homo", "lumo", "gap"}
    assert uncertainty.arrays()["orbital_bounds"].shape == (7,)


@pytest.mark.parametrize("how", ["reasons", "ood score", "standard deviation"])
def test_outside_the_training_domain_there_are_no_bounds(uncertainty, how):
    features = uncertainty.features
    outside = {
        "reasons": replace(uncertainty, reasons=("1 of 3 pairs of elements that the training set lacks",)),
        "ood score": replace(uncertainty, features=replace(features, atom_ood_score=np.array([1.0, 9.0, 1.0]))),
        "standard deviation": replace(uncertainty, features=replace(features, regression_std=1e6 * np.ones(6))),
    }[how]
    assert not uncertainty.outside
    assert outside.outside
    for u in (outside, outside.at(0.5)):
        assert np.isinf(u.blocks).all()
        assert np.isinf(u.orbital_bounds).all()
        assert all(np.isinf(x.bound) for x in (u.homo, u.lumo, u.gap))
    assert outside.gap.value == uncertainty.gap.value
    assert str(outside.gap).endswith("(no bound)")
    assert 0 < outside.expected_error < np.inf
    summary = outside.summary()
    assert summary == {"confidence": 0.9, "outside": True, "expected_error": outside.expected_error}
    assert np.isinf(outside.arrays()["block_bounds"]).all()


def test_what_was_not_used_is_said(uncertainty):
    """It alone does not put a structure outside: bounds are those of a prediction without it."""
    unused = replace(uncertainty, unused=("network not used for 2 of 3 pairs",))
    assert not unused.outside
    np.testing.assert_array_equal(unused.blocks, uncertainty.blocks)


def test_mean_errors_are_those_of_each_block(water_sample):
    a, b = water_sample(0).hamiltonian, water_sample(1).hamiltonian
    errors = mean_errors(a, b)
    for k, (i, j, *_) in enumerate(a.keys):
        assert errors[k] == pytest.approx(np.abs(a.block(i, j) - b.block(i, j)).mean())


@pytest.mark.parametrize(
    ("bound", "text"), [(0.0003, "6.18473 ± 0.00030"), (0.5, "6.18 ± 0.50"), (np.inf, "6.184730 (no bound)")]
)
def test_energies_are_printed_to_the_digits_of_their_bounds(bound, text):
    assert str(BoundedEnergy(6.18473, bound)) == text
