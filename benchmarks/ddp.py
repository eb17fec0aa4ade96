"""Training samples per second on one and on several processes of this machine, of one thread each.

    python benchmarks/ddp.py CONFIG data=STORE [KEY=VALUE ...]

The same batches are divided over the processes. Needs as many idle cores as processes; without a GPU, nothing is said about GPUs.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

SHORT = (
    "regression=none", "train_samples=60", "validation_samples=2", "validations=1", "calibrate=false", "tensorboard=false",
    "time_limit=null", "threads=1", "accelerator=cpu", "phases.stage2.steps=0",
)  # fmt: skip
WARM_UP = 5
"""Steps that are not timed."""


def seconds_per_step(config: str, overrides: list[str], processes: int, steps: int, phase: str) -> float:
    """Train a few steps of a phase in new processes, and return the wall time of one."""
    other = {"stage1": "joint", "joint": "stage1"}[phase]
    with tempfile.TemporaryDirectory() as folder:
        keys = [f"phases.{phase}.steps={steps + WARM_UP + 1}", f"phases.{other}.steps=0", f"devices={processes}"]
        command = [sys.executable, "-m", "harmose", "train", config, f"out={folder}/run", *SHORT, *overrides, *keys]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(Path(folder) / "run" / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))[WARM_UP - 1 : -1]  # the last one contains a validation
    assert len(rows) == steps + 1, "expected a row for each step: at most 90 steps"
    return (float(rows[-1]["seconds"]) - float(rows[0]["seconds"])) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=10, help="samples of a step, on all processes together")
    parser.add_argument("--phase", choices=("stage1", "joint"), default="joint")
    parser.add_argument("--repeats", type=int, default=2, help="of both in turn; the best of each counts")
    options = parser.parse_args()
    overrides = [*options.overrides, f"phases.{options.phase}.batch_size={options.batch}"]
    best = {1: float("inf"), options.processes: float("inf")}
    for _ in range(options.repeats):
        for n in best:
            found = seconds_per_step(options.config, overrides, n, options.steps, options.phase)
            best[n] = min(best[n], found)
            print(f"{n} processes: {options.batch / found:.1f} samples/s, {1000 * found:.0f} ms a step", flush=True)
    print(f"{options.processes} processes: {best[1] / best[options.processes]:.2f} times the samples per second of one")


if __name__ == "__main__":
    main()
