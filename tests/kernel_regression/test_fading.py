"""Fades: weights between one and zero, the error of the mixture, and parameters that are recovered from errors."""

import numpy as np
import pytest

from harmose.kernel_regression.fading import FEWEST, KNOWN, NO_FADE, STRENGTHS, Fade, fit_fade, with_strength

VARIANCES = np.concatenate([[0], np.geomspace(1e-3, 1e12, 61)])
FADES = [
    Fade(growth=3.0, gain=50.0),
    Fade(growth=3.0, power=0.75, gain=50.0, simple_growth=0.1, simple_power=0.5, limit=40.0),
    Fade(growth=30.0, power=1.5, gain=500.0, simple_growth=3.0, simple_power=1.0, limit=5.0, strength=10.0),
]


def own(fade: Fade, v: np.ndarray) -> np.ndarray:
    """Variance of the regression's errors, by the docstring of the module."""
    return (1 + fade.growth * v) ** fade.power


def simple(fade: Fade, v: np.ndarray) -> np.ndarray:
    """Variance of the errors of the simpler regression."""
    return fade.gain * (1 + fade.simple_growth * v * fade.limit / (v + fade.limit)) ** fade.simple_power


@pytest.mark.parametrize("fade", FADES)
def test_weights_fall_from_one_to_zero(fade):
    w = fade.weight(VARIANCES)
    assert w[0] == pytest.approx(1, abs=1 / fade.gain)
    assert (np.diff(w) < 0).all()
    assert 0 < w[-1] < 1e-6


def test_what_never_fades():
    np.testing.assert_array_equal(NO_FADE.weight(VARIANCES), 1)
    np.testing.assert_array_equal(NO_FADE.std(VARIANCES), 1)
    np.testing.assert_allclose(Fade(growth=2.0).std(VARIANCES), np.sqrt(1 + 2 * VARIANCES))


@pytest.mark.parametrize("fade", FADES)
def test_the_standard_deviation_is_that_of_a_mixture_of_independent_errors(rng, fade):
    variance = np.array([0.1, 1.0, 10.0, 100.0])
    f = np.sqrt(own(fade, variance)) * rng.normal(size=(40_000, 4))
    g = np.sqrt(simple(fade, variance)) * rng.normal(size=(40_000, 4))
    w = fade.weight(variance)
    np.testing.assert_allclose(fade.std(variance), (g + w * (f - g)).std(0), rtol=0.02)


@pytest.mark.parametrize("fade", FADES)
def test_the_standard_deviation_goes_from_the_one_error_to_the_other(fade):
    assert fade.std(VARIANCES)[0] == pytest.approx(1, rel=0.03)
    assert fade.std(VARIANCES)[-1] == pytest.approx(np.sqrt(simple(fade, VARIANCES)[-1]), rel=1e-3)


@pytest.mark.parametrize("fade", FADES[:2])
def test_no_other_weight_has_smaller_errors(fade):
    a, b, w = own(fade, VARIANCES), simple(fade, VARIANCES), fade.weight(VARIANCES)
    smallest = w**2 * a + (1 - w) ** 2 * b
    for other in (w * 0.98, w + 0.02 * (1 - w)):
        assert (other**2 * a + (1 - other) ** 2 * b >= smallest * (1 - 1e-12)).all()


def squares(rng, variance: np.ndarray, growth: float, power: float = 1.0) -> np.ndarray:
    """Squared errors whose mean is 0.04 (1 + growth v)^power."""
    return 0.04 * (1 + growth * variance) ** power * rng.normal(size=len(variance)) ** 2


@pytest.mark.parametrize(("growth", "power"), [(1.0, 1.0), (0.1, 1.0), (30.0, 0.5), (100.0, 1.5)])
def test_how_errors_grow_is_recovered(rng, growth, power):
    """From samples left out one by one, with small variances, and far ones left out together."""
    near, far = 10.0 ** rng.uniform(-3, 0, size=5000), 10.0 ** rng.uniform(0, 3, size=1000)
    bad = 0.04 * 700 * rng.normal(size=5000) ** 2
    fade = fit_fade(squares(rng, near, growth, power), near, squares(rng, far, growth, power), far, bad)
    v = np.array([0.01, 0.1, 1.0, 10.0, 100.0])
    ratio = fade._replace(gain=np.inf).std(v) / (1 + growth * v) ** (power / 2)
    assert np.ptp(np.log(ratio)) < 0.25
    measured = v[v <= 1]
    np.testing.assert_allclose(
        simple(fade, measured) / own(fade, measured), 700 / (1 + growth * measured) ** power, rtol=0.4
    )


def test_how_errors_of_the_simpler_regression_grow_is_recovered(rng):
    """Up to a large variance among those that were measured."""
    v = 10.0 ** rng.uniform(-2, 2, size=5000)
    fade = fit_fade(squares(rng, v, 0.0), v, np.zeros(0), np.zeros(0), 50 * squares(rng, v, 1.0))
    assert fade.limit == pytest.approx(np.quantile(v, KNOWN))
    assert (fade.simple_growth, fade.simple_power) == (1.0, 1.0)
    assert fade.gain == pytest.approx(50, rel=0.2)


def test_few_blocks_keep_the_growth_of_a_regression_that_is_right(rng):
    near, far = np.full(FEWEST - 1, 1e-3), np.full(5, 100.0)
    fade = fit_fade(squares(rng, near, 50.0), near, squares(rng, far, 50.0), far, np.ones(FEWEST - 1))
    assert (fade.growth, fade.power) == (1, 1)
    assert with_strength(fade, near, np.zeros(FEWEST - 1), np.ones(FEWEST - 1), np.zeros(FEWEST - 1)) == fade


def test_the_strength_that_predicts_best_is_chosen(rng):
    """The regression may be better far away than its variances say, or not."""
    fade, v, targets = Fade(growth=10.0, gain=10.0), 10.0 ** rng.uniform(-1, 2, size=500), np.zeros((500, 3))
    noise = rng.normal(size=(500, 3))
    good, bad = 0.01 * noise, 100 * noise
    assert with_strength(fade, v, good, noise, targets).strength == max(STRENGTHS)
    assert with_strength(fade, v, bad, noise, targets).strength == 1


def test_regressions_without_any_error():
    """Also where both have none, weights and standard deviations are defined."""
    n = FEWEST + 10
    for simpler in (np.ones(n), np.zeros(n)):
        fade = fit_fade(np.zeros(n), np.linspace(0, 1, n), np.zeros(2), np.ones(2), simpler)
        assert np.isfinite(fade.std(VARIANCES)).all()
        assert ((fade.weight(VARIANCES) >= 0) & (fade.weight(VARIANCES) <= 1)).all()
    assert fit_fade(np.zeros(n), np.linspace(0, 1, n), np.zeros(2), np.ones(2), np.ones(n)).weight(np.ones(1)) == 1
