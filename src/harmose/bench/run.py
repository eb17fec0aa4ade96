"""`harmose bench`: everything that is timed, in one folder: `bench.json`, `bench.md`, pictures."""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from harmose.bench import deeptb, memory
from harmose.bench.imports import start_times
from harmose.bench.machine import machine
from harmose.bench.products import blocks_kernel, closed_form_kernel, products, recorded
from harmose.bench.report import write_bench
from harmose.bench.rows import rows_of
from harmose.bench.settings import RIVALS, BenchSettings
from harmose.bench.systems import System, system
from harmose.bench.timing import measure, threads
from harmose.bench.training import batch_of, labelled, stepper
from harmose.errors import ConfigError
from harmose.inference.checkpoint import load
from harmose.inference.model import ModelInput

KERNELS_OF = "graphene-3x3"


def run(settings: BenchSettings, out: Path, console: Console) -> Path:
    """Time it all and write it into the folder `out`, made if it is missing, again after each system.

    `ConfigError` for what cannot be asked, before anything is timed.
    """
    chosen = checked(settings, out)
    begin = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    asked = {k: v for k, v in asdict(settings).items() if k != "deeptb_python"}  # a path says nothing elsewhere
    content: dict[str, Any] = {"settings": asked, "rows": []}
    content |= {"starts": {}, "memory": [], "kernels": []}
    path = out / "bench.md"
    with threads(settings.threads), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # structures outside a model's domain take as long as others
        for name, found in _found(chosen, settings):
            console.print(name, style="dim")
            content[found[0]] = [*content[found[0]], *found[1]] if isinstance(found[1], list) else found[1]
            content["seconds"] = time.monotonic() - begin
            (out / "bench.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            path = write_bench(content, out)
    return path


def _found(chosen: Sequence[System], settings: BenchSettings) -> Iterator[tuple[str, tuple[str, Any]]]:
    """What has just been done, and the key and the value of its results."""
    yield "machine", ("machine", machine(settings.threads, settings.device))
    for each in chosen:
        yield each.name, ("rows", [asdict(row) for row in rows_of(each, settings)])
    if settings.starts:
        yield "starts", ("starts", {name: asdict(t) for name, t in start_times(settings.starts).items()})
    for each in chosen if settings.memory else ():
        found = [
            (work, memory.peak_memory(each.name, work, settings.device, settings.model or ""))
            for work in memory.works(each)
        ]
        peaks = [{"system": each.name, "atoms": each.n_atoms, "work": work, **peak} for work, peak in found]
        yield f"memory of {each.name}", ("memory", peaks)
    if settings.kernels:
        yield "kernels", ("kernels", kernels(system(KERNELS_OF), settings))


def checked(settings: BenchSettings, out: Path) -> list[System]:
    """The systems, each with a model that exists; `ConfigError` otherwise, before anything is timed."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: expected a CUDA device, got none")
    for name in settings.against:
        if name not in RIVALS:
            raise ConfigError(f"--against: expected some of {', '.join(RIVALS)}, got {name!r}")
    if "deeptb" in settings.against:
        deeptb.check(settings.deeptb_python)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, got a file")
    if out.is_dir() and any(out.iterdir()) and not (out / "bench.json").is_file():
        raise ConfigError(
            f"--out {out}: expected a new or empty folder, or an earlier bench's; it holds something else"
        )
    chosen = [system(name, settings.model) for name in settings.systems]
    for each in chosen:
        ModelInput(load(each.model), each.structures)
    return chosen


def kernels(each: System, settings: BenchSettings) -> list[dict]:
    """Of a prediction and of training steps: products of matrices; of the prediction also what is not torch's."""
    model = load(each.model)
    model.network.to(settings.device)
    asked, out = ModelInput(model, each.structures), []
    batch = asked.batch
    training = batch_of(model, labelled(model, each, [None]))
    works: dict[str, Callable[[], object]] = {
        "prediction": lambda: model.network(batch),
        "training step, stage 1": stepper(model, training, "stage1", settings.device),
        "training step, both stages": stepper(model, training, "joint", settings.device),
    }
    for work, call in works.items():
        with torch.set_grad_enabled(work != "prediction"):
            found = recorded(call)
            seconds = measure(call, settings.patience).cpu.median
        own = {"work": work, "of": seconds, "operators": found.operators}
        out += [{**own, **asdict(k), "fraction": k.fraction} for k in products(found.calls, settings.device)]
    others = [closed_form_kernel(model, asked.concatenated), blocks_kernel(model, asked.concatenated, asked.matrices)]
    return out + [{"work": "float64", "of": None, **asdict(k), "fraction": k.fraction} for k in others if k is not None]
