"""What a bench is asked for."""

from dataclasses import dataclass, field
from pathlib import Path

from harmose.bench.systems import DEFAULT, QUICK
from harmose.bench.timing import Patience

RIVALS = ("e3nn", "deeptb")


@dataclass(frozen=True)
class BenchSettings:
    """What is timed, and how patiently."""

    systems: tuple[str, ...] = DEFAULT
    threads: int = 1
    device: str = "cpu"
    patience: Patience = field(default_factory=Patience)
    against: tuple[str, ...] = ("e3nn",)
    deeptb_python: Path | None = None
    model: str | None = None
    kernels: bool = True
    memory: bool = True
    compile: bool = False
    """Training steps compiled as well, which takes minutes for each system and phase."""
    starts: int = 3
    """Fresh processes of each kind; 0 for none."""

    @staticmethod
    def quick() -> "BenchSettings":
        """Whether it runs at all: one molecule, three repeats, no processes of their own."""
        return BenchSettings(QUICK, patience=Patience(3, 0.5), kernels=False, memory=False, starts=0)
