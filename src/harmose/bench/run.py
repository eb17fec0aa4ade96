"""`harmose bench`: everything that is timed, in one folder: `bench.json`, `bench.md`, pictures."""

import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from harmose.bench import deeptb
from harmose.bench.e3nn_stage1 import E3nnStage1
from harmose.bench.e3nn_stage1 import step as e3nn_step
from harmose.bench.imports import start_times
from harmose.bench.machine import machine
from harmose.bench.memory import WORKS, peak_memory
from harmose.bench.prediction import time_parts
from harmose.bench.products import blocks_kernel, closed_form_kernel, products, recorded
from harmose.bench.report import write_bench
from harmose.bench.systems import DEFAULT, QUICK, System, system
from harmose.bench.timing import Patience, Timing, measure, threads
from harmose.bench.training import Loading, batch_of, known_priors, labelled, stepper
from harmose.blocks import BlockMatrix
from harmose.checkpoint import load
from harmose.data.dataset import TrainingBatch
from harmose.errors import ConfigError
from harmose.model import Model, Request
from harmose.sample import Sample

RIVALS = ("e3nn", "deeptb")
RIVAL_EDGES = 6000
"""Directed edges beyond which the others are not timed: their memory grows by about a megabyte with each."""
LEVEL_ORBITALS = 1000
"""Orbitals beyond which a crystal's Fermi level, whose cost grows with their cube, is not part of what is timed."""
LOADED_EDGES = 2000
"""Directed edges beyond which batches are not read from a store."""
KERNELS_OF = "graphene-3x3"


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
    starts: int = 5

    @staticmethod
    def quick() -> "BenchSettings":
        """Whether it runs at all: one molecule, three repeats, no processes of their own."""
        return BenchSettings(QUICK, patience=Patience(3, 0.5), kernels=False, memory=False, starts=0)


@dataclass(frozen=True)
class Row:
    """One thing timed: of a system, by whom (harmose, e3nn, DeePTB)."""

    system: str
    atoms: int
    orbitals: int
    edges: int
    what: str
    by: str
    timing: Timing


def run(settings: BenchSettings, out: Path, console: Console) -> Path:
    """Time it all and write it into the folder `out`, made if it is missing. `ConfigError` for what cannot be asked."""
    chosen = checked(settings, out)
    begin, content = time.monotonic(), {}
    out.mkdir(parents=True, exist_ok=True)
    with threads(settings.threads), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # structures outside a model's domain take as long as others
        console.print("machine", style="dim")
        content["machine"] = machine(settings.threads, settings.device)
        content["settings"] = json.loads(json.dumps(asdict(settings), default=str))
        rows = []
        for each in chosen:
            console.print(each.name, style="dim")
            rows += _rows(each, settings)
        content["rows"] = [asdict(row) for row in rows]
        starts = start_times(settings.starts) if settings.starts else {}
        content["starts"] = {name: asdict(t) for name, t in starts.items()}
        content["memory"] = _memory(chosen, settings, console) if settings.memory else []
        content["kernels"] = []
        if settings.kernels:
            console.print("kernels", style="dim")
            content["kernels"] = kernels(system(KERNELS_OF, settings.model), settings)
    content["seconds"] = time.monotonic() - begin
    (out / "bench.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return write_bench(content, out)


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
        Request(load(each.model), each.structures)
    return chosen


def _rows(each: System, settings: BenchSettings) -> list[Row]:
    """All times of one system."""
    model = load(each.model)
    model = replace(model, network=model.network.to(settings.device))
    priors = known_priors(model, each)
    graphs = Request(model, each.structures, priors)
    size = each.n_atoms, sum(m.n_orbitals for m in graphs.matrices), 2 * sum(g.n_pairs for g in graphs.graphs)
    samples = labelled(model, each, priors)
    batch = batch_of(model, samples)
    found = [
        *_predictions(model, each, priors, size[1], settings),
        *_steps(model, batch, settings),
        *(_loading(model, samples, settings) if size[2] <= LOADED_EDGES else []),
        *(_others(model, each, batch, settings) if size[2] <= RIVAL_EDGES else []),
    ]
    return [Row(each.name, *size, what, by, timing) for what, by, timing in found]


Found = list[tuple[str, str, Timing]]
"""What, by whom, how long."""


def _predictions(
    model: Model, each: System, priors: Sequence[BlockMatrix | None], n_orbitals: int, settings: BenchSettings
) -> Found:
    level = model.card.gauge != "solved" or n_orbitals <= LEVEL_ORBITALS
    parts, whole = time_parts(model, each.structures, priors, settings.patience, level)
    found = [(name, "harmose", timing) for name, timing in parts.items()]
    if not level:
        return [*found, ("blocks of H", "harmose", whole)]
    given = [*priors]
    called = measure(lambda: model.predict_many(each.structures, given), settings.patience)
    return [*found, ("predict", "harmose", called)]


def _steps(model: Model, batch: TrainingBatch, settings: BenchSettings) -> Found:
    return [
        (f"step {phase}", "harmose", measure(stepper(model, batch, phase, settings.device), settings.patience))
        for phase in ("stage1", "joint")
    ]


def _loading(model: Model, samples: Sequence[Sample], settings: BenchSettings) -> Found:
    with tempfile.TemporaryDirectory() as folder, Loading.of(model, samples, Path(folder) / "store") as loading:
        every = np.arange(len(samples))
        ready = measure(lambda: loading.ready.batch(every), settings.patience)
        stored = measure(lambda: loading.stored.batch(every), settings.patience)
    return [("batch ready", "harmose", ready), ("batch stored", "harmose", stored)]


def _others(model: Model, each: System, batch: TrainingBatch, settings: BenchSettings) -> Found:
    found: Found = []
    if "e3nn" in settings.against:
        network = E3nnStage1(model.baseline.space, model.network.settings.encoder).to(settings.device)
        graph = batch.graph.to(settings.device)
        step = e3nn_step(network, graph)
        for work in (step, step):  # TorchScript compiles in the first runs
            work()
        found.append(("step stage1", "e3nn", measure(step, settings.patience)))
        with torch.no_grad():
            for _ in range(2):
                network(graph)
            found.append(("network stage1", "e3nn", measure(lambda: network(graph), settings.patience)))
    if "deeptb" in settings.against and settings.deeptb_python is not None:
        n_edges = 2 * batch.graph.n_pairs
        times = deeptb.deeptb(settings.deeptb_python, model, each, n_edges, settings.patience, settings.threads)
        titles = {"step": "step stage1", "predict": "network stage1"}
        found += [(titles[name], "DeePTB", timing) for name, timing in times.items()]
    return found


def _memory(chosen: Sequence[System], settings: BenchSettings, console: Console) -> list[dict]:
    out = []
    for each in chosen:
        for work in WORKS:
            console.print(f"memory: {each.name}, {work}", style="dim")
            found = peak_memory(each.name, work, settings.device, settings.model or "")
            out.append({"system": each.name, "atoms": each.n_atoms, "work": work, **found})
    return out


def kernels(each: System, settings: BenchSettings) -> list[dict]:
    """Of a prediction and of a training step of both stages: products of matrices; of the prediction also what is not torch's."""
    model = load(each.model)
    model.network.to(settings.device)
    asked, out = Request(model, each.structures), []
    batch = asked.batch
    samples = labelled(model, each, [None] * len(each.structures))
    step = stepper(model, batch_of(model, samples), "joint", settings.device)
    works = {
        "prediction": lambda: model.network(batch),
        "training step": step,
    }
    for work, call in works.items():
        with torch.set_grad_enabled(work != "prediction"):
            calls: Counter = recorded(call)
            seconds = measure(call, settings.patience).cpu.median
        found = products(calls, settings.device)
        out += [{"work": work, "of": seconds, **asdict(k), "fraction": k.fraction} for k in found]
    others = [closed_form_kernel(model, asked.joined), blocks_kernel(model, asked.joined, asked.matrices)]
    return out + [{"work": "float64", "of": None, **asdict(k), "fraction": k.fraction} for k in others if k is not None]
