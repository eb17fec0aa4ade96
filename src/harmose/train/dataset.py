"""Training data: graphs, normalized targets, and the scales of the loss.

Many samples are brought into coefficients at once, as one graph of unconnected parts, in float64; the regression is
subtracted, the rest divided by the scales of the normalizer, and only then rounded to float32:

    normalized = (coefficients - offsets) / scales
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients, map_coefficients
from harmose.representation.concatenation import (
    ConcatenatedGraph,
    SampleTargets,
    TargetSettings,
    assemble,
    compute_targets,
    element_sums,
    n_elements,
)
from harmose.representation.normalizer import normalize
from harmose.spin import absolute
from harmose.train.fit import Fit, load_targets

PAIRS_AT_ONCE = 4000
"""Pairs whose blocks are brought into frames together: enough to hide the cost of a call, few enough for the cache."""

MEMORY = 2 * 10**9
"""Bytes of prepared samples that are kept."""


@dataclass(frozen=True)
class TrainingBatch:
    """Graphs with normalised targets, the scales (eV) to multiply errors by, and the number of matrix elements."""

    names: tuple[str, ...]
    graph: GraphBatch
    targets: Coefficients
    scales: Coefficients
    n_elements: int

    def to(self, device: torch.device | str) -> "TrainingBatch":
        if torch.device(device).type == "cpu":
            return self
        targets, scales = (map_coefficients(lambda x: x.to(device), c) for c in (self.targets, self.scales))
        return replace(self, graph=self.graph.to(device), targets=targets, scales=scales)


@dataclass(frozen=True)
class NormalizedSamples:
    """Samples ready to be picked from: rows lie group after group, within a group sample after sample.

    pair_counts (n, n_groups), atom_counts (n, n_signatures), n_elements (n,): sizes of each sample.
    """

    names: tuple[str, ...]
    graph: GraphBatch
    targets: Coefficients
    scales: Coefficients
    pair_counts: np.ndarray
    atom_counts: np.ndarray
    n_elements: np.ndarray

    @property
    def n_bytes(self) -> int:
        tensors = [getattr(self.graph, f.name) for f in fields(self.graph)]
        coefficients = (self.targets, self.scales, *self.graph.operators.values())
        tensors += [x for c in coefficients for part in (c.pairs, c.onsite) for x in part.values()]
        return sum(x.numel() * x.element_size() for x in tensors if isinstance(x, Tensor))

    def pick(self, chosen: np.ndarray) -> TrainingBatch:
        """The samples `chosen` (distinct numbers) as one batch; a few dozen index operations, whatever their size."""
        chosen = np.asarray(chosen)
        g = self.graph
        atoms, pairs = _rows(self.atom_counts, chosen), _rows(self.pair_counts, chosen)
        place = torch.empty(g.n_atoms, dtype=torch.int64)
        atom_rows, pair_rows = torch.cat(atoms), torch.cat(pairs)
        place[atom_rows] = torch.arange(len(atom_rows))
        owner = np.tile(np.arange(len(chosen)), self.atom_counts.shape[1])
        rows = self._local_rows(atoms, pairs)
        batch = GraphBatch(
            species=g.species.index_select(0, atom_rows),
            sample=torch.as_tensor(np.repeat(owner, self.atom_counts[chosen].T.ravel())),
            first=place.index_select(0, g.first.index_select(0, pair_rows)),
            second=place.index_select(0, g.second.index_select(0, pair_rows)),
            **{n: getattr(g, n).index_select(0, pair_rows) for n in _OF_PAIRS},
            atom_counts=tuple(map(len, atoms)),
            pair_counts=tuple(map(len, pairs)),
            n_samples=len(chosen),
            operators={name: _pick_coefficients(c, *rows) for name, c in g.operators.items()},
        )
        targets, scales = (_pick_coefficients(c, *rows) for c in (self.targets, self.scales))
        names = tuple(self.names[k] for k in chosen)
        return TrainingBatch(names, batch, targets, scales, int(self.n_elements[chosen].sum()))

    def first(self, n: int) -> "NormalizedSamples":
        """The first n samples."""
        chosen = self.pick(np.arange(n))
        counts = self.pair_counts[:n], self.atom_counts[:n], self.n_elements[:n]
        return NormalizedSamples(chosen.names, chosen.graph, chosen.targets, chosen.scales, *counts)

    def _local_rows(self, atoms: list[Tensor], pairs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Rows counted from the start of their own group (pairs) or shell type (atoms)."""
        starts = [np.concatenate([[0], np.cumsum(c.sum(0))]) for c in (self.pair_counts, self.atom_counts)]
        return [r - int(s) for r, s in zip(pairs, starts[0])], [r - int(s) for r, s in zip(atoms, starts[1])]


_OF_PAIRS = ("pair_type", "vectors", "distance", "reach", "rotation")


def _rows(counts: np.ndarray, chosen: np.ndarray) -> list[Tensor]:
    """Rows of the chosen samples in each group, with `counts` (n_samples, n_groups) rows stored group after group."""
    ends = np.cumsum(counts.T.ravel()).reshape(counts.T.shape)
    sizes = counts[chosen].T
    starts = ends[:, chosen] - sizes
    before = np.cumsum(sizes, axis=1) - sizes
    return [
        torch.as_tensor(np.repeat(start - offset, size) + np.arange(size.sum()))
        for start, offset, size in zip(starts, before, sizes)
    ]


def _pick_coefficients(c: Coefficients, pairs: list[Tensor], atoms: list[Tensor]) -> Coefficients:
    return Coefficients(
        {g: x.index_select(0, rows) for (g, x), rows in zip(c.pairs.items(), pairs)},
        {s: x.index_select(0, rows) for (s, x), rows in zip(c.onsite.items(), atoms)},
    )


def normalize_targets(targets: SampleTargets, fit: Fit, offsets: Coefficients | None = None) -> NormalizedSamples:
    """Normalize targets in float64, then round them to float32; `offsets` replace those of the fit, in eV."""
    whole = targets.concatenated
    offsets, scales = offsets or fit.values(targets).values, fit.normalizer.scales(whole.oriented)
    return NormalizedSamples(
        targets.names,
        targets.batch,
        normalize(targets.coefficients, offsets, scales),
        map_coefficients(lambda s: s.float(), scales),
        whole.pair_counts,
        whole.atom_counts,
        n_elements(whole, targets.target),
    )


class Dataset:
    """Samples of a store by number; `batch(numbers)` gives a `TrainingBatch`.

    The first ones are kept ready in memory, up to `memory` bytes; a batch with any other is prepared from the store.

    Attributes:
        pair_counts: pairs of atoms of each sample (n,).
        element_counts: elements of the matrix of each sample (n,).
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        fit: Fit,
        target: TargetSettings,
        ready: NormalizedSamples | None,
        counts: tuple[np.ndarray, np.ndarray],
    ):
        """Use `load_dataset`. `counts`: `pair_counts` and `element_counts`."""
        self.store, self.names, self.fit, self.target, self.ready = store, list(names), fit, target, ready
        self.n_ready = len(ready.names) if ready is not None else 0
        self.pair_counts, self.element_counts = counts

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, numbers: Sequence[int] | np.ndarray) -> TrainingBatch:
        """Return distinct samples as one batch, in the order of their numbers."""
        numbers = np.asarray(numbers)
        if self.ready is not None and (numbers < self.n_ready).all():
            return self.ready.pick(numbers)
        samples = [self.store[self.names[k]] for k in numbers]
        targets = compute_targets(self.fit.space, samples, self.target)
        return normalize_targets(targets, self.fit).pick(np.arange(len(numbers)))


def load_dataset(
    store: Store,
    names: Sequence[str],
    fit: Fit,
    target: TargetSettings,
    memory: int = MEMORY,
    targets: SampleTargets | None = None,
) -> Dataset:
    """Normalize the samples `names`; the first ones, up to `memory` bytes, are kept.

    A regression leaves less of a sample that it was fitted to than of a new one. With leave-one-out predictions in the fit the
    network learns what it will meet; all samples are kept then. `targets`: those of the samples, where they are there already.
    """
    targets = load_targets(store, names, target, space=fit.space) if targets is None else targets
    ready = normalize_targets(targets, fit, None if fit.leave_one_out is None else fit.leave_one_out.values)
    sizes = ready.pair_counts.sum(1), ready.n_elements
    if fit.leave_one_out is None and ready.n_bytes > memory:
        cumulated = np.cumsum(ready.n_elements) * (ready.n_bytes / ready.n_elements.sum())
        kept = int((cumulated <= memory).sum())
        ready = ready.first(kept) if kept else None
    return Dataset(store, names, fit, target, ready, sizes)


def chunks(store: Store, names: Sequence[str]) -> Iterator[list[Sample]]:
    """Yield the samples in lists of about `PAIRS_AT_ONCE` pairs."""
    samples, n_pairs = [], 0
    for name in names:
        samples.append(store[name])
        n_pairs += len(samples[-1].hamiltonian.pairs)
        if n_pairs >= PAIRS_AT_ONCE:
            yield samples
            samples, n_pairs = [], 0
    if samples:
        yield samples


def best_shift(whole: ConcatenatedGraph, matrix: BlockMatrix, difference: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the c of each sample (n,) that minimizes the 2-norm of `difference - c s` over all elements of its matrix."""
    along, size = (element_sums(whole, matrix, np.real(s.conj() * x).sum(0)) for x in (difference, s))
    return along / size


Predict = Callable[[GraphBatch], Coefficients | None]
"""Normalized coefficients of a batch; None for the regression alone."""


class ValidationSet:
    """Samples whose DFT matrix a model is compared with.

    With `shift_blind`, errors are taken after the c S has been added to each prediction that brings it nearest (least squares).
    """

    def __init__(self, store: Store, names: Sequence[str], fit: Fit, target: TargetSettings, shift_blind: bool = False):
        self.fit, self.names = fit, list(names)
        self.parts: list[SampleTargets] = []
        self.overlaps: list[np.ndarray | None] = []
        for samples in chunks(store, names):
            part = compute_targets(fit.space, samples, target)
            overlaps = [target.operator(sample, "overlap") for sample in samples] if shift_blind else None
            self.parts.append(part)
            self.overlaps.append(None if overlaps is None else part.concatenated.values(overlaps))
        self.regression = [fit.values(part) for part in self.parts]
        self.scales = [fit.normalizer.scales(part.concatenated.oriented) for part in self.parts]

    def mae(self, predict: Predict) -> float:
        """Return the mean over samples of `errors`, in eV."""
        return float(self.errors(predict).mean())

    def errors(self, predict: Predict) -> np.ndarray:
        """Return the mean |H_predicted - H_DFT| of each sample (n,) in eV, over all elements of its matrix."""
        return np.concatenate([self._errors(k, predict) for k in range(len(self.parts))])

    def matrix(self, k: int, outputs: Coefficients | None) -> BlockMatrix:
        """Return the predicted matrix of part k in eV, from normalized coefficients."""
        return assemble(self.fit.space, self.parts[k].concatenated, outputs, self.regression[k].values, self.scales[k])

    def _errors(self, k: int, predict: Predict) -> np.ndarray:
        part, s = self.parts[k], self.overlaps[k]
        whole, predicted = part.concatenated, self.matrix(k, predict(part.batch))
        difference = predicted.values - part.target.values
        if s is not None:
            difference = difference - whole.per_value(best_shift(whole, predicted, difference, s), predicted) * s
        error = absolute(difference).sum(0)
        return element_sums(whole, predicted, error) / n_elements(whole, predicted)
