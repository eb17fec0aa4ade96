"""Prepared samples in files that are mapped into memory: what a network reads of them, and what it learns.

Rows lie group after group, and within a group sample after sample, as in `NormalizedSamples`. Numbers are in float32: residuals
of the regression in eV, frames, vectors. They are normalized when a batch is picked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harmose.errors import FormatError
from harmose.kernel_regression.correction import summed_fades
from harmose.kernel_regression.fit_in_parts import LeftOut
from harmose.kernel_regression.model import FadedValues
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients
from harmose.representation.concatenation import SampleTargets
from harmose.representation.normalizer import Normalizer, ScaleTable
from harmose.train.dataset import NormalizedSamples, TrainingBatch
from harmose.train.mapped_arrays import MappedArray
from harmose.train.part_files import Part

OF_ATOMS = {"species": np.int64}
OF_PAIRS = {"first": np.int64, "second": np.int64, "pair_type": np.int64, "vectors": np.float32, "distance": np.float32,
            "reach": np.float32, "rotation": np.float32}  # fmt: skip
RESIDUAL, WEIGHT, STD = "residual", "weight", "std"
RELEASE = 2 * 10**8
"""Bytes that are picked before the memory of mapped pages is given back: they count as memory of the process."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the samples of a training set.

    Attributes:
        pair_counts: number of pairs of each sample in each group (n, n_groups).
        atom_counts: number of atoms of each sample of each shell type (n, n_types).
        n_elements: number of elements of each sample's matrix (n,).
    """

    pair_counts: np.ndarray
    atom_counts: np.ndarray
    n_elements: np.ndarray

    @cached_property
    def pair_starts(self) -> np.ndarray:
        """Row of the first pair of each sample in each group, counted from the start of the group (n + 1, n_groups)."""
        return np.concatenate([np.zeros_like(self.pair_counts[:1]), np.cumsum(self.pair_counts, 0)])

    @cached_property
    def atom_starts(self) -> np.ndarray:
        """Row of the first atom of each sample of each shell type, counted from the start of the type (n + 1, n_types)."""
        return np.concatenate([np.zeros_like(self.atom_counts[:1]), np.cumsum(self.atom_counts, 0)])


class StoredSamples:
    """Prepared samples in a folder of arrays."""

    def __init__(self, folder: Path, space: BlockIrreps, sizes: Sizes, operators: tuple[str, ...]) -> None:
        self.folder, self.space, self.sizes, self.operators = folder, space, sizes, operators
        self.arrays: dict[str, MappedArray] = {}

    def shapes(self) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Return the kind of numbers and the shape of each array."""
        n_atoms, n_pairs = int(self.sizes.atom_counts.sum()), int(self.sizes.pair_counts.sum())
        width = (self.space.l_max + 1) ** 2
        tails = {"vectors": (3,), "rotation": (width, width)}
        out: dict[str, tuple[type, tuple[int, ...]]] = {name: (kind, (n_atoms,)) for name, kind in OF_ATOMS.items()}
        out |= {name: (kind, (n_pairs, *tails.get(name, ()))) for name, kind in OF_PAIRS.items()}
        for name in (RESIDUAL, *self.operators):
            for k, group in enumerate(self.space.groups):
                layout = self.space.pair_layout(group)
                shape = int(self.sizes.pair_counts[:, k].sum()), layout.n_slots, layout.n_irreps
                out[_of_group(name, group)] = np.float32, shape
            for s in range(len(self.space.shell_types)):
                shape = int(self.sizes.atom_counts[:, s].sum()), *self.space.onsite_layout(s).mask.shape
                out[_of_group(name, s)] = np.float32, shape
        for name in (WEIGHT, STD):
            out |= {f"{name}.atoms": (np.float32, (n_atoms,)), f"{name}.pairs": (np.float32, (n_pairs,))}
        return out

    @property
    def n_bytes(self) -> int:
        """Size on the disk."""
        return sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in self.shapes().values())

    def create(self) -> None:
        """Make the arrays; `OSError` where the disk is full."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, (kind, shape) in self.shapes().items():
            self.arrays[name] = MappedArray.create(self.folder / f"{name}.npy", kind, shape)

    def open(self) -> None:
        """Open the arrays to read; `FormatError` for one that is missing or damaged."""
        for name, (_, shape) in self.shapes().items():
            file = self.folder / f"{name}.npy"
            try:
                self.arrays[name] = MappedArray(file)
            except (OSError, ValueError) as error:
                raise FormatError(f"{file}: expected prepared samples, got a damaged file ({error})") from None
            if self.values(name).shape != shape:
                raise FormatError(f"{file}: expected prepared samples of shape {shape}, got {self.values(name).shape}")

    def values(self, name: str) -> np.ndarray:
        """Return an array."""
        return self.arrays[name].values

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        for array in self.arrays.values():
            array.flush()

    def release(self) -> None:
        """Give the memory of mapped pages back."""
        for array in self.arrays.values():
            array.release()

    def write(self, first: int, part: Part) -> None:
        """Write what is known before the fit: graphs, operators, and residuals before any prediction. `first`: first sample."""
        batch, sizes, n = part.batch, self.sizes, len(part.names)
        pair_places, atom_places = self._places(first, n)
        place = np.concatenate(atom_places) if atom_places else np.zeros(0, int)  # rows of the part's atoms
        for name in OF_ATOMS:
            self.values(name)[place] = getattr(batch, name).numpy()
        rows = np.concatenate(pair_places) if pair_places else np.zeros(0, int)
        for name in OF_PAIRS:
            values = getattr(batch, name).numpy()
            self.values(name)[rows] = place[values] if name in ("first", "second") else values
        changed = part.changed
        for name, c in ((RESIDUAL, part.learned), *part.operators.items()):
            for starts, values in ((sizes.pair_starts, c.pairs), (sizes.atom_starts, c.onsite)):
                for k, (group, x) in enumerate(values.items()):
                    start = starts[first, k]
                    self.values(_of_group(name, group))[start : start + len(x)] = x.numpy()
        own = (1.0, 1.0) if changed is None else (changed.weights, changed.std)
        for name, values in zip((WEIGHT, STD), own):
            for blocks, count, shown in zip(("atoms", "pairs"), self._blocks(first, n), _split(values, part)):
                self.values(f"{name}.{blocks}")[count] = shown

    def subtract(self, first: int, part: Part, left_out: LeftOut) -> None:
        """Subtract predictions of some blocks of a part by a regression that was not fitted to their samples."""
        changed, learned, is_pair = part.changed, part.learned, isinstance(left_out.group, tuple)
        tensors: Mapping[tuple[int, int] | int, Tensor] = {**learned.pairs, **learned.onsite}
        own = list(learned.pairs if is_pair else learned.onsite)
        starts = self.sizes.pair_starts if is_pair else self.sizes.atom_starts
        start = starts[first, own.index(left_out.group)]
        known = tensors[left_out.group].numpy()[left_out.rows]
        self.values(_of_group(RESIDUAL, left_out.group))[start + left_out.rows] = known - left_out.values
        weights, std = left_out.weights, left_out.std
        if changed is not None:
            before = changed.weights[left_out.blocks], changed.std[left_out.blocks]
            weights, std = summed_fades(before, (weights, std))
        n_atoms = len(part.graph.atom_sample)
        blocks, name = (left_out.blocks - n_atoms, "pairs") if is_pair else (left_out.blocks, "atoms")
        count = self._blocks(first, len(part.names))[is_pair].start
        self.values(f"{WEIGHT}.{name}")[count + blocks] = weights
        self.values(f"{STD}.{name}")[count + blocks] = std

    def subtract_shifts(self, first: int, part: Part, shifts: Normalizer) -> None:
        """Subtract the shifts of a normalizer from the on-site scalars of a part."""
        oriented = part.graph.oriented
        for k, (s, x) in enumerate(part.learned.onsite.items()):
            start = self.sizes.atom_starts[first, k]
            y = x - shifts.onsite_shifts(oriented, s, oriented.atoms[s])
            self.values(_of_group(RESIDUAL, s))[start : start + len(y)] = y.numpy()

    def _places(self, first: int, n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Rows of n samples in each group and of each shell type, among all pairs and all atoms."""
        out = []
        for starts in (self.sizes.pair_starts, self.sizes.atom_starts):
            offset = np.concatenate([[0], np.cumsum(starts[-1])])
            ranges = zip(offset, starts[first], starts[first + n], strict=False)
            out.append([start + np.arange(a, b) for start, a, b in ranges])
        return out[0], out[1]

    def _blocks(self, first: int, n: int) -> tuple[slice, slice]:
        """Atoms and pairs of n samples, where all are counted sample after sample."""
        atoms, pairs = self.sizes.atom_starts.sum(1), self.sizes.pair_starts.sum(1)
        return slice(int(atoms[first]), int(atoms[first + n])), slice(int(pairs[first]), int(pairs[first + n]))

    def residual(self, group: tuple[int, int] | int) -> np.ndarray:
        """Return the residuals of a group or a shell type in eV (n, S, K)."""
        return self.values(_of_group(RESIDUAL, group))

    def ready(self, names: tuple[str, ...], table: ScaleTable) -> "ReleasingSamples":
        """Return the samples, to be picked from; `table`: scales that residuals are divided by."""
        graph = GraphBatch(
            **{name: torch.from_numpy(self.values(name)) for name in (*OF_ATOMS, *OF_PAIRS)},
            sample=torch.zeros(0, dtype=torch.int64),  # a batch counts its own samples
            atom_counts=tuple(self.sizes.atom_counts.sum(0).tolist()),
            pair_counts=tuple(self.sizes.pair_counts.sum(0).tolist()),
            n_samples=len(names),
            operators={name: self._coefficients(name) for name in self.operators},
        )
        counts = self.sizes.pair_counts, self.sizes.atom_counts, self.sizes.n_elements
        return ReleasingSamples(names, graph, self._coefficients(RESIDUAL), table, *counts, self, np.zeros(1))

    def _coefficients(self, name: str) -> Coefficients:
        return Coefficients(
            {group: torch.from_numpy(self.values(_of_group(name, group))) for group in self.space.groups},
            {s: torch.from_numpy(self.values(_of_group(name, s))) for s in range(len(self.space.shell_types))},
        )

    def left_out(self, chosen: np.ndarray, targets: SampleTargets) -> FadedValues:
        """Return predictions of some samples, given by number and by their targets, by a regression fitted to the others."""
        pairs, onsite = {}, {}
        for out, starts, c in (
            (pairs, self.sizes.pair_starts, targets.coefficients.pairs),
            (onsite, self.sizes.atom_starts, targets.coefficients.onsite),
        ):
            for k, (group, x) in enumerate(c.items()):
                rows = np.concatenate([np.arange(starts[i, k], starts[i + 1, k]) for i in chosen])
                out[group] = x - torch.from_numpy(self.residual(group)[rows]).double()
        numbers = []
        for name in (WEIGHT, STD):
            slices = [self._blocks(int(i), 1) for i in chosen]
            found = [self.values(f"{name}.{kind}")[s[k]] for k, kind in enumerate(("atoms", "pairs")) for s in slices]
            numbers.append(np.concatenate(found).astype(float))
        return FadedValues(Coefficients(pairs, onsite), *numbers)


@dataclass(frozen=True)
class ReleasingSamples(NormalizedSamples):
    """Samples in mapped files, whose memory is given back while they are picked.

    Attributes:
        stored: the files.
        picked: bytes that were picked since then, one number.
    """

    stored: StoredSamples
    picked: np.ndarray

    def pick(self, chosen: np.ndarray) -> TrainingBatch:
        """Return the samples `chosen` (distinct numbers) as one batch."""
        batch = super().pick(chosen)
        self.picked[:] += self._bytes_per_element * batch.n_elements
        if self.picked > RELEASE:
            self.picked[:] = 0
            self.stored.release()
        return batch

    @cached_property
    def _bytes_per_element(self) -> float:
        return self.stored.n_bytes / max(int(self.n_elements.sum()), 1)


def _of_group(name: str, group: tuple[int, int] | int) -> str:
    if isinstance(group, int):
        return f"{name}.onsite.{group}"
    return f"{name}.pairs.{group[0]}_{group[1]}"


def _split(values: np.ndarray | float, part: Part) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Numbers of blocks as those of atoms and those of pairs."""
    if not isinstance(values, np.ndarray):
        return values, values
    n = len(part.graph.atom_sample)
    return values[:n], values[n:]
