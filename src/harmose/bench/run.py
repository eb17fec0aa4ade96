"""`harmose bench`: time everything, and write bench.json, bench.md and figures into one folder."""

import importlib.util
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from harmose.bench import memory
from harmose.bench.imports import start_times
from harmose.bench.machine import machine
from harmose.bench.report import write_bench
from harmose.bench.rows import rows_of
from harmose.bench.settings import COMPARED_LIBRARIES, BenchSettings
from harmose.bench.systems import System, system
from harmose.bench.timing import threads
from harmose.errors import ConfigError
from harmose.inference.checkpoint import load


def run(settings: BenchSettings, out: Path, console: Console) -> Path:
    """Time everything and write it into the folder `out`, again after each system. Return the path of bench.md.

    Raises `ConfigError` for settings that cannot be used, before anything is timed.
    """
    systems = check(settings, out)
    begin = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"settings": asdict(settings), "rows": [], "starts": {}, "memory": []}
    path = out / "bench.md"
    with threads(settings.threads), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # the systems may lie outside the models' training domains
        for name, key, value in _measure(systems, settings):
            console.print(name, style="dim")
            content[key] = [*content[key], *value] if isinstance(value, list) else value
            content["seconds"] = time.monotonic() - begin
            (out / "bench.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            path = write_bench(content, out)
    return path


def _measure(systems: Sequence[System], settings: BenchSettings) -> Iterator[tuple[str, str, Any]]:
    """Yield the name of each piece of work when it is done, its key in bench.json, and its value."""
    yield "machine", "machine", machine(settings.threads, settings.device)
    for each in systems:
        yield each.name, "rows", [asdict(row) for row in rows_of(each, settings)]
    if settings.starts:
        yield "starts", "starts", {name: asdict(timing) for name, timing in start_times(settings.starts).items()}
    for each in systems if settings.memory else ():
        peaks = []
        for work in memory.works(each):
            peak = memory.peak_memory(each.name, work, settings.device, settings.model or "")
            peaks.append({"system": each.name, "atoms": each.n_atoms, "work": work, **peak})
        yield f"memory of {each.name}", "memory", peaks


def check(settings: BenchSettings, out: Path) -> list[System]:
    """The systems, each with a model that covers it; `ConfigError` for settings that cannot be used."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: expected a CUDA device, got none")
    for name in settings.against:
        if name not in COMPARED_LIBRARIES:
            raise ConfigError(f"--against: expected some of {', '.join(COMPARED_LIBRARIES)}, got {name!r}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"--against {name}: the package {name} is not installed")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, got a file")
    if out.is_dir() and any(out.iterdir()) and not (out / "bench.json").is_file():
        raise ConfigError(
            f"--out {out}: expected a new or empty folder, or the folder of an earlier bench; it holds something else"
        )
    systems = [system(name, settings.model) for name in settings.systems]
    for each in systems:
        load(each.model).graphs(each.structures)
    return systems
