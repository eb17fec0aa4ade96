"""Times of one system: a prediction and its steps, training steps, loading; and the same by other libraries."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from harmose.bench.prediction import time_steps
from harmose.bench.settings import BenchSettings
from harmose.bench.systems import System
from harmose.bench.timing import Timing, measure
from harmose.bench.training import Loading, compute_priors, labelled, make_batch, make_step
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.inference.checkpoint import load
from harmose.inference.model import Model
from harmose.inference.partition.predict import MOST_PAIRS_AS_A_WHOLE
from harmose.train.dataset import TrainingBatch

MOST_EDGES_COMPARED = 6000
"""Directed edges of the largest graph that other libraries are timed with; their steps take seconds."""
MOST_ORBITALS_WITH_FERMI_LEVEL = 1000
"""Orbitals of the largest crystal whose Fermi level, with its cubic cost, is part of the prediction that is timed."""
MOST_EDGES_TRAINED = 20_000
"""Directed edges of the largest batch that is trained on."""
MOST_EDGES_LOADED = 2000
"""Directed edges of the largest batch that is read from a store."""


@dataclass(frozen=True)
class Row:
    """One timing: `work` on a system, by a library (harmose, e3nn, DeePTB)."""

    system: str
    atoms: int
    orbitals: int
    edges: int
    work: str
    by: str
    timing: Timing


Measured = list[tuple[str, str, Timing]]
"""Work, library, timing."""


def rows_of(system: System, settings: BenchSettings) -> list[Row]:
    """Time everything of one system. A structure that is predicted in parts is not trained on."""
    model = load(system.model)
    if model.network is not None:
        model = replace(model, network=model.network.to(settings.device))
    basis = model.space.basis
    n_orbitals = sum(int(basis.counts(atoms.numbers).sum()) for atoms in system.structures)
    n_pairs = sum(build_graph(atoms, basis).n_pairs for atoms in system.structures)
    if n_pairs > MOST_PAIRS_AS_A_WHOLE:
        zero = "labels" if model.card.energy_zero == "fermi_of_prediction" else None
        in_parts = measure(lambda: [model.predict(a, energy_zero=zero) for a in system.structures], settings.limits)
        measured = [("in parts", "harmose", in_parts)]
    else:
        measured = _measure(model, system, n_orbitals, 2 * n_pairs, settings)
    return [Row(system.name, system.n_atoms, n_orbitals, 2 * n_pairs, *each) for each in measured]


def _measure(model: Model, system: System, n_orbitals: int, n_edges: int, settings: BenchSettings) -> Measured:
    priors = compute_priors(model, system)
    measured = _predictions(model, system, priors, n_orbitals, settings)
    if n_edges > MOST_EDGES_TRAINED or model.network is None:
        return measured
    samples = labelled(model, system, priors)
    batch = make_batch(model, samples)
    measured += _steps(model, batch, settings)
    if n_edges <= MOST_EDGES_LOADED:
        measured += _loading(model, samples, settings)
    if n_edges <= MOST_EDGES_COMPARED and "e3nn" in settings.against:
        measured += _e3nn(model, batch, settings)
    return measured


def _predictions(
    model: Model, system: System, priors: Sequence[BlockMatrix | None], n_orbitals: int, settings: BenchSettings
) -> Measured:
    has_level = model.card.energy_zero != "fermi_of_prediction" or n_orbitals <= MOST_ORBITALS_WITH_FERMI_LEVEL
    steps, whole = time_steps(model, system.structures, priors, settings.limits, has_level)
    measured: Measured = [(name, "harmose", timing) for name, timing in steps.items()]
    if not has_level:
        return [*measured, ("blocks of H", "harmose", whole)]
    called = measure(lambda: model.predict_many(system.structures, [*priors]), settings.limits)
    return [*measured, ("predict", "harmose", called)]


def _steps(model: Model, batch: TrainingBatch, settings: BenchSettings) -> Measured:
    measured: Measured = []
    for phase in ("stage1", "joint"):
        for compiled in (False, True) if settings.compile else (False,):
            step = make_step(model, batch, phase, settings.device, compiled)
            if compiled:
                step()  # compiles: longer than a step, and than the limit
            name = f"step {phase}{' compiled' * compiled}"
            measured.append((name, "harmose", measure(step, settings.limits)))
    return measured


def _loading(model: Model, samples: Sequence[Sample], settings: BenchSettings) -> Measured:
    with tempfile.TemporaryDirectory() as folder, Loading.of(model, samples, Path(folder) / "store") as loading:
        numbers = np.arange(len(samples))
        ready = measure(lambda: loading.ready.batch(numbers), settings.limits)
        stored = measure(lambda: loading.stored.batch(numbers), settings.limits)
    return [("batch ready", "harmose", ready), ("batch stored", "harmose", stored)]


def _e3nn(model: Model, batch: TrainingBatch, settings: BenchSettings) -> Measured:
    from harmose.bench.e3nn_stage1 import E3nnStage1, make_e3nn_step

    assert model.network is not None
    network = E3nnStage1(model.space, model.network.settings.stage1).to(settings.device)
    graph = batch.graph.to(settings.device)
    step = make_e3nn_step(network, graph)
    for _ in range(2):  # TorchScript compiles in the first runs
        step()
    measured: Measured = [("step stage1", "e3nn", measure(step, settings.limits))]
    with torch.no_grad():
        for _ in range(2):
            network(graph)
        return [*measured, ("network stage1", "e3nn", measure(lambda: network(graph), settings.limits))]
