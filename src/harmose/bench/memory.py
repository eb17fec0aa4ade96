"""Peak memory of a fresh process that predicts, or trains, one system: `python -m harmose.bench.memory SYSTEM WORK DEVICE MODEL`."""

import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path

from harmose.bench.systems import System, system
from harmose.errors import ModelError

TRAINED = 200
"""Atoms of the largest structure that is trained on."""


def works(system: System) -> tuple[str, ...]:
    """What a system's memory is measured of: `predict`, and `train` unless it is large."""
    return ("predict", "train") if system.n_atoms <= TRAINED else ("predict",)


def peak_memory(name: str, work: str, device: str = "cpu", model: str = "") -> dict[str, float]:
    """MB: `before` (imports and the loaded model), `peak`; `device`, on the GPU, where there is one."""
    command = [sys.executable, "-m", "harmose.bench.memory", name, work, device, model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"{name}, {work}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)


def peak() -> float:
    """Of this process so far, in MB.

    Linux's `getrusage` counts what the process that started this one held, too; macOS has it in bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _work(name: str, work: str, device: str, model_name: str) -> dict[str, float]:
    import torch

    from harmose.bench.prediction import predicted
    from harmose.bench.timing import Stopwatch
    from harmose.bench.training import batch_of, known_priors, labelled, stepper
    from harmose.inference.checkpoint import load
    from harmose.inference.partition.predict import predict

    torch.set_num_threads(1)
    chosen = system(name, model_name or None)
    model = load(chosen.model)
    priors = known_priors(model, chosen)
    found = {"before": peak()}
    if work == "train":
        samples = labelled(model, chosen, priors)
        step = stepper(model, batch_of(model, samples), "joint", device)
        found["prepared"] = peak()
        for _ in range(3):
            step()
    elif chosen.n_atoms > TRAINED and len(chosen.structures) == 1:  # what is large enough is predicted in parts
        predict(model, chosen.structures[0])
    else:
        model.network.to(device)
        predicted(model, chosen.structures, priors, Stopwatch(), level=False)
    if device == "cuda":
        found["device"] = torch.cuda.max_memory_allocated() / 1e6
    return {**found, "peak": peak()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what is predicted is of no interest here
    print(json.dumps(_work(*sys.argv[1:])))
