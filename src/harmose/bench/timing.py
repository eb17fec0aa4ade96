"""Wall and processor time of a piece of work: a warm-up, repeats, their median with the range."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch.utils.benchmark import timer

T = TypeVar("T")


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
    """Of `repeats` runs: `wall`, and the processor time of all threads of the process, `cpu`."""

    wall: Times
    cpu: Times
    repeats: int

    @staticmethod
    def of(laps: list[tuple[float, float]]) -> "Timing":
        wall, cpu = zip(*laps, strict=True)
        return Timing(Times.of([*wall]), Times.of([*cpu]), len(laps))


@dataclass(frozen=True)
class Patience:
    """At most so many repeats, and no new one after so many seconds. What takes longer than that is run once, cold."""

    repeats: int = 20
    seconds: float = 2.0


def now() -> tuple[float, float]:
    """Wall and processor time; what a GPU was asked to do is waited for (`torch.utils.benchmark.timer`)."""
    return timer(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def measure(work: Callable[[], object], patience: Patience) -> Timing:
    """The times of `work()`; its first run is not counted, unless it took all there is of patience."""

    def lap() -> tuple[float, float]:
        start = now()
        work()
        return since(start)

    first = lap()
    if first[0] > patience.seconds:
        return Timing.of([first])
    laps, spent = [], 0.0
    while len(laps) < patience.repeats and (spent < patience.seconds or not laps):
        laps.append(lap())
        spent += laps[-1][0]
    return Timing.of(laps)


@dataclass
class Stopwatch:
    """Times of the parts of a work that is repeated: `with watch("graph"): ...`."""

    laps: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = now()
        yield
        self.laps.setdefault(part, []).append(since(start))

    def timings(self, last: int) -> dict[str, Timing]:
        """Of the last so many repeats."""
        return {part: Timing.of(laps[-last:]) for part, laps in self.laps.items()}


@contextmanager
def threads(n: int) -> Iterator[None]:
    """torch on so many threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
