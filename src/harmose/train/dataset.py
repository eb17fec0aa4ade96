"""From stored samples to what a network trains on: graphs, normalised targets, and the scales of the loss.

Many samples are brought into coefficients at once, as one graph of unconnected parts, in float64; the baseline is
subtracted, the rest divided by its scales, and only then rounded to float32. `prepare` and `restore` are inverses:

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
from harmose.kernel_regression.fit import Training, fit_baseline
from harmose.kernel_regression.model import Baseline
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients, TargetSpace, map_coefficients, to_matrix
from harmose.representation.concatenation import (
    Joined,
    Measured,
    Target,
    element_sums,
    measure,
    n_elements,
    restore,
    target_space,
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
class Prepared:
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

    def first(self, n: int) -> "Prepared":
        """The first n samples."""
        chosen = self.pick(np.arange(n))
        counts = self.pair_counts[:n], self.atom_counts[:n], self.n_elements[:n]
        return Prepared(chosen.names, chosen.graph, chosen.targets, chosen.scales, *counts)

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


def prepare(measured: Measured, baseline: Baseline, values: Coefficients | None = None) -> Prepared:
    """Normalised in float64, then rounded to float32; `values` stand in for those of the baseline."""
    joined, oriented = measured.joined, measured.joined.oriented
    values, scales = values or baseline.values(oriented, measured.electrons), baseline.scales(oriented)
    targets = map_coefficients(lambda c, v, s: ((c - v) / s).float(), measured.coefficients, values, scales)
    return Prepared(
        measured.names,
        measured.batch,
        targets,
        map_coefficients(lambda s: s.float(), scales),
        joined.pair_counts,
        joined.atom_counts,
        n_elements(joined, measured.target),
    )


class Dataset:
    """Samples of a store by number; `batch(numbers)` gives a `TrainingBatch`.

    The first ones are kept ready in memory, up to `memory` bytes; a batch with any other is prepared from the store.
    """

    def __init__(self, store: Store, names: Sequence[str], baseline: Baseline, target: Target, ready: Prepared | None):
        """Use `load_dataset`."""
        self.store, self.names, self.baseline, self.target, self.ready = store, list(names), baseline, target, ready
        self.n_ready = len(ready.names) if ready is not None else 0

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, numbers: Sequence[int] | np.ndarray) -> TrainingBatch:
        """Distinct samples as one batch, in the order given."""
        numbers = np.asarray(numbers)
        if self.ready is not None and (numbers < self.n_ready).all():
            return self.ready.pick(numbers)
        samples = [self.store[self.names[k]] for k in numbers]
        return prepare(measure(self.baseline.space, samples, self.target), self.baseline).pick(np.arange(len(numbers)))


Advance = Callable[[int], None]
"""Told how many samples have been dealt with since it was last called."""


def _quiet(_: float) -> None:
    pass


def measured_samples(store: Store, names: Sequence[str], target: Target, advance: Advance = _quiet) -> Measured:
    """The samples `names` at once, as `fit` wants them; `FormatError` for none."""
    if not names:
        raise FormatError(f"{store.path}: expected training samples, got none")
    samples = []
    for name in names:
        samples.append(store[name])
        advance(1)
    return measure(target_space(store.basis, store.spin), samples, target)


def fit(
    space: TargetSpace,
    measured: Measured,
    many_body: bool = True,
    fitting: Callable[[float], None] = _quiet,
    references: int | None = None,
) -> tuple[Baseline, Coefficients]:
    """The closed-form part of stage 1, fitted to these samples, and what it says of each without having seen it.

    Geometries of one molecule are left out together where there are many molecules. `fitting` is told which fraction is done;
    `references`: at most so many reference edges of each kind of pair, 0 for three-centre terms alone.
    """
    joined, diverse = measured.joined, measured.n_formulas >= DIVERSE
    owner = measured.groups if diverse else np.arange(joined.n_samples)
    parts = joined.oriented, measured.coefficients, owner[joined.pair_sample], owner[joined.atom_sample]
    training = Training(space, *parts, diverse, measured.electrons, references)
    return fit_baseline(training, many_body, advance=fitting)


def fitted_baseline(
    store: Store,
    names: Sequence[str],
    target: Target,
    many_body: bool = True,
    advance: Advance = _quiet,
    fitting: Callable[[float], None] = _quiet,
) -> tuple[Baseline, Coefficients]:
    """`fit` to the samples `names`."""
    space = target_space(store.basis, store.spin)
    return fit(space, measured_samples(store, names, target, advance), many_body, fitting)


def load_dataset(
    store: Store,
    names: Sequence[str],
    baseline: Baseline,
    target: Target,
    memory: int = MEMORY,
    unseen: Coefficients | None = None,
    measured: Measured | None = None,
) -> Dataset:
    """The samples `names`, normalised by `baseline`; the first ones, up to `memory` bytes, are kept.

    A regression that has seen a sample leaves less of it than of a new one. With `unseen`, its predictions of the samples
    without them (`fit`), the network learns what it will meet; all samples are kept then. `measured`: the same samples,
    where they have been measured already.
    """
    measured = measured_samples(store, names, target) if measured is None else measured
    ready = prepare(measured, baseline, unseen)
    if unseen is None and ready.n_bytes > memory:
        sizes = np.cumsum(ready.n_elements) * (ready.n_bytes / ready.n_elements.sum())
        kept = int((sizes <= memory).sum())
        ready = ready.first(kept) if kept else None
    return Dataset(store, names, baseline, target, ready)


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


def best_shift(joined: Joined, matrix: BlockMatrix, difference: np.ndarray, s: np.ndarray) -> np.ndarray:
    """c of each sample (n,) for which `difference - c s` is smallest, over all elements of its matrix."""
    along, size = (element_sums(joined, matrix, np.real(s.conj() * x).sum(0)) for x in (difference, s))
    return along / size


class Reference:
    """Samples whose DFT matrix a network is compared with: `mae(network)` over all elements of the full matrices.

    With `shift_blind` after the c S has been added to each prediction that brings it nearest (least squares).
    """

    def __init__(
        self, store: Store, names: Sequence[str], baseline: Baseline, target: Target, shift_blind: bool = False
    ):
        self.baseline, self.names, self.parts, self.overlaps = baseline, list(names), [], []
        for samples in chunks(store, names):
            part = measure(baseline.space, samples, target)
            overlaps = [target.operator(sample, "overlap") for sample in samples] if shift_blind else None
            self.parts.append(part)
            self.overlaps.append(None if overlaps is None else part.joined.values(overlaps))
        self.closed_form = [
            (baseline.values(p.joined.oriented, p.electrons), baseline.scales(p.joined.oriented)) for p in self.parts
        ]

    def mae(self, predict: Callable[[GraphBatch], Coefficients]) -> float:
        """Mean over samples of `errors`, in eV."""
        return float(self.errors(predict).mean())

    def errors(self, predict: Callable[[GraphBatch], Coefficients]) -> np.ndarray:
        """mean |H_predicted - H_DFT| of each sample in eV (n,); `predict` gives normalised coefficients."""
        return np.concatenate([self._errors(k, predict) for k in range(len(self.parts))])

    def _errors(self, k: int, predict: Callable[[GraphBatch], Coefficients]) -> np.ndarray:
        part, (values, scales) = self.parts[k], self.closed_form[k]
        space, joined = self.baseline.space, part.joined
        restored = restore(predict(part.batch), values, scales)
        predicted = to_matrix(space, restored, joined.graph, joined.oriented)
        difference, s = predicted.values - part.target.values, self.overlaps[k]
        if s is not None:
            difference = difference - joined.of_values(best_shift(joined, predicted, difference, s), predicted) * s
        error = absolute(difference).sum(0)
        return element_sums(joined, predicted, error) / n_elements(joined, predicted)
