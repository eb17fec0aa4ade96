"""Time that a new process takes to import harmose, to print the help, and to predict for the first time."""

import resource
import subprocess
import sys
import time

from harmose.bench.timing import Clock, Timing

STARTS = {
    "import harmose": [sys.executable, "-c", "import harmose"],
    "harmose --help": [sys.executable, "-m", "harmose", "--help"],
    "load a model, predict water": [
        sys.executable,
        "-c",
        "import harmose; from ase.build import molecule; harmose.load('water-pbe-def2svp').predict(molecule('H2O'))",
    ],
}


def now() -> tuple[float, float]:
    """Wall time, and processor time of all child processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def start_times(repeats: int, clock: Clock = now) -> dict[str, Timing]:
    """Times of each of `STARTS`. The first run, which may read files from the disk, does not count."""
    return {name: Timing.of([_lap(command, clock) for _ in range(repeats + 1)][1:]) for name, command in STARTS.items()}


def _lap(command: list[str], clock: Clock) -> tuple[float, float]:
    before = clock()
    subprocess.run(command, check=True, capture_output=True)
    after = clock()
    return after[0] - before[0], after[1] - before[1]
