"""Training steps and batches, on labels that are made up: a model's own predictions, a thousandth larger.

What would be learned is of no use; what is done in a step, and how long it takes, does not depend on it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from harmose.bench.prediction import predicted
from harmose.bench.systems import System
from harmose.bench.timing import Stopwatch
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ConfigError
from harmose.inference.model import Model, ModelInput
from harmose.io.basis_sets import overlap
from harmose.representation.concatenation import compute_targets
from harmose.train.dataset import Dataset, TrainingBatch, load_dataset, normalize
from harmose.train.schedule import Phase, PhaseName
from harmose.train.step import PhaseLoss, PhaseOptimizer

LARGER = 1.001
"""So much larger than the model's predictions are the labels: something is left to be learned."""


def labelled(model: Model, system: System, priors: Sequence[BlockMatrix | None]) -> list[Sample]:
    """The structures of a system with made-up labels."""
    matrices, samples = predicted(model, system.structures, priors, Stopwatch(), level=False), []
    for k, (atoms, h, prior) in enumerate(zip(system.structures, matrices, priors, strict=True)):
        s = overlap(atoms, h.basis) if model.card.target.fermi or model.card.target.operators else None
        samples.append(
            Sample(
                f"{system.name}-{k}",
                atoms,
                h.basis,
                h.with_values(LARGER * h.values),
                overlap=s,
                prior=prior,
                spin=h.spin,
                n_electrons=float(atoms.numbers.sum()),
                fermi_level=0.0,
            )
        )
    return samples


def known_priors(model: Model, system: System) -> list[BlockMatrix | None]:
    """H0 of each structure, where the model asks for it."""
    return [*ModelInput(model, system.structures).priors]


def batch_of(model: Model, samples: Sequence[Sample]) -> TrainingBatch:
    """All samples as one batch, as a training has it in memory."""
    return normalize(compute_targets(model.regression.space, samples, model.card.target), model.regression).pick(
        np.arange(len(samples))
    )


def stepper(
    model: Model, batch: TrainingBatch, phase: PhaseName, device: str = "cpu", compiled: bool = False
) -> Callable[[], float]:
    """One training step of a phase, all of it: loss, gradient, optimizer, averaged weights. The model itself is left as it is."""
    fabric = Fabric(accelerator=device, devices=1)
    network, average = copy.deepcopy(model.network), copy.deepcopy(model.network)
    network.to(fabric.device)
    average.to(fabric.device)
    loss = PhaseLoss(network, fabric.device, 0.3)
    generator = torch.Generator(fabric.device).manual_seed(0)
    work = PhaseOptimizer(fabric, loss, average, generator, phase, Phase(learning_rate=1e-5), compiled, _refuse)
    on_device = batch.to(fabric.device)
    return lambda: work.step(on_device, 0, 0.0)


def _refuse(text: str) -> None:
    """What is timed as compiled must be."""
    raise ConfigError(f"--compile: {text}")


@dataclass(frozen=True)
class Loading:
    """A data set in a store of its own: `ready` keeps samples in memory, `stored` reads each batch from the store."""

    ready: Dataset
    stored: Dataset

    @staticmethod
    @contextmanager
    def of(model: Model, samples: Sequence[Sample], path: Path) -> Iterator["Loading"]:
        """Writes the store, and closes it in the end."""
        with Store.create(path, samples[0].basis, model.card.spin) as store:
            store.append_all(samples)
        names = [sample.name for sample in samples]
        with Store.open(path) as store:
            loaded = [load_dataset(store, names, model.regression, model.card.target, memory) for memory in (10**9, 0)]
            yield Loading(*loaded)
