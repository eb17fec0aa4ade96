"""Calibrations: powers are recovered, bounds hold for new samples, and few samples support few confidences."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.errors import ModelError
from harmose.uncertainty.calibration import fit_blocks, fit_orbitals
from harmose.uncertainty.orbitals import ORBITAL_KINDS


@pytest.fixture(scope="module")
def calibration(held_out, last_layer):
    return fit_blocks(held_out(60), last_layer)


@pytest.fixture
def unrelated(held_out):
    """Errors that depend on the size alone."""
    rng = np.random.default_rng(0)
    return [replace(x, error=x.features.size * np.exp(rng.normal(size=30))) for x in held_out(60)]


def test_powers_are_recovered(calibration):
    np.testing.assert_allclose(calibration.powers, [1.2, 0.5, 0.3], atol=0.08)
    assert calibration.n_groups == 60


def test_powers_are_small_where_errors_do_not_depend_on_features(unrelated, last_layer):
    assert np.abs(fit_blocks(unrelated, last_layer).powers).max() < 0.1


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_errors_of_new_samples_are_within_their_bounds(calibration, held_out, confidence):
    shares = [(x.error <= calibration.block_bounds(x.features, confidence)).mean() for x in held_out(300, seed=1)]
    assert confidence - 0.06 < np.mean(shares) < confidence + 0.06


def test_bounds_grow_with_the_ood_score(calibration, held_out):
    features = held_out(1, seed=2)[0].features
    far = replace(features, ood_score=20 * features.ood_score)
    assert (calibration.block_bounds(far, 0.9) > 10 * calibration.block_bounds(features, 0.9)).all()


def test_beyond_the_calibration_bounds_grow_in_proportion(unrelated, held_out, last_layer):
    """These errors do not depend on the standard deviation; above its largest value bounds grow nevertheless."""
    calibration = fit_blocks(unrelated, last_layer)
    largest = calibration.feature_limits[1]
    features = replace(held_out(1, seed=2)[0].features, last_layer_std=np.full(30, largest))
    far = replace(features, last_layer_std=100 * features.last_layer_std)
    bounds = calibration.block_bounds(features, 0.9)
    np.testing.assert_allclose(calibration.block_bounds(far, 0.9), 100 * bounds)
    assert calibration.outside(far)
    assert not calibration.outside(replace(features, atom_ood_score=np.ones(3)))


def test_a_large_ood_score_of_one_atom_is_outside(calibration, held_out):
    features = held_out(1, seed=2)[0].features
    assert not calibration.outside(replace(features, atom_ood_score=np.array([0.3, 1.9])))
    assert calibration.outside(replace(features, atom_ood_score=np.array([0.3, 2.1])))


def test_few_groups_support_low_confidences(held_out, last_layer):
    calibration = fit_blocks(held_out(5), last_layer)
    assert calibration.highest == 0.8
    assert calibration.confidence(None) == 0.8
    assert calibration.confidence(0.6) == 0.6
    with pytest.raises(ModelError, match=r"5 independent samples, which support confidences up to 0\.8; got 0\.9"):
        calibration.confidence(0.9)


def test_one_sample_supports_no_confidence(held_out, last_layer):
    calibration = fit_blocks(held_out(1), last_layer)
    assert calibration.highest is None or calibration.highest <= 0.5
    with pytest.raises(ModelError, match="1 independent samples"):
        calibration.confidence(0.9)


def test_samples_of_one_group_count_once(held_out, last_layer):
    assert fit_blocks([replace(x, group="one") for x in held_out(30)], last_layer).n_groups == 1


def test_other_block_types_have_the_factor_of_all(held_out, last_layer):
    calibration = fit_blocks(held_out(60, block_types=(-1, 0)), last_layer)
    features = held_out(1, seed=3, block_types=(7,))[0].features
    column = calibration.confidences.tolist().index(0.9)
    expected = calibration.block_factors[-1, column] * calibration.spreads(features)
    np.testing.assert_allclose(calibration.block_bounds(features, 0.9), expected)


def test_expected_errors_are_means(calibration, held_out):
    new = held_out(300, seed=1)
    expected, error = (np.concatenate(x) for x in zip(*((calibration.expected(x.features), x.error) for x in new)))
    assert expected.mean() == pytest.approx(error.mean(), rel=0.2)


def test_orbital_energies(calibration):
    rng = np.random.default_rng(4)
    spread = np.exp(rng.normal(size=(80, 5)))
    error = 0.3 * spread**0.5 * np.exp(0.3 * rng.normal(size=(80, 5)))
    samples = [(f"g{k}", {"occupied": (e, s)}) for k, (e, s) in enumerate(zip(error, spread))]
    fitted = fit_orbitals(calibration, samples)
    assert fitted.orbital_powers[ORBITAL_KINDS.index("occupied")] == pytest.approx(0.5, abs=0.1)
    assert 0.85 < (error <= fitted.orbital_bounds("occupied", spread, 0.9)).mean() < 0.95
    assert np.isinf(fitted.orbital_bounds("gap", np.ones(1), 0.9))
    largest = spread.max()
    near, far = fitted.orbital_bounds("occupied", np.array([largest, 100 * largest]), 0.9)
    assert far == pytest.approx(100 * near)
