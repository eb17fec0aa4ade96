"""Wall and processor time of a function: a warm-up run, repeats, their median with the range."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.utils.benchmark import timer

Clock = Callable[[], tuple[float, float]]
"""Returns wall and processor time in seconds."""


@dataclass(frozen=True)
class Times:
    """Seconds of one clock: the median and the range of the repeats."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(seconds: list[float]) -> "Times":
        return Times(statistics.median(seconds), min(seconds), max(seconds))


@dataclass(frozen=True)
class Timing:
    """Times of `repeats` runs; `cpu` is the processor time of all threads of the process."""

    wall: Times
    cpu: Times
    repeats: int

    @staticmethod
    def of(laps: list[tuple[float, float]]) -> "Timing":
        wall, cpu = zip(*laps, strict=True)
        return Timing(Times.of([*wall]), Times.of([*cpu]), len(laps))


@dataclass(frozen=True)
class BenchmarkLimits:
    """Most repeats of a measurement, and the seconds after which no repeat begins.

    A function that takes longer than `seconds` in its first run is not run again.
    """

    repeats: int = 20
    seconds: float = 2.0


def now() -> tuple[float, float]:
    """Wall and processor time, after all work on a GPU has finished (`torch.utils.benchmark.timer`)."""
    return timer(), time.process_time()


def measure(work: Callable[[], object], limits: BenchmarkLimits, clock: Clock = now) -> Timing:
    """Times of `work()`. The first run warms up and does not count, unless it takes longer than the limit."""

    def lap() -> tuple[float, float]:
        start = clock()
        work()
        return _since(start, clock)

    first = lap()
    if first[0] > limits.seconds:
        return Timing.of([first])
    laps, spent = [], 0.0
    while len(laps) < limits.repeats and (spent < limits.seconds or not laps):
        laps.append(lap())
        spent += laps[-1][0]
    return Timing.of(laps)


@dataclass
class Stopwatch:
    """Seconds of each step of one run: `with watch("graph"): ...`. Steps with the same name add up."""

    clock: Clock = now
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = self.clock()
        yield
        before, spent = self.seconds.get(step, (0.0, 0.0)), _since(start, self.clock)
        self.seconds[step] = before[0] + spent[0], before[1] + spent[1]


def _since(start: tuple[float, float], clock: Clock) -> tuple[float, float]:
    wall, cpu = clock()
    return wall - start[0], cpu - start[1]


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Run the block with this number of PyTorch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
