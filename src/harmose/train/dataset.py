"""From stored samples to what a network trains on: graphs, normalised targets, and the scales of the loss.

Many samples are brought into coefficients at once, as one graph of unconnected parts, in float64; the baseline is
subtracted, the rest divided by its scales, and only then rounded to float32. `normalize` and `denormalize` are inverses:

    normalised = (coefficients - baseline values) / baseline scales
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.kernel_regression.fit import Training, fit_regression
from harmose.kernel_regression.model import KernelRegression
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients, map_coefficients, to_matrix
from harmose.representation.concatenation import (
    ConcatenatedGraph,
    SampleTargets,
    TargetSettings,
    block_irreps,
    compute_targets,
    denormalize,
    element_sums,
    n_elements,
)
from harmose.spin import absolute

PAIRS_AT_ONCE = 4000
"""Pairs whose blocks are brought into frames together: enough to hide the cost of a call, few enough for the cache."""

DIVERSE = 10
"""So many formulas make a set of molecules, rather than of geometries of a few."""

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
        """Rows counted from the start of their own group or signature."""
        starts = [np.concatenate([[0], np.cumsum(c.sum(0))]) for c in (self.pair_counts, self.atom_counts)]
        return [r - int(s) for r, s in zip(pairs, starts[0])], [r - int(s) for r, s in zip(atoms, starts[1])]


_OF_PAIRS = ("kind", "vectors", "distance", "reach", "rotation")


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


def normalize(
    sample_targets: SampleTargets, regression: KernelRegression, values: Coefficients | None = None
) -> NormalizedSamples:
    """Normalised in float64, then rounded to float32; `values` stand in for those of the baseline."""
    concatenated, oriented = sample_targets.concatenated, sample_targets.concatenated.oriented
    values, scales = values or regression.values(oriented, sample_targets.charges), regression.scales(oriented)
    targets = map_coefficients(lambda c, v, s: ((c - v) / s).float(), sample_targets.coefficients, values, scales)
    return NormalizedSamples(
        sample_targets.names,
        sample_targets.batch,
        targets,
        map_coefficients(lambda s: s.float(), scales),
        concatenated.pair_counts,
        concatenated.atom_counts,
        n_elements(concatenated, sample_targets.target),
    )


class Dataset:
    """Samples of a store by number; `batch(numbers)` gives a `TrainingBatch`.

    The first ones are kept ready in memory, up to `memory` bytes; a batch with any other is prepared from the store.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        regression: KernelRegression,
        target: TargetSettings,
        ready: NormalizedSamples | None,
    ):
        """Use `load_dataset`."""
        self.store, self.names, self.regression, self.target, self.ready = store, list(names), regression, target, ready
        self.n_ready = len(ready.names) if ready is not None else 0

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, numbers: Sequence[int] | np.ndarray) -> TrainingBatch:
        """Distinct samples as one batch, in the order given."""
        numbers = np.asarray(numbers)
        if self.ready is not None and (numbers < self.n_ready).all():
            return self.ready.pick(numbers)
        samples = [self.store[self.names[k]] for k in numbers]
        return normalize(compute_targets(self.regression.space, samples, self.target), self.regression).pick(
            np.arange(len(numbers))
        )


Advance = Callable[[int], None]
"""Told how many samples have been dealt with since it was last called."""


def _quiet(_: float) -> None:
    pass


def load_targets(
    store: Store, names: Sequence[str], target: TargetSettings, advance: Advance = _quiet
) -> SampleTargets:
    """The samples `names` at once, as `fit` wants them; `FormatError` for none."""
    if not names:
        raise FormatError(f"{store.path}: expected training samples, got none")
    samples = []
    for name in names:
        samples.append(store[name])
        advance(1)
    return compute_targets(block_irreps(store.basis, store.spin), samples, target)


def fit(
    space: BlockIrreps,
    sample_targets: SampleTargets,
    many_body: bool = True,
    fitting: Callable[[float], None] = _quiet,
    references: int | None = None,
) -> tuple[KernelRegression, Coefficients]:
    """The closed-form part of stage 1, fitted to these samples, and what it says of each without having seen it.

    Geometries of one molecule are left out together where there are many molecules. `fitting` is told which fraction is done;
    `references`: at most so many reference edges of each kind of pair, 0 for three-centre terms alone.
    """
    concatenated, diverse = sample_targets.concatenated, sample_targets.n_formulas >= DIVERSE
    owner = sample_targets.groups if diverse else np.arange(concatenated.n_samples)
    parts = (
        concatenated.oriented,
        sample_targets.coefficients,
        owner[concatenated.pair_sample],
        owner[concatenated.atom_sample],
    )
    training = Training(space, *parts, diverse, sample_targets.charges, references)
    return fit_regression(training, many_body, advance=fitting)


def fit_to_store(
    store: Store,
    names: Sequence[str],
    target: TargetSettings,
    many_body: bool = True,
    advance: Advance = _quiet,
    fitting: Callable[[float], None] = _quiet,
) -> tuple[KernelRegression, Coefficients]:
    """`fit` to the samples `names`."""
    space = block_irreps(store.basis, store.spin)
    return fit(space, load_targets(store, names, target, advance), many_body, fitting)


def load_dataset(
    store: Store,
    names: Sequence[str],
    regression: KernelRegression,
    target: TargetSettings,
    memory: int = MEMORY,
    unseen: Coefficients | None = None,
    sample_targets: SampleTargets | None = None,
) -> Dataset:
    """The samples `names`, normalised by `regression`; the first ones, up to `memory` bytes, are kept.

    A regression that has seen a sample leaves less of it than of a new one. With `unseen`, its predictions of the samples
    without them (`fit`), the network learns what it will meet; all samples are kept then. `sample_targets`: the same samples,
    where they have been measured already.
    """
    sample_targets = load_targets(store, names, target) if sample_targets is None else sample_targets
    ready = normalize(sample_targets, regression, unseen)
    if unseen is None and ready.n_bytes > memory:
        sizes = np.cumsum(ready.n_elements) * (ready.n_bytes / ready.n_elements.sum())
        kept = int((sizes <= memory).sum())
        ready = ready.first(kept) if kept else None
    return Dataset(store, names, regression, target, ready)


def chunks(store: Store, names: Sequence[str]) -> Iterator[list[Sample]]:
    """The samples in lists of about `PAIRS_AT_ONCE` pairs."""
    samples, n_pairs = [], 0
    for name in names:
        samples.append(store[name])
        n_pairs += len(samples[-1].hamiltonian.pairs)
        if n_pairs >= PAIRS_AT_ONCE:
            yield samples
            samples, n_pairs = [], 0
    if samples:
        yield samples


def best_shift(
    concatenated: ConcatenatedGraph, matrix: BlockMatrix, difference: np.ndarray, s: np.ndarray
) -> np.ndarray:
    """c of each sample (n,) for which `difference - c s` is smallest, over all elements of its matrix."""
    along, size = (element_sums(concatenated, matrix, np.real(s.conj() * x).sum(0)) for x in (difference, s))
    return along / size


class ValidationSet:
    """Samples whose DFT matrix a network is compared with: `mae(network)` over all elements of the full matrices.

    With `shift_blind` after the c S has been added to each prediction that brings it nearest (least squares).
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        regression: KernelRegression,
        target: TargetSettings,
        shift_blind: bool = False,
    ):
        self.regression, self.names, self.parts, self.overlaps = regression, list(names), [], []
        for samples in chunks(store, names):
            part = compute_targets(regression.space, samples, target)
            overlaps = [target.operator(sample, "overlap") for sample in samples] if shift_blind else None
            self.parts.append(part)
            self.overlaps.append(None if overlaps is None else part.concatenated.values(overlaps))
        self.closed_form = [
            (regression.values(p.concatenated.oriented, p.charges), regression.scales(p.concatenated.oriented))
            for p in self.parts
        ]

    def mae(self, predict: Callable[[GraphBatch], Coefficients]) -> float:
        """Mean over samples of `errors`, in eV."""
        return float(self.errors(predict).mean())

    def errors(self, predict: Callable[[GraphBatch], Coefficients]) -> np.ndarray:
        """mean |H_predicted - H_DFT| of each sample in eV (n,); `predict` gives normalised coefficients."""
        return np.concatenate([self._errors(k, predict) for k in range(len(self.parts))])

    def _errors(self, k: int, predict: Callable[[GraphBatch], Coefficients]) -> np.ndarray:
        part, (values, scales) = self.parts[k], self.closed_form[k]
        space, concatenated = self.regression.space, part.concatenated
        restored = denormalize(predict(part.batch), values, scales)
        predicted = to_matrix(space, restored, concatenated.graph, concatenated.oriented)
        difference, s = predicted.values - part.target.values, self.overlaps[k]
        if s is not None:
            difference = (
                difference - concatenated.of_values(best_shift(concatenated, predicted, difference, s), predicted) * s
            )
        error = absolute(difference).sum(0)
        return element_sums(concatenated, predicted, error) / n_elements(concatenated, predicted)
