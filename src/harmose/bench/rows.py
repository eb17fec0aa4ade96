"""All times of one system: a prediction and its parts, training steps, loading, and the same by others."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from harmose.bench import deeptb
from harmose.bench.e3nn_stage1 import E3nnStage1
from harmose.bench.e3nn_stage1 import step as e3nn_step
from harmose.bench.prediction import time_parts
from harmose.bench.settings import BenchSettings
from harmose.bench.systems import System
from harmose.bench.timing import Timing, measure
from harmose.bench.training import Loading, batch_of, known_priors, labelled, stepper
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.inference.checkpoint import load
from harmose.inference.model import Model
from harmose.inference.partition.predict import LARGE, predict
from harmose.train.dataset import TrainingBatch

RIVAL_EDGES = 6000
"""Directed edges beyond which the others are not timed: a step of theirs takes seconds."""
LEVEL_ORBITALS = 1000
"""Orbitals beyond which a crystal's Fermi level, whose cost grows with their cube, is not part of what is timed."""
TRAINED_EDGES = 20_000
"""Directed edges of the largest batch that is trained on."""
LOADED_EDGES = 2000
"""Directed edges beyond which batches are not read from a store."""


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


Found = list[tuple[str, str, Timing]]
"""What, by whom, how long."""


def rows_of(each: System, settings: BenchSettings) -> list[Row]:
    """What is large enough to be predicted in parts is predicted so, and nothing else is done with it."""
    model = load(each.model)
    model = replace(model, network=model.network.to(settings.device))
    basis = model.regression.space.basis
    n_orbitals = sum(int(basis.counts(atoms.numbers).sum()) for atoms in each.structures)
    n_pairs = sum(build_graph(atoms, basis).n_pairs for atoms in each.structures)
    if n_pairs > LARGE:
        work = measure(lambda: [predict(model, atoms) for atoms in each.structures], settings.patience)
        found = [("in parts", "harmose", work)]
    else:
        found = _small(model, each, n_orbitals, 2 * n_pairs, settings)
    return [Row(each.name, each.n_atoms, n_orbitals, 2 * n_pairs, *f) for f in found]


def _small(model: Model, each: System, n_orbitals: int, n_edges: int, settings: BenchSettings) -> Found:
    priors = known_priors(model, each)
    predictions = _predictions(model, each, priors, n_orbitals, settings)
    if n_edges > TRAINED_EDGES:
        return predictions
    samples = labelled(model, each, priors)
    batch = batch_of(model, samples)
    return [
        *predictions,
        *_steps(model, batch, settings),
        *(_loading(model, samples, settings) if n_edges <= LOADED_EDGES else []),
        *(_others(model, each, batch, settings) if n_edges <= RIVAL_EDGES else []),
    ]


def _predictions(
    model: Model, each: System, priors: Sequence[BlockMatrix | None], n_orbitals: int, settings: BenchSettings
) -> Found:
    level = model.card.energy_zero != "fermi_of_prediction" or n_orbitals <= LEVEL_ORBITALS
    parts, whole = time_parts(model, each.structures, priors, settings.patience, level)
    found: Found = [(name, "harmose", timing) for name, timing in parts.items()]
    if not level:
        return [*found, ("blocks of H", "harmose", whole)]
    given = [*priors]
    called = measure(lambda: model.predict_many(each.structures, given), settings.patience)
    return [*found, ("predict", "harmose", called)]


def _steps(model: Model, batch: TrainingBatch, settings: BenchSettings) -> Found:
    found: Found = []
    for phase in ("stage1", "joint"):
        for compiled in (False, True) if settings.compile else (False,):
            step = stepper(model, batch, phase, settings.device, compiled)
            if compiled:
                step()  # not what a step takes, nor more than all there is of patience
            found.append((f"step {phase}{' compiled' * compiled}", "harmose", measure(step, settings.patience)))
    return found


def _loading(model: Model, samples: Sequence[Sample], settings: BenchSettings) -> Found:
    with tempfile.TemporaryDirectory() as folder, Loading.of(model, samples, Path(folder) / "store") as loading:
        every = np.arange(len(samples))
        ready = measure(lambda: loading.ready.batch(every), settings.patience)
        stored = measure(lambda: loading.stored.batch(every), settings.patience)
    return [("batch ready", "harmose", ready), ("batch stored", "harmose", stored)]


def _others(model: Model, each: System, batch: TrainingBatch, settings: BenchSettings) -> Found:
    found: Found = []
    if "e3nn" in settings.against:
        found += _e3nn(model, batch, settings)
    if "deeptb" in settings.against and settings.deeptb_python is not None:
        n_edges, threads = 2 * batch.graph.n_pairs, settings.threads
        times = deeptb.deeptb(settings.deeptb_python, model, each, n_edges, settings.patience, threads)
        titles = {"step": "step stage1", "predict": "network stage1"}
        found += [(titles[name], "DeePTB", timing) for name, timing in times.items()]
    return found


def _e3nn(model: Model, batch: TrainingBatch, settings: BenchSettings) -> Found:
    network = E3nnStage1(model.regression.space, model.network.settings.stage1).to(settings.device)
    graph = batch.graph.to(settings.device)
    step = e3nn_step(network, graph)
    for _ in range(2):  # TorchScript compiles in the first runs
        step()
    found: Found = [("step stage1", "e3nn", measure(step, settings.patience))]
    with torch.no_grad():
        for _ in range(2):
            network(graph)
        return [*found, ("network stage1", "e3nn", measure(lambda: network(graph), settings.patience))]
