"""Peak memory of a new process that predicts one system or trains on it.

The process runs `python -m harmose.bench.memory SYSTEM WORK DEVICE MODEL`.
"""

import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path

from harmose.bench.systems import System, system
from harmose.errors import ModelError

MOST_ATOMS_TRAINED = 200
"""Atoms of the largest system that is trained on."""


def works(system: System) -> tuple[str, ...]:
    """The work whose memory is measured: "predict", and "train" unless the system is large."""
    return ("predict", "train") if system.n_atoms <= MOST_ATOMS_TRAINED else ("predict",)


def peak_memory(name: str, work: str, device: str = "cpu", model: str = "") -> dict[str, float]:
    """Memory in MB: `before` (imports and the loaded model), `peak`, and on a GPU `device`."""
    command = [sys.executable, "-m", "harmose.bench.memory", name, work, device, model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"{name}, {work}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)


def peak() -> float:
    """Peak memory of this process so far in MB.

    On Linux, `getrusage` would include the memory of the process that started this one. On macOS it returns bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _run(name: str, work: str, device: str, model_name: str) -> dict[str, float]:
    import torch

    from harmose.bench.prediction import predict
    from harmose.bench.training import compute_priors, labelled, make_batch, make_step
    from harmose.inference.checkpoint import load

    torch.set_num_threads(1)
    chosen = system(name, model_name or None)
    model = load(chosen.model)
    priors = compute_priors(model, chosen)
    memory = {"before": peak()}
    if work == "train":
        samples = labelled(model, chosen, priors)
        step = make_step(model, make_batch(model, samples), "joint", device)
        memory["prepared"] = peak()
        for _ in range(3):
            step()
    elif chosen.n_atoms > MOST_ATOMS_TRAINED and len(chosen.structures) == 1:
        zero = "labels" if model.card.energy_zero == "fermi_of_prediction" else None
        model.predict(chosen.structures[0], energy_zero=zero)
    else:
        if model.network is not None:
            model.network.to(device)
        predict(model, chosen.structures, priors, fermi_level=False)
    if device == "cuda":
        memory["device"] = torch.cuda.max_memory_allocated() / 1e6
    return {**memory, "peak": peak()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the systems may lie outside the models' training domains
    print(json.dumps(_run(*sys.argv[1:])))
