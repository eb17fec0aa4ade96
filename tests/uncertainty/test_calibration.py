"""Calibrations: powers are recovered, bounds hold for new samples, and few samples support few confidences."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.errors import ModelError
from harmose.uncertainty.calibration import UNUSUAL, fit_blocks, fit_orbitals
from harmose.uncertainty.orbitals import ORBITAL_KINDS


@pytest.fixture(scope="module")
def calibration(held_out):
    return fit_blocks(held_out(60))


@pytest.fixture
def unrelated(held_out):
    """Errors that depend on the size alone."""
    rng = np.random.default_rng(0)
    return [replace(x, error=x.features.size * np.exp(rng.normal(size=30))) for x in held_out(60)]


def test_powers_are_recovered(calibration):
    np.testing.assert_allclose(calibration.powers, [1.2, 0.5, 0.8, 0.3], atol=0.08)
    assert calibration.n_groups == 60


def test_powers_are_small_where_errors_do_not_depend_on_features(unrelated):
    assert np.abs(fit_blocks(unrelated).powers).max() < 0.1


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_errors_of_new_samples_are_within_their_bounds(calibration, held_out, confidence):
    shares = [(x.error <= calibration.block_bounds(x.features, confidence)).mean() for x in held_out(300, seed=1)]
    assert confidence - 0.06 < np.mean(shares) < confidence + 0.06


def test_bounds_grow_with_the_ood_score(calibration, held_out):
    features = held_out(1, seed=2)[0].features
    far = replace(features, ood_score=20 * features.ood_score)
    assert (calibration.block_bounds(far, 0.9) > 10 * calibration.block_bounds(features, 0.9)).all()


@pytest.mark.parametrize(("name", "k"), [("last_layer_std", 1), ("regression_std", 2)])
def test_beyond_the_calibration_bounds_grow_in_proportion(unrelated, held_out, name, k):
    """These errors do not depend on the standard deviations; above their largest values bounds grow nevertheless."""
    calibration = fit_blocks(unrelated)
    features = replace(held_out(1, seed=2)[0].features, **{name: np.full(30, calibration.feature_limits[k])})
    far = replace(features, **{name: np.full(30, 100 * calibration.feature_limits[k])})
    bounds = calibration.block_bounds(features, 0.9)
    np.testing.assert_allclose(calibration.block_bounds(far, 0.9), 100 * bounds)
    assert calibration.outside(far)
    assert not calibration.outside(replace(features, atom_ood_score=np.ones(3)))


def test_limits_of_standard_deviations(unrelated):
    """Twice the largest of the calibration; no edge of a training set has more than one."""
    calibration = replace(fit_blocks(unrelated), feature_limits=np.array([1.0, 0.2, 7.0]))
    assert calibration.std_limits == (1, 14)
    assert replace(calibration, feature_limits=np.array([1.0, 0.8, np.inf])).std_limits == (1.6, np.inf)


def test_a_large_expected_error_is_outside(calibration, held_out):
    """Although no feature of any block is too large: they are all large together."""
    features = replace(held_out(1, seed=2)[0].features, atom_ood_score=np.ones(3))
    limits = {
        name: np.full(30, calibration.feature_limits[k])
        for k, name in enumerate(("ood_score", "last_layer_std", "regression_std"))
    }
    assert not calibration.outside(features)
    assert calibration.outside(replace(features, **limits))
    unlimited = replace(calibration, error_limit=np.inf)
    assert not unlimited.outside(replace(features, **limits))
    expected = np.average(calibration.expected(features), weights=features.elements)
    assert calibration.expected_of_matrix(features) == pytest.approx(expected)


def test_the_usual_error_is_that_of_the_calibration(calibration, held_out):
    expected = [calibration.expected_of_matrix(x.features) for x in held_out(60)]
    assert calibration.usual_error == pytest.approx(np.median(expected))
    assert calibration.error_limit >= UNUSUAL * calibration.usual_error
    assert np.mean(np.array(expected) <= calibration.error_limit) >= 0.96


def test_a_large_ood_score_of_one_atom_is_outside(calibration, held_out):
    features = held_out(1, seed=2)[0].features
    assert not calibration.outside(replace(features, atom_ood_score=np.array([0.3, 1.9])))
    assert calibration.outside(replace(features, atom_ood_score=np.array([0.3, 2.1])))


def test_few_groups_support_low_confidences(held_out):
    calibration = fit_blocks(held_out(5))
    assert calibration.highest == 0.8
    assert calibration.confidence(None) == 0.8
    assert calibration.confidence(0.6) == 0.6
    with pytest.raises(ModelError, match=r"5 independent samples, which support confidences up to 0\.8; got 0\.9"):
        calibration.confidence(0.9)


def test_one_sample_supports_no_confidence(held_out):
    calibration = fit_blocks(held_out(1))
    assert calibration.highest is None or calibration.highest <= 0.5
    with pytest.raises(ModelError, match="1 independent samples"):
        calibration.confidence(0.9)


def test_samples_of_one_group_count_once(held_out):
    assert fit_blocks([replace(x, group="one") for x in held_out(30)]).n_groups == 1


def test_other_block_types_have_the_factor_of_all(held_out):
    calibration = fit_blocks(held_out(60, block_types=(-1, 0)))
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
