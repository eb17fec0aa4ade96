"""Training data: graphs, normalized targets, and the scales of the loss.

Many samples are brought into coefficients at once, as one graph of unconnected parts, in float64; the regression is
subtracted, the rest divided by the scales of the normalizer, and only then rounded to float32:

    normalized = (coefficients - offsets) / scales
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.kernel_regression.model import FadedValues
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
from harmose.representation.normalizer import ScaleTable, normalize
from harmose.spin import absolute
from harmose.train.fit import Fit, load_targets

PAIRS_AT_ONCE = 4000
"""Pairs whose blocks are brought into frames together: enough to hide the cost of a call, few enough for the cache."""

MEMORY = 2 * 10**9
"""Bytes that the samples of a training and the fit of their regression take in memory. Larger sets are read in parts."""


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

    Attributes:
        names: names of the samples.
        graph: their graphs as one.
        targets: normalized; residuals in eV where `scales` is a table, and are normalized when they are picked.
        scales: scales of all blocks, or a table of scales.
        pair_counts: number of pairs of each sample in each group (n, n_groups).
        atom_counts: number of atoms of each sample of each shell type (n, n_types).
        n_elements: number of elements of each sample's matrix (n,).
    """

    names: tuple[str, ...]
    graph: GraphBatch
    targets: Coefficients
    scales: Coefficients | ScaleTable
    pair_counts: np.ndarray
    atom_counts: np.ndarray
    n_elements: np.ndarray

    def pick(self, chosen: np.ndarray) -> TrainingBatch:
        """The samples `chosen` (distinct numbers) as one batch; a few dozen index operations, whatever their size."""
        chosen = np.asarray(chosen)
        g = self.graph
        atoms, pairs = self._atom_places.rows(chosen), self._pair_places.rows(chosen)
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
        targets = _pick_coefficients(self.targets, *rows)
        if isinstance(self.scales, ScaleTable):
            scales = self.scales.scales(batch.species, batch.pair_type, batch.distance, targets)
            targets = map_coefficients(torch.div, targets, scales)
        else:
            scales = _pick_coefficients(self.scales, *rows)
        names = tuple(self.names[k] for k in chosen)
        return TrainingBatch(names, batch, targets, scales, int(self.n_elements[chosen].sum()))

    @cached_property
    def _atom_places(self) -> "_Places":
        return _Places(self.atom_counts)

    @cached_property
    def _pair_places(self) -> "_Places":
        return _Places(self.pair_counts)

    def _local_rows(self, atoms: list[Tensor], pairs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Rows counted from the start of their own group (pairs) or shell type (atoms)."""
        return self._pair_places.local(pairs), self._atom_places.local(atoms)


_OF_PAIRS = ("pair_type", "vectors", "distance", "reach", "rotation")


class _Places:
    """Rows of samples that are stored group after group, with `counts` (n_samples, n_groups) rows each."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts
        self.ends = np.cumsum(counts.T.ravel()).reshape(counts.T.shape)
        self.starts = np.concatenate([[0], np.cumsum(counts.sum(0))])[:-1]

    def rows(self, chosen: np.ndarray) -> list[Tensor]:
        """Return the rows of the chosen samples in each group."""
        sizes = self.counts[chosen].T
        starts = self.ends[:, chosen] - sizes
        before = np.cumsum(sizes, axis=1) - sizes
        return [
            torch.as_tensor(np.repeat(start - offset, size) + np.arange(size.sum()))
            for start, offset, size in zip(starts, before, sizes)
        ]

    def local(self, rows: list[Tensor]) -> list[Tensor]:
        """Return rows of each group, counted from the start of the group."""
        return [r - int(start) for r, start in zip(rows, self.starts)]


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
    """Training samples by number: `batch(numbers)` gives a `TrainingBatch`.

    Attributes:
        store: the store that they are from.
        names: their names.
        fit: regression, normalizer and training domain.
        target: what is learned.
        ready: the normalized samples, in memory or in mapped files.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        fit: Fit,
        target: TargetSettings,
        ready: NormalizedSamples,
        left_out: "LeftOutPredictions | None" = None,
    ):
        self.store, self.names, self.fit, self.target, self.ready = store, list(names), fit, target, ready
        self.left_out = left_out

    def __len__(self) -> int:
        return len(self.names)

    @property
    def pair_counts(self) -> np.ndarray:
        """Number of pairs of each sample (n,)."""
        return self.ready.pair_counts.sum(1)

    @property
    def element_counts(self) -> np.ndarray:
        """Number of elements of the matrix of each sample (n,)."""
        return self.ready.n_elements

    def batch(self, numbers: Sequence[int] | np.ndarray) -> TrainingBatch:
        """Return distinct samples as one batch, in the order of their numbers."""
        return self.ready.pick(np.asarray(numbers))


LeftOutPredictions = Callable[[np.ndarray, SampleTargets], FadedValues]
"""Predictions of some training samples, given by number and by their targets, by a regression fitted to the others."""


def load_dataset(
    store: Store,
    names: Sequence[str],
    fit: Fit,
    target: TargetSettings,
    targets: SampleTargets | None = None,
) -> Dataset:
    """Normalize the samples `names`, and keep them in memory.

    A regression leaves less of a sample that it was fitted to than of a new one. With leave-one-out predictions in the fit the
    network learns what it will meet. `targets`: those of the samples, where they are there already.
    """
    targets = load_targets(store, names, target, space=fit.space) if targets is None else targets
    left_out = fit.leave_one_out
    ready = normalize_targets(targets, fit, None if left_out is None else left_out.values)
    return Dataset(store, names, fit, target, ready, None if left_out is None else _picked(left_out, ready))


def _picked(left_out: FadedValues, samples: NormalizedSamples) -> LeftOutPredictions:
    """Return what gives the predictions of some of the samples."""
    n_atoms, n_pairs = samples.atom_counts.sum(1), samples.pair_counts.sum(1)
    atoms, pairs = (_Places(n[:, None]) for n in (n_atoms, n_pairs))

    def pick(chosen: np.ndarray, _: SampleTargets) -> FadedValues:
        places = samples._pair_places, samples._atom_places
        values = _pick_coefficients(left_out.values, *(p.local(p.rows(chosen)) for p in places))
        blocks = np.concatenate([atoms.rows(chosen)[0].numpy(), n_atoms.sum() + pairs.rows(chosen)[0].numpy()])
        return FadedValues(values, left_out.weights[blocks], left_out.std[blocks])

    return pick


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
