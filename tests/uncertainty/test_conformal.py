"""Bounds are kept as often as they say, whatever the distribution, and blocks of one sample do not pass for many samples."""

import numpy as np
import pytest

from harmose.uncertainty import conformal


def test_one_score_for_each_group_is_the_order_statistic():
    scores = np.random.default_rng(0).exponential(size=30)
    levels = np.array([0.5, 0.9])
    found = conformal.bounds(scores, np.arange(30), levels)
    np.testing.assert_array_equal(found, np.sort(scores)[np.ceil(31 * levels).astype(int) - 1])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_new_groups_are_covered_as_often_as_stated(level):
    """Scores that are nearly the same within a group, of groups of different sizes: 400 calibrations on 19 groups each."""
    rng, kept = np.random.default_rng(1), []
    for _ in range(400):
        sizes = rng.integers(1, 40, size=20)
        group = np.repeat(np.arange(20), sizes)
        scores = np.exp(rng.normal(size=20) * 2)[group] * np.exp(0.1 * rng.normal(size=len(group)))
        (bound,) = conformal.bounds(scores[group > 0], group[group > 0], np.array([level]))
        kept.append((scores[group == 0] <= bound).mean())
    assert level - 0.03 < np.mean(kept) < level + 0.08


def test_too_few_groups_state_nothing():
    assert np.isinf(conformal.bounds(np.ones(500), np.repeat(np.arange(5), 100), np.array([0.9]))).all()
    assert np.isinf(conformal.bounds(np.zeros(0), np.zeros(0, dtype=int), np.array([0.5]))).all()
    assert conformal.supports(np.arange(9), 0.9)
    assert not conformal.supports(np.arange(8), 0.9)


def test_coverage_counts_groups_alike():
    ratios, group = np.array([0.5, 0.5, 0.5, 2.0]), np.array([0, 0, 0, 1])
    assert conformal.coverage(ratios, group) == pytest.approx(0.5)
