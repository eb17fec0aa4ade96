"""`predict`: H of a large structure, a part of its pairs at a time (`parts`, `work`), with the same numbers as the whole.

A message-passing network needs no halo of atoms around a part whose features must be computed as well: between two rounds
all parts give their sums over edges to the atoms, whose features are few, and only then go on. Nothing is computed twice,
and what each round of an edge needs is a part's own. The closed form looks at positions alone.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import Graph
from harmose.errors import ConfigError, ModelError
from harmose.inference.model import STAGES, Model, ModelInput
from harmose.inference.partition.memory_plan import Plan, n_values, plan
from harmose.inference.partition.part_model import PartModel
from harmose.inference.partition.parts import Part, parts
from harmose.inference.partition.runners import DaskRunner, LocalRunner, Runner, on_threads
from harmose.nn.ops.message_passing import Round

LARGE = 20_000
"""Pairs of atoms of the largest structure that is predicted as a whole."""
LARGEST_LEVEL = 4_000
"""Orbitals of the largest structure whose Fermi level is found for the sake of a common zero of energy."""
FEW = 50
"""Atoms of a structure whose pairs need not be counted."""
ATOMS_AT_ONCE = 300


def predict(
    model: Model,
    atoms: Atoms,
    partition: Literal["auto", "off"] | int = "auto",
    memory: float | None = None,
    stage: str = "full",
    scheduler: str | None = None,
    folder: str | Path | None = None,
    told: Callable[[str], object] | None = None,
) -> BlockMatrix:
    """H in eV of one structure, as `Model.predict` to rounding, within `memory` bytes (default: most of what is free).

    `partition`: pairs in each part; "auto": parts for structures of more than `LARGE` pairs; "off": the whole at once. What
    does not fit goes to files in `folder` (default: that for temporary files): features of edges between rounds, and the
    blocks themselves, whose values are then mapped from a file that lasts as long as they do. `scheduler`: the address of a
    Dask scheduler, whose workers share the parts. `told` the plan, in a line, before it begins. With more than
    `LARGEST_LEVEL` orbitals a model of gauge "solved" leaves H in its labels' zero of energy: the Fermi level costs more than H.

    Raises `ModelError` for parts with a model that reads H0, S or the electrons of H0, `ConfigError` for a memory that cannot
    do, and as `Model.predict`.
    """
    if partition != "auto" and partition != "off" and (isinstance(partition, str) or partition < 1):
        raise ConfigError(f"partition: expected auto, off or a number of pairs, got {partition!r}")
    by_size = partition == "auto" and scheduler is None
    if partition == "off" or (by_size and (len(atoms) <= FEW or reads_operators(model))):
        return model.predict(atoms, stage=stage)
    asked = Prediction(model, atoms, memory, stage, partition if isinstance(partition, int) else None)
    if not asked.graph.n_pairs or (by_size and asked.graph.n_pairs <= LARGE):
        return model.predict(atoms, stage=stage)
    if told is not None:
        told(str(asked.plan))
        if not asked.finds_level:
            told(
                "energies count from the zero of the model's labels, not from the Fermi level, which `harmose dos` finds"
            )
    return asked.run(scheduler, folder)


def reads_operators(model: Model) -> tuple[str, ...]:
    """What a model reads besides the structure: such a model predicts a structure as a whole."""
    return model.card.inputs.operators or (("prior",) if model.card.needs_prior else ())


@dataclass
class Prediction:
    """What is to be predicted, and the `plan` of its memory; nothing is done before `run`."""

    model: Model
    atoms: Atoms
    memory: float | None = None
    stage: str = "full"
    pairs_per_part: int | None = None

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ModelError(f"stage: expected full or stage1, got {self.stage!r}")
        read = ", ".join(reads_operators(self.model))
        if read:
            raise ModelError(
                f"expected a model of the structure alone for a prediction in parts, got one that reads {read}"
            )
        self.graph: Graph = ModelInput(self.model, [self.atoms]).graphs[0]
        full = self.stage == "full" and not self.model.network.stage2.is_untrained
        calibration = self.model.calibration
        rigidity = None if calibration is None else calibration.rigidity
        self.work = PartModel(self.model.network, self.model.regression, self.graph, full, rigidity)

    @cached_property
    def plan(self) -> Plan:
        """How large parts are, and what is kept where."""
        return plan(self.work, self.memory, self.pairs_per_part)

    def run(self, scheduler: str | None = None, folder: str | Path | None = None) -> BlockMatrix:
        """H; see `predict`."""
        planned = self.plan
        blocks = _Blocks(self._like(), planned.maps_blocks, folder)
        rigidity, atoms = np.zeros(self.graph.n_pairs), None
        stage1: Any = None
        with self._runner(planned, scheduler, folder) as runner:
            for k, each in enumerate(self.work.rounds):
                totals: list[Tensor] = []
                for part, answer in runner.round(k, atoms):
                    _add(totals, answer.sums, part, self.graph.n_atoms)
                    if answer.blocks is not None:
                        blocks.put(part, answer.blocks)
                    if answer.rigidity is not None:
                        rigidity[part.start : part.stop] = answer.rigidity
                atoms = self._informed(each, atoms, totals)
                stage1 = atoms if k == len(self.work.first_rounds) - 1 else stage1

        def of_atoms(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            ood_score = self.work.regression.ood_score_of(self.work.neighbourhoods, chosen)
            return self.work.onsite(stage1, atoms if self.work.full else None, chosen), ood_score

        ood_score = np.zeros(self.graph.n_atoms)
        for chosen, (values, found) in zip(self._some_atoms(), on_threads(of_atoms, self._some_atoms()), strict=True):
            blocks.put_onsite(chosen, values)
            ood_score[chosen] = found
        self.model.warn_outside(ood_score, rigidity, stacklevel=4)
        h = blocks.matrix()
        return self.model.completed([h], [self.atoms], [None])[0] if self.finds_level else h

    @property
    def finds_level(self) -> bool:
        """Whether H is moved to its own Fermi level, or whatever else the model's card says, as `Model.predict` does."""
        return self.model.card.energy_zero != "fermi_of_prediction" or self._like().n_orbitals <= LARGEST_LEVEL

    def _like(self) -> BlockMatrix:
        """Without values: none are in memory, though they have the right shape."""
        basis, spin, graph = self.work.space.basis, self.work.space.spin, self.graph
        nothing = np.broadcast_to(np.zeros(1, spin.dtype), (spin.n_components, n_values(basis, graph)))
        return BlockMatrix(basis, graph.numbers, graph.pairs, nothing, spin)

    @contextmanager
    def _runner(self, planned: Plan, scheduler: str | None, folder: str | Path | None) -> Iterator[Runner]:
        cut = list(parts(self.graph, planned.pairs_per_part))
        if scheduler is not None:
            with DaskRunner.connected(self.work, cut, scheduler) as runner:
                yield runner
        elif planned.maps_features:
            with tempfile.TemporaryDirectory(prefix="harmose-", dir=folder) as scratch:
                yield LocalRunner(self.work, cut, Path(scratch))
        else:
            yield LocalRunner(self.work, cut, None, planned.keeps_frames)

    def _informed(self, each: Round, atoms: Any, totals: list[Tensor]) -> Any:
        """What all atoms know after a round; kept in the machine's own memory, wherever the network is."""
        device = self.work.device
        with torch.inference_mode():
            found = each.atoms(_to(atoms, device), *(x.to(device) for x in totals))
        return _to(found, torch.device("cpu"))

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
    """The values of H, in memory or in a file without a name in `folder`, which lasts as long as they are mapped."""

    def __init__(self, like: BlockMatrix, in_file: bool, folder: str | Path | None) -> None:
        self.like, self.file, shape = like, None, like.values.shape
        if in_file:
            self.file = tempfile.TemporaryFile(prefix="harmose-", dir=folder)  # noqa: SIM115
            self.file.truncate(like.values.nbytes)
        else:
            self.values = np.empty(shape, like.values.dtype)

    def put(self, part: Part, values: np.ndarray) -> None:
        """The blocks of a part's pairs (components, size)."""
        n = len(self.like.numbers)
        self._write(self.like.offsets[n + part.start], values)

    def put_onsite(self, atoms: np.ndarray, values: np.ndarray) -> None:
        """Those of consecutive atoms."""
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
        """All of them."""
        if self.file is not None:
            self.values = np.memmap(self.file, self.like.values.dtype, "r+", shape=self.like.values.shape)
        return self.like.with_values(self.values)
