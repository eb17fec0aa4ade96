"""Weights with which regressions fade towards simpler ones, block by block, by their own predictive variance.

Errors of a regression f and of the simpler one g beside it grow with the variance v of f's prediction (`ridge`):

    S^2(v) = s^2 (1 + growth v)^power,    T^2(v) = s^2 gain (1 + simple_growth u)^simple_power,    u = v / (1 + v / limit)

If the errors are independent, the best mixture of f and g is

    g + w (f - g),    w = strength T^2 / (S^2 + strength T^2)

with strength = 1. They are not quite: a larger strength lets f count for longer, and lies between 1 and 30 by what is best for
samples that were left out. T stops to grow at `limit`, a large v among samples that were left out: nothing is known beyond. So w
is smooth in the positions; it is close to 1 where the training set has many such environments, and goes to zero where f
extrapolates much further than for any left-out sample. The mixture's error has about the standard deviation s std,

    std^2 = (w^2 S^2 + (1 - w)^2 T^2) / s^2

All parameters are fitted to samples that were left out, by the largest likelihood of normal errors: one group after the other,
and the samples with the largest v all together, which says how errors grow where nothing near is known.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

OUTERMOST = 0.2
"""Share of the samples, those with the largest variances, that are left out together."""
KNOWN = 0.9
"""`limit`, and the cutoff of a correction, are this quantile of the variances of samples left out one after the other."""
FEWEST = 30
"""Blocks that a fit of growth and power needs; with fewer they keep the values that hold for a regression that is right."""
GROWTHS = 10.0 ** np.arange(-3, 3.1, 0.5)
STRENGTHS = (1.0, 3.0, 10.0, 30.0)
TOLERANCE = 0.005
"""Share by which the error of samples left out may grow for a smaller strength."""
USUAL_STRENGTH = 10.0
"""For regressions of few blocks."""
POWERS = (0.5, 0.75, 1.0, 1.25, 1.5)
SIMPLE_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values to choose from."""


class Fade(NamedTuple):
    """Parameters of the weight of a pair type or a species; the default ones never fade.

    A `cutoff`, which corrections have (`correction`), divides w by 1 + (v / cutoff)^4.
    """

    growth: float = 0.0
    power: float = 1.0
    gain: float = np.inf
    simple_growth: float = 0.0
    simple_power: float = 1.0
    limit: float = 1.0
    strength: float = 1.0
    cutoff: float = np.inf

    def weight(self, variance: np.ndarray) -> np.ndarray:
        """Return w (n,) for variances v (n,)."""
        own, simple = self._squares(variance)
        return 1 / (1 + own / (self.strength * simple)) / (1 + (variance / self.cutoff) ** 4)

    def std(self, variance: np.ndarray) -> np.ndarray:
        """Return the standard deviation (n,) of the mixture's error, in units of s."""
        (own, simple), w = self._squares(variance), self.weight(variance)
        rest = (1 - w) ** 2 * simple if np.isfinite(self.gain) else 0.0
        return np.sqrt(w**2 * own + rest)

    def _squares(self, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """S^2 and T^2 in units of s^2."""
        known = variance / (1 + variance / self.limit)
        own = (1 + self.growth * variance) ** self.power
        return own, self.gain * (1 + self.simple_growth * known) ** self.simple_power


NO_FADE = Fade()


def fit_fade(
    left_out: np.ndarray,
    variance: np.ndarray,
    outermost: np.ndarray,
    outermost_variance: np.ndarray,
    simpler: np.ndarray,
) -> Fade:
    """Fit the parameters to squared errors of blocks that were left out.

    `left_out` (n,): in fits without their own group, with their variances; `outermost` (m,): in fits without all outermost
    groups; `simpler` (n,): of the simpler model.
    """
    every, all_variances = np.concatenate([left_out, outermost]), np.concatenate([variance, outermost_variance])
    limit = max(float(np.quantile(variance, KNOWN)), 1e-12)
    if len(left_out) < FEWEST:
        size, gain = _size(left_out, variance, 1.0, 1.0), float(np.mean(simpler))
        return Fade(1.0, 1.0, max(gain / size, 1e-300), 0.0, 1.0, limit, USUAL_STRENGTH)
    size, growth, power = _likeliest(every, all_variances, POWERS)
    simple_size, simple_growth, simple_power = _likeliest(simpler, variance, SIMPLE_POWERS)
    return Fade(growth, power, simple_size / size, simple_growth, simple_power, limit)


def fit_correction_fade(
    left_out: np.ndarray,
    variance: np.ndarray,
    outermost: np.ndarray,
    outermost_variance: np.ndarray,
    before: np.ndarray,
) -> Fade:
    """Fit the parameters of a correction, which fades to zero (`correction`), as `fit_fade` does.

    `before` (n,): squared errors without the correction; their size does not depend on the variance. The samples are alike, and
    say nothing about errors where the variance is larger than that of nearly all of them: there the cutoff makes the weight zero.
    """
    every, all_variances = np.concatenate([left_out, outermost]), np.concatenate([variance, outermost_variance])
    size, growth, power = _size(left_out, variance, 1.0, 1.0), 1.0, 1.0
    if len(left_out) >= FEWEST:
        size, growth, power = _likeliest(every, all_variances, POWERS)
    cutoff = max(float(np.quantile(variance, KNOWN)), 1e-12)
    return Fade(growth, power, max(float(np.mean(before)) / size, 1e-300), cutoff=cutoff)


def with_strength(
    fade: Fade, variance: np.ndarray, left_out: np.ndarray, simpler: np.ndarray, targets: np.ndarray
) -> Fade:
    """Choose the smallest strength that makes predictions of samples left out about as good as the best does.

    `left_out`, `simpler`, `targets` (n, ...): predictions of the regression and of the simpler one, and what they should be.
    """
    if len(targets) < FEWEST:
        return fade
    errors = []
    for strength in STRENGTHS:
        w = fade._replace(strength=strength).weight(variance).reshape(-1, *[1] * (targets.ndim - 1))
        errors.append(np.abs(simpler + w * (left_out - simpler) - targets).sum())
    good = np.flatnonzero(np.array(errors) <= (1 + TOLERANCE) * min(errors))
    return fade._replace(strength=STRENGTHS[good[0]])


def _likeliest(squares: np.ndarray, variance: np.ndarray, powers: tuple[float, ...]) -> tuple[float, float, float]:
    """Return s^2, growth and power of the largest likelihood of squared errors with the variance s^2 (1 + growth v)^power."""
    best, smallest = (1.0, 0.0, 1.0), np.inf
    for growth, power in product(GROWTHS, powers):
        size = _size(squares, variance, growth, power)
        # Twice the negative logarithm of the likelihood of each error; the sum of squares over the variance is one.
        surprise = np.log(size) + power * np.mean(np.log1p(growth * variance))
        if surprise < smallest:
            best, smallest = (size, float(growth), power), surprise
    return best


def _size(squares: np.ndarray, variance: np.ndarray, growth: float, power: float) -> float:
    return max(float(np.mean(squares / (1 + growth * variance) ** power)), 1e-300)
