"""Settings of a benchmark."""

from dataclasses import dataclass, field

from harmose.bench.systems import DEFAULT, QUICK
from harmose.bench.timing import BenchmarkLimits

COMPARED_LIBRARIES = ("e3nn",)
"""Libraries that `harmose bench --against` compares with."""


@dataclass(frozen=True)
class BenchSettings:
    """Systems to time, number of threads, limits of the measurements."""

    systems: tuple[str, ...] = DEFAULT
    threads: int = 1
    device: str = "cpu"
    limits: BenchmarkLimits = field(default_factory=BenchmarkLimits)
    against: tuple[str, ...] = ()
    """Some of `COMPARED_LIBRARIES`."""
    model: str | None = None
    """Model for all systems; None: the shipped models."""
    memory: bool = True
    compile: bool = False
    """Also time compiled training steps; compiling takes minutes for each system and phase."""
    starts: int = 3
    """Number of new processes of each kind whose start is timed."""

    @staticmethod
    def quick() -> "BenchSettings":
        """One molecule and three repeats, without new processes."""
        return BenchSettings(QUICK, limits=BenchmarkLimits(3, 0.5), memory=False, starts=0)
