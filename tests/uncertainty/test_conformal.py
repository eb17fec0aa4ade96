"""Conformal bounds hold with the stated probability, and blocks of one sample do not count as many samples."""

import numpy as np
import pytest

from harmose.uncertainty import conformal


def test_one_score_for_each_group_gives_an_order_statistic():
    scores, confidences = np.random.default_rng(0).exponential(size=30), np.array([0.5, 0.9])
    bounds = conformal.bounds(scores, np.arange(30), confidences)
    np.testing.assert_array_equal(bounds, np.sort(scores)[np.ceil(31 * confidences).astype(int) - 1])


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_new_groups_are_covered(confidence):
    """400 calibrations on 19 groups of different sizes, with nearly equal scores within a group."""
    rng, shares = np.random.default_rng(1), []
    for _ in range(400):
        group = np.repeat(np.arange(20), rng.integers(1, 40, size=20))
        scores = np.exp(rng.normal(size=20) * 2)[group] * np.exp(0.1 * rng.normal(size=len(group)))
        (bound,) = conformal.bounds(scores[group > 0], group[group > 0], np.array([confidence]))
        shares.append((scores[group == 0] <= bound).mean())
    assert confidence - 0.03 < np.mean(shares) < confidence + 0.08


def test_too_few_groups_have_no_bound():
    assert np.isinf(conformal.bounds(np.ones(500), np.repeat(np.arange(5), 100), np.array([0.9]))).all()
    assert np.isinf(conformal.bounds(np.zeros(0), np.zeros(0, dtype=int), np.array([0.5]))).all()
    assert conformal.supports(np.arange(9), 0.9)
    assert not conformal.supports(np.arange(8), 0.9)
