"""Timing: what is counted, and how often."""

import time

import torch

from harmose.bench.timing import Patience, Stopwatch, Times, Timing, measure, threads


def test_medians_and_ranges():
    timing = Timing.of([(3.0, 0.3), (1.0, 0.1), (2.0, 0.25)])
    assert timing == Timing(Times(2.0, 1.0, 3.0), Times(0.25, 0.1, 0.3), 3)


def test_the_first_run_warms_up():
    calls = []
    timing = measure(lambda: calls.append(time.sleep(0.05 if not calls else 0.001)), Patience(4, 5.0))
    assert (timing.repeats, len(calls)) == (4, 5)
    assert timing.wall.high < 0.05


def test_no_repeat_begins_late():
    timing = measure(lambda: time.sleep(0.02), Patience(1000, 0.05))
    assert 1 <= timing.repeats <= 3


def test_what_takes_longer_is_run_once():
    calls = []
    timing = measure(lambda: calls.append(time.sleep(0.03)), Patience(10, 0.01))
    assert (timing.repeats, len(calls)) == (1, 1)
    assert timing.wall.median >= 0.03


def test_sleeping_takes_no_processor_time_and_working_does():
    asleep, busy = (measure(work, Patience(3, 1.0)) for work in (lambda: time.sleep(0.05), _work))
    assert asleep.cpu.median < 0.02 < asleep.wall.median
    assert 0.03 < busy.cpu.median <= busy.wall.median * 1.1


def _work() -> None:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass


def test_stopwatch_forgets_the_warm_up():
    watch = Stopwatch()
    for seconds in (0.05, 0.001, 0.001):
        with watch("sleep"):
            time.sleep(seconds)
    found = watch.timings(last=2)["sleep"]
    assert (found.repeats, found.wall.high < 0.05) == (2, True)


def test_threads_are_restored():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
