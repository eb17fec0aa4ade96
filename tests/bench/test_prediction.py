"""A prediction with a stopwatch gives the same numbers as `Model.predict_many`."""

from itertools import count

import numpy as np
import pytest

import harmose
from harmose.bench.prediction import STEPS, predict, time_steps
from harmose.bench.systems import system
from harmose.bench.timing import BenchmarkLimits, Stopwatch
from harmose.bench.training import compute_priors


@pytest.mark.parametrize("name", ["water-2", "graphene-1x1"])
def test_numbers(name):
    chosen = system(name)
    model = harmose.load(chosen.model)
    watch = Stopwatch()
    predicted = predict(model, chosen.structures, compute_priors(model, chosen), watch)
    assert set(watch.seconds) >= set(STEPS)
    for h, reference in zip(predicted, model.predict_many(chosen.structures), strict=True):
        np.testing.assert_array_equal(h.pairs, reference.pairs)
        np.testing.assert_allclose(h.values, reference.values, rtol=0, atol=1e-9)


def test_without_fermi_level():
    chosen = system("graphene-1x1")
    model = harmose.load(chosen.model)
    (h,) = predict(model, chosen.structures, [None], fermi_level=False)
    (shifted,) = predict(model, chosen.structures, [None])
    difference, s = h.values - shifted.values, harmose.overlap(chosen.structures[0], h.basis).values
    shift = (difference.ravel() @ s.ravel()) / (s.ravel() @ s.ravel())
    assert abs(shift) > 1e-3
    np.testing.assert_allclose(difference, s * shift, atol=1e-9)


def test_times_of_steps():
    """With a clock that advances by one second at each reading, a step takes one second each time it runs."""
    chosen, readings = system("water-1"), count()

    def clock() -> tuple[float, float]:
        now = float(next(readings))
        return now, now / 2

    steps, whole = time_steps(
        harmose.load(chosen.model), chosen.structures, [None], BenchmarkLimits(3, 1e9), clock=clock
    )
    assert list(steps) == list(STEPS)
    assert (steps["graph"].wall.median, steps["graph"].cpu.median) == (1.0, 0.5)
    assert steps["regression"].wall.median == 2.0  # environments, then values
    assert {timing.repeats for timing in steps.values()} == {whole.repeats} == {3}
    assert sum(timing.wall.median for timing in steps.values()) < whole.wall.median
