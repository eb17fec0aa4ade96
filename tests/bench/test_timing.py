"""Timing with a clock that the test controls."""

import torch

from harmose.bench.timing import BenchmarkLimits, Stopwatch, Times, Timing, measure, now, threads


class Clock:
    """A clock that stands still until `work` advances it: wall time by `seconds`, processor time by half of that."""

    def __init__(self) -> None:
        self.wall = 0.0

    def __call__(self) -> tuple[float, float]:
        return self.wall, self.wall / 2

    def work(self, *seconds: float):
        """A function that takes these times in its first runs, and the last of them afterwards."""
        runs = iter(seconds)
        last = seconds[-1]

        def run() -> None:
            self.wall += next(runs, last)

        return run


def test_medians_and_ranges():
    timing = Timing.of([(3.0, 0.3), (1.0, 0.1), (2.0, 0.25)])
    assert timing == Timing(Times(2.0, 1.0, 3.0), Times(0.25, 0.1, 0.3), 3)


def test_first_run_does_not_count():
    clock = Clock()
    timing = measure(clock.work(4.0, 1.0), BenchmarkLimits(4, 5.0), clock)
    assert timing == Timing(Times(1.0, 1.0, 1.0), Times(0.5, 0.5, 0.5), 4)


def test_no_repeat_begins_after_the_limit():
    clock = Clock()
    assert measure(clock.work(2.0), BenchmarkLimits(1000, 5.0), clock).repeats == 3


def test_long_work_is_run_once():
    clock = Clock()
    timing = measure(clock.work(6.0), BenchmarkLimits(10, 5.0), clock)
    assert (timing.repeats, timing.wall.median, clock.wall) == (1, 6.0, 6.0)


def test_stopwatch_adds_up():
    clock = Clock()
    watch = Stopwatch(clock)
    for name, seconds in (("a", 1.0), ("b", 3.0), ("a", 2.0)):
        with watch(name):
            clock.work(seconds)()
    assert watch.seconds == {"a": (3.0, 1.5), "b": (3.0, 1.5)}


def test_clock_does_not_run_backwards():
    first, second = now(), now()
    assert second[0] >= first[0]
    assert second[1] >= first[1]


def test_threads_are_restored():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
