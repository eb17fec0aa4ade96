"""How long a fresh process takes: to import harmose, to print the help, to predict for the first time."""

import resource
import subprocess
import sys
import time

from harmose.bench.timing import Timing

STARTS = {
    "import harmose": [sys.executable, "-c", "import harmose"],
    "harmose --help": [sys.executable, "-m", "harmose", "--help"],
    "load a model, predict water": [
        sys.executable,
        "-c",
        "import harmose; from ase.build import molecule; harmose.load('water-pbe-def2svp').predict(molecule('H2O'))",
    ],
}


def start_times(repeats: int) -> dict[str, Timing]:
    """Of each of `STARTS`; the first run, which may read files from the disk, is not counted."""
    return {name: Timing.of([_lap(command) for _ in range(repeats + 1)][1:]) for name, command in STARTS.items()}


def _lap(command: list[str]) -> tuple[float, float]:
    start, before = time.perf_counter(), _children()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
