"""Predict a large structure in parts: a part of its pairs of atoms at a time, with the same numbers as the whole.

A message-passing network needs no halo of atoms around a part: between two layers, all parts add their sums over edges to the
atoms, whose features are few, and only then go on. Nothing is computed twice, and each layer needs only the edges of one part.
The regression depends on positions alone.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import Graph
from harmose.core.moments import mean_of_reversed, with_reversed_moments
from harmose.errors import ConfigError, ModelError
from harmose.inference.card import EnergyZero
from harmose.inference.partition.memory_plan import Plan, n_values, plan
from harmose.inference.partition.part_model import PartModel
from harmose.inference.partition.parts import Part, parts
from harmose.inference.partition.runners import DaskRunner, LocalRunner, Runner, on_threads
from harmose.inference.pipeline import STAGES, Pipeline
from harmose.inference.scores import Limits, Scores
from harmose.uncertainty.features import ErrorFeatures, features_of_blocks

MOST_PAIRS_AS_A_WHOLE = 20_000
"""Pairs of atoms of the largest structure that is predicted as a whole."""
FEW_ATOMS = 50
"""Structures up to this size are predicted as a whole without counting their pairs."""
ATOMS_AT_ONCE = 300
"""Atoms whose on-site blocks are computed together."""


def predict_in_parts(
    pipeline: Pipeline,
    atoms: Atoms,
    stage: str,
    partition: str | int,
    memory: float | None,
    scheduler: str | None,
    folder: str | Path | None,
    energy_zero: EnergyZero,
    log: Callable[[str], object] | None,
) -> tuple[BlockMatrix, Scores, ErrorFeatures] | None:
    """Return H in eV, its scores and its error features; None where the structure is to be predicted as a whole.

    See `Model.predict`. Raises `ModelError` for a model that reads H0, S or charges, `ConfigError` for memory that is too small.
    """
    if partition not in ("auto", "off") and (type(partition) is not int or partition < 1):
        raise ConfigError(f"partition: expected auto, off or a number of pairs, got {partition!r}")
    by_size = partition == "auto" and scheduler is None
    if partition == "off" or (by_size and (len(atoms) <= FEW_ATOMS or _needs_whole(pipeline, stage))):
        return None
    size = partition if isinstance(partition, int) else None
    prediction = PartitionedPrediction(pipeline, atoms, memory, stage, size, energy_zero)
    if not prediction.graph.n_pairs or (by_size and prediction.graph.n_pairs <= MOST_PAIRS_AS_A_WHOLE):
        return None
    if log is not None:
        log(str(prediction.plan))
    h, scores, features = prediction.run(scheduler, folder)
    if pipeline.card.inputs.moments:
        reverse = with_reversed_moments(atoms)
        other = PartitionedPrediction(pipeline, reverse, memory, stage, size, energy_zero).run(scheduler, folder)
        h = mean_of_reversed(h, other[0])
    return h, scores, features


def operators_read(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the operators that a model reads besides the structure; such a model predicts a structure as a whole."""
    return pipeline.card.inputs.operators or (("prior",) if pipeline.card.needs_prior else ())


def _needs_whole(pipeline: Pipeline, stage: str) -> bool:
    return bool(operators_read(pipeline)) or stage not in STAGES


@dataclass
class PartitionedPrediction:
    """A prediction in parts and the `plan` of its memory; nothing is computed before `run`."""

    pipeline: Pipeline
    atoms: Atoms
    memory: float | None = None
    stage: str = "full"
    pairs_per_part: int | None = None
    energy_zero: EnergyZero | None = None

    def __post_init__(self) -> None:
        read = ", ".join(operators_read(self.pipeline))
        if read:
            raise ModelError(
                f"expected a model of the structure alone for a prediction in parts, got one that reads {read}"
            )
        if self.stage not in STAGES:
            raise ModelError(f"a prediction in parts: expected stage {', '.join(STAGES)}, got {self.stage}")
        self.graph: Graph = self.pipeline.graphs([self.atoms])[0]
        self.model = PartModel(self.pipeline, self.graph, self.stage)

    @cached_property
    def plan(self) -> Plan:
        """Size of the parts, and what is kept in memory or in files."""
        return plan(self.model, self.memory, self.pairs_per_part)

    def run(
        self, scheduler: str | None = None, folder: str | Path | None = None
    ) -> tuple[BlockMatrix, Scores, ErrorFeatures]:
        """Return H in eV, its scores and its error features; see `Model.predict`."""
        oriented, n_atoms, n_pairs = self.model.neighbourhoods.oriented, self.graph.n_atoms, self.graph.n_pairs
        self.pipeline.normalizer.check_covers(oriented)
        blocks = _Blocks(self._without_values(), self.plan.maps_blocks, folder)
        of_pairs, of_atoms = np.ones((4, n_pairs)), np.ones((4, n_atoms))
        ood, excess = np.zeros(n_atoms), np.zeros(n_atoms)
        std, stage1, atoms = np.ones(n_pairs), None, None
        with self._runner(scheduler, folder) as runner:
            for k in range(self.model.n_passes):
                totals: list[Tensor] = []
                for part, result in runner.results(k, atoms):
                    _add(totals, result.sums, part, n_atoms)
                    if result.blocks is not None:
                        blocks.put(part, result.blocks)
                    if result.last_layer_std is not None:
                        std[part.start : part.stop] = result.last_layer_std
                    if result.faded is not None:
                        of_pairs[:, part.start : part.stop] = result.faded
                if self.model.evaluates_network:
                    atoms = self._update_atoms(self.model.layers[k], atoms, totals)
                stage1 = atoms if k == len(self.model.stage1_layers) - 1 else stage1

        def onsite(chosen: np.ndarray) -> tuple[np.ndarray, ...]:
            domain, graph = self.pipeline.domain, self.model.neighbourhoods
            own = self.model.onsite(stage1, atoms if self.model.full else None, chosen)
            return *own, domain.scores(graph, chosen), domain.contact_excess(graph, chosen)

        for chosen, done in zip(self._some_atoms(), on_threads(onsite, self._some_atoms()), strict=True):
            values, of_atoms[:, chosen], ood[chosen], excess[chosen] = done
            blocks.put_onsite(chosen, values)
        h = self.pipeline.complete([blocks.matrix()], [self.atoms], [None], energy_zero=self.energy_zero)[0]
        weight, regression_std, size, last_layer_std = np.concatenate([of_atoms, [*of_pairs[[0, 1, 3]], std]], 1)
        parts = self.graph.numbers, size, ood, last_layer_std, regression_std
        features = features_of_blocks(self.model.space, oriented, *parts)
        known = std if self.model.evaluates_network and self.pipeline.last_layer is not None else np.zeros(n_pairs)
        unknown = np.zeros(n_pairs, dtype=bool)
        scores = Scores(ood, known, Limits(), regression_std, weight, of_pairs[2], unknown, contact_excess=excess)
        return h, scores, features

    def _without_values(self) -> BlockMatrix:
        """Return a matrix whose values have the right shape but take no memory."""
        basis, spin, graph = self.model.space.basis, self.model.space.spin, self.graph
        nothing = np.broadcast_to(np.zeros(1, spin.dtype), (spin.n_components, n_values(basis, graph)))
        return BlockMatrix(basis, graph.numbers, graph.pairs, nothing, spin)

    @contextmanager
    def _runner(self, scheduler: str | None, folder: str | Path | None) -> Iterator[Runner]:
        cut = list(parts(self.graph, self.plan.pairs_per_part))
        if scheduler is not None:
            with DaskRunner.connected(self.model, cut, scheduler) as runner:
                yield runner
        elif self.plan.maps_features:
            with tempfile.TemporaryDirectory(prefix="harmose-", dir=folder) as scratch:
                yield LocalRunner(self.model, cut, Path(scratch))
        else:
            yield LocalRunner(self.model, cut, None, self.plan.keeps_frames)

    def _update_atoms(self, layer: Any, atoms: Any, totals: list[Tensor]) -> Any:
        """Return the features of all atoms after a layer, in main memory wherever the network is."""
        device = self.pipeline.device
        with torch.inference_mode():
            updated = layer.update_atoms(_to(atoms, device), *(x.to(device) for x in totals))
        return _to(updated, torch.device("cpu"))

    def _some_atoms(self) -> Iterator[np.ndarray]:
        for start in range(0, self.graph.n_atoms, ATOMS_AT_ONCE):
            yield np.arange(start, min(start + ATOMS_AT_ONCE, self.graph.n_atoms))


def _add(totals: list[Tensor], sums: tuple[Tensor, ...], part: Part, n_atoms: int) -> None:
    if not totals:
        totals += [x.new_zeros(n_atoms, *x.shape[1:]) for x in sums]
    for total, x in zip(totals, sums, strict=True):
        total.index_add_(0, torch.as_tensor(part.atoms), x)


def _to(features: Any, device: torch.device) -> Any:
    return None if features is None else type(features)(*(x.to(device) for x in features))


class _Blocks:
    """Values of H, in memory or in an unnamed file in `folder`, which lasts as long as they are mapped."""

    def __init__(self, like: BlockMatrix, in_file: bool, folder: str | Path | None) -> None:
        self.like, self.file, shape = like, None, like.values.shape
        if in_file:
            self.file = tempfile.TemporaryFile(prefix="harmose-", dir=folder)  # noqa: SIM115
            self.file.truncate(like.values.nbytes)
        else:
            self.values = np.empty(shape, like.values.dtype)

    def put(self, part: Part, values: np.ndarray) -> None:
        """Store the blocks (components, size) of a part's pairs."""
        n = len(self.like.numbers)
        self._write(self.like.offsets[n + part.start], values)

    def put_onsite(self, atoms: np.ndarray, values: np.ndarray) -> None:
        """Store the blocks of consecutive atoms."""
        self._write(self.like.offsets[atoms[0]], values)

    def _write(self, start: Any, values: np.ndarray) -> None:
        if self.file is None:
            self.values[:, start : start + values.shape[1]] = values
            return
        width, size = self.like.values.itemsize, self.like.values.shape[1]
        for component, row in enumerate(values):
            # Written, not mapped: pages of a map count as the process's memory.
            os.pwrite(self.file.fileno(), row.tobytes(), width * (component * size + int(start)))

    def matrix(self) -> BlockMatrix:
        """Return the matrix of all blocks."""
        if self.file is not None:
            self.values = np.memmap(self.file, self.like.values.dtype, "r+", shape=self.like.values.shape)
        return self.like.with_values(self.values)
