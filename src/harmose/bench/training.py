"""Training steps and batches, on labels that are a model's own predictions, a thousandth larger.

The time of a training step does not depend on what is learned.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from harmose.bench.prediction import predict
from harmose.bench.systems import System
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ConfigError
from harmose.inference.model import Model
from harmose.io.basis_sets import overlap
from harmose.representation.block_irreps import map_coefficients
from harmose.representation.concatenation import SampleTargets, compute_targets
from harmose.train.dataset import Dataset, TrainingBatch, load_dataset, normalize_targets
from harmose.train.fit import Fit
from harmose.train.part_files import Changed
from harmose.train.prepared import Preparation, open_prepared, prepare_in_parts
from harmose.train.schedule import Phase, PhaseName
from harmose.train.step import PhaseLoss, PhaseOptimizer

LABEL_FACTOR = 1.001
"""Ratio of the labels to the model's predictions, so that there is something to learn."""


def labelled(model: Model, system: System, priors: Sequence[BlockMatrix | None]) -> list[Sample]:
    """The structures of a system with made-up labels."""
    matrices, samples = predict(model, system.structures, priors, fermi_level=False), []
    for k, (atoms, h, prior) in enumerate(zip(system.structures, matrices, priors, strict=True)):
        s = overlap(atoms, h.basis) if model.card.target.fermi or model.card.target.operators else None
        samples.append(
            Sample(
                f"{system.name}-{k}",
                atoms,
                h.basis,
                h.with_values(LABEL_FACTOR * h.values),
                overlap=s,
                prior=prior,
                spin=h.spin,
                n_electrons=float(atoms.numbers.sum()),
                fermi_level=0.0,
            )
        )
    return samples


def compute_priors(model: Model, system: System) -> list[BlockMatrix | None]:
    """H0 of each structure; None if the model does not read it."""
    if model.prior is None:
        return [None] * len(system.structures)
    return [*model.inputs(system.structures).priors]


def make_batch(model: Model, samples: Sequence[Sample]) -> TrainingBatch:
    """All samples as one batch, as a training holds it in memory."""
    targets = compute_targets(model.space, samples, model.card.target)
    return normalize_targets(targets, _fit(model)).pick(np.arange(len(samples)))


def make_step(
    model: Model, batch: TrainingBatch, phase: PhaseName, device: str = "cpu", compiled: bool = False
) -> Callable[[], float]:
    """A function that makes one training step of a phase: loss, gradient, optimizer, averaged weights.

    The step trains a copy of the network.
    """
    fabric = Fabric(accelerator=device, devices=1)
    network, average = copy.deepcopy(model.network), copy.deepcopy(model.network)
    assert network is not None
    assert average is not None
    network.to(fabric.device)
    average.to(fabric.device)
    loss = PhaseLoss(network, fabric.device, 0.3)
    generator = torch.Generator(fabric.device).manual_seed(0)
    optimizer = PhaseOptimizer(
        fabric, loss, average, generator, phase, Phase(learning_rate=1e-5, warmup=0), compiled, _not_compiled
    )
    on_device = batch.to(fabric.device)
    return lambda: optimizer.step(on_device, 0, 0.0)


def _not_compiled(reason: str) -> None:
    """Raise `ConfigError`: a step that is timed as compiled must be compiled."""
    raise ConfigError(f"--compile: {reason}")


def _fit(model: Model) -> Fit:
    return Fit(model.normalizer, model.domain, model.regression)


@dataclass(frozen=True)
class Loading:
    """A data set in a store: `ready` keeps its samples in memory, `stored` in mapped files, as sets are that do not fit."""

    ready: Dataset
    stored: Dataset

    @staticmethod
    @contextmanager
    def of(model: Model, samples: Sequence[Sample], path: Path) -> Iterator["Loading"]:
        """Write samples to a store at `path`, and prepare them beside it; both are open during the block."""
        with Store.create(path, samples[0].basis, model.card.spin) as store:
            store.append_all(samples)
        names, fit, target = [sample.name for sample in samples], _fit(model), model.card.target

        def change(targets: SampleTargets) -> Changed:
            known = fit.values(targets)
            left = map_coefficients(torch.sub, targets.coefficients, known.values)
            return Changed(left, left, known.weights, known.std)

        with Store.open(path) as store:
            folder = path.with_name("prepared")
            kept = Preparation(store, names, model.space, target, "keep", change=change)
            prepare_in_parts(kept, folder, lambda *_: fit, lambda *_: None)
            _, stored = open_prepared(folder, store, model.space, target)
            yield Loading(load_dataset(store, names, fit, target), stored)
