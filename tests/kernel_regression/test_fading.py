"""Fades: weights between one and zero, the error of the mixture, and parameters that are recovered from errors."""

import numpy as np
import pytest

from harmose.kernel_regression.fading import NO_FADE, Fade, fit_fade

VARIANCES = np.concatenate([[0], np.geomspace(1e-3, 1e12, 61)])


def test_weights_fall_from_one_to_zero():
    w = Fade(3.0, 50.0).weight(VARIANCES)
    assert w[0] == 1
    assert (np.diff(w) < 0).all()
    assert 0 < w[-1] < 1e-9
    assert Fade(3.0, 50.0).weight(np.array([50 / 3])) == pytest.approx(0.5)


def test_what_never_fades():
    np.testing.assert_array_equal(NO_FADE.weight(VARIANCES), 1)
    np.testing.assert_array_equal(NO_FADE.std(VARIANCES), 1)
    std = Fade(2.0, np.inf).std(VARIANCES)
    np.testing.assert_allclose(std, np.sqrt(1 + 2 * VARIANCES))


def test_the_standard_deviation_is_that_of_a_mixture_of_independent_errors(rng):
    fade, variance = Fade(3.0, 50.0), np.array([0.1, 1.0, 10.0, 100.0])
    f = np.sqrt(1 + fade.growth * variance) * rng.normal(size=(40_000, 4))
    g = np.sqrt(fade.gain) * rng.normal(size=(40_000, 4))
    w = fade.weight(variance)
    np.testing.assert_allclose(fade.std(variance), (g + w * (f - g)).std(0), rtol=0.02)


def test_the_standard_deviation_goes_from_the_one_error_to_the_other():
    fade = Fade(3.0, 50.0)
    assert fade.std(VARIANCES)[0] == 1
    assert fade.std(VARIANCES)[-1] == pytest.approx(np.sqrt(50), rel=1e-6)


def test_far_away_weights_are_the_best_ones():
    """The mixture's error w^2 (1 + growth v) + (1 - w)^2 gain is smallest at gain / (gain + 1 + growth v)."""
    fade = Fade(3.0, 1e3)
    np.testing.assert_allclose(fade.weight(VARIANCES), fade.gain / (fade.gain + 1 + 3 * VARIANCES), rtol=1.1e-3)


def errors(rng, variance: np.ndarray, growth: float) -> np.ndarray:
    """Squared errors whose mean is 0.04 (1 + growth v)."""
    return 0.04 * (1 + growth * variance) * rng.normal(size=len(variance)) ** 2


@pytest.mark.parametrize("growth", [4.0, 50.0])
def test_growth_and_gain_are_recovered(rng, growth):
    near, far = rng.uniform(0, 1e-3, size=20_000), rng.uniform(100, 300, size=20_000)
    simpler = 0.04 * 700 * rng.normal(size=20_000) ** 2
    fade = fit_fade(errors(rng, near, growth), near, errors(rng, far, growth), far, simpler)
    assert fade.growth == pytest.approx(growth, rel=0.05)
    assert fade.gain == pytest.approx(700, rel=0.05)


def test_errors_grow_at_least_as_the_variance(rng):
    near, far = rng.uniform(0, 1e-3, size=1000), rng.uniform(100, 300, size=1000)
    simpler = np.ones(1000)
    assert fit_fade(errors(rng, near, 0.1), near, errors(rng, far, 0.1), far, simpler).growth == 1
    assert fit_fade(errors(rng, near, 0.1), near, np.zeros(0), np.zeros(0), simpler).growth == 1


def test_a_regression_without_any_error_does_not_fade_nearby():
    fade = fit_fade(np.zeros(5), np.zeros(5), np.zeros(2), np.ones(2), np.ones(5))
    assert fade.weight(np.ones(1)) == pytest.approx(1)
    fade = fit_fade(np.zeros(5), np.zeros(5), np.zeros(2), np.ones(2), np.zeros(5))
    assert fade.weight(np.zeros(1)) == 1
    assert np.isfinite(fade.std(VARIANCES[:10])).all()
