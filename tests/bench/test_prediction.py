"""A prediction taken apart is the prediction."""

import numpy as np
import pytest

import harmose
from harmose.bench.prediction import PARTS, predicted, time_parts
from harmose.bench.systems import system
from harmose.bench.timing import Patience, Stopwatch
from harmose.bench.training import known_priors


@pytest.mark.parametrize("name", ["water-2", "graphene-1x1"])
def test_same_numbers_as_the_model(name):
    each = system(name)
    model = harmose.load(each.model)
    expected = model.predict_many(each.structures)
    watch = Stopwatch()
    found = predicted(model, each.structures, known_priors(model, each), watch)
    assert set(watch.laps) == set(PARTS)
    for h, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(h.pairs, reference.pairs)
        np.testing.assert_allclose(h.values, reference.values, rtol=0, atol=1e-9)


def test_without_the_fermi_level():
    each = system("graphene-1x1")
    model, watch = harmose.load(each.model), Stopwatch()
    (h,) = predicted(model, each.structures, [None], watch, level=False)
    assert "level" not in watch.laps
    (moved,) = predicted(model, each.structures, [None], Stopwatch())
    difference, s = h.values - moved.values, harmose.overlap(each.structures[0], h.basis).values
    np.testing.assert_allclose(difference, s * (difference.ravel() @ s.ravel()) / (s.ravel() @ s.ravel()), atol=1e-9)


def test_parts_are_within_the_whole():
    each = system("water-1")
    parts, whole = time_parts(harmose.load(each.model), each.structures, [None], Patience(3, 5.0))
    assert set(parts) == set(PARTS)
    assert all(0 <= t.wall.low <= t.wall.median <= t.wall.high <= whole.wall.high for t in parts.values())
    assert sum(t.wall.low for t in parts.values()) <= whole.wall.high
