"""Peak memory of a fresh process that predicts, or trains, one system: `python -m harmose.bench.memory SYSTEM WORK DEVICE MODEL`."""

import json
import resource
import subprocess
import sys
import warnings

from harmose.errors import ModelError

WORKS = ("predict", "train")


def peak_memory(system: str, work: str, device: str = "cpu", model: str = "") -> dict[str, float]:
    """MB: `before` (imports and the loaded model), `peak`; `device`, on the GPU, where there is one."""
    command = [sys.executable, "-m", "harmose.bench.memory", system, work, device, model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"{system}, {work}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)


def peak() -> float:
    """Of this process so far, in MB. (Linux counts kB; macOS counts bytes.)"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _work(name: str, work: str, device: str, model_name: str) -> dict[str, float]:
    import torch

    from harmose.bench.prediction import predicted
    from harmose.bench.systems import system
    from harmose.bench.timing import Stopwatch
    from harmose.bench.training import batch_of, known_priors, labelled, stepper
    from harmose.checkpoint import load

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
    else:
        model.network.to(device)
        predicted(model, chosen.structures, priors, Stopwatch(), level=False)
    if device == "cuda":
        found["device"] = torch.cuda.max_memory_allocated() / 1e6
    return {**found, "peak": peak()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what is predicted is of no interest here
    print(json.dumps(_work(*sys.argv[1:])))
