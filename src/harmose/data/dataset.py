"""From stored samples to what a network trains on: graphs, normalised targets, and the scales of the loss.

Many samples are brought into coefficients at once, as one graph of unconnected parts, in float64; the baseline is
subtracted, the rest divided by its scales, and only then rounded to float32. `prepare` and `restore` are inverses:

    normalised = (coefficients - baseline values) / baseline scales
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from harmose.basis import BasisSet
from harmose.batch import GraphBatch, collate, graph_batch
from harmose.blocks import BlockMatrix
from harmose.closed_form.baseline import Baseline
from harmose.closed_form.fit import Training, fit_baseline
from harmose.data.store import Store
from harmose.errors import FormatError, MatrixError
from harmose.graph import Graph, build_graph
from harmose.sample import Sample, in_fermi_gauge
from harmose.spin import Spin, absolute, magnetic_part
from harmose.targets import Coefficients, OrientedPairs, TargetSpace, to_coefficients, to_matrix

PAIRS_AT_ONCE = 4000
"""Pairs whose blocks are brought into frames together: enough to hide the cost of a call, few enough for the cache."""

MEMORY = 2 * 10**9
"""Bytes of prepared samples that are kept."""


MAGNETIC = 1e-3
"""eV: a spinor H whose part that is odd under time reversal is smaller has none, but for rounding in the calculation."""


def target_space(basis: BasisSet, spin: Spin = Spin.NONE) -> TargetSpace:
    """All degrees that blocks of this basis set couple to: L = 0 ... 2 l_max, and one more with vectors of spin."""
    return TargetSpace(basis, 2 * basis.l_max + max(channel.degree for channel in spin.channels), spin)


@dataclass(frozen=True)
class Joined:
    """Several structures as one graph of unconnected parts. atom_sample (N,), pair_sample (P,): whose each one is."""

    graph: Graph
    oriented: OrientedPairs
    atom_sample: np.ndarray
    pair_sample: np.ndarray
    n_samples: int

    @property
    def pair_counts(self) -> np.ndarray:
        """Pairs of each sample in each group (n_samples, n_groups)."""
        return self._counts(self.pair_sample, self.oriented.members.values())

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of each sample of each signature (n_samples, n_signatures)."""
        return self._counts(self.atom_sample, self.oriented.atoms.values())

    def _counts(self, owner: np.ndarray, parts: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([np.bincount(owner[part], minlength=self.n_samples) for part in parts], axis=1)

    def values(self, operators: Sequence[BlockMatrix]) -> np.ndarray:
        """Values (n_components, size) of one operator of each structure, in the joined graph's block order."""
        parts = [(m.values, m.offsets[len(m.numbers)]) for m in operators]
        return np.concatenate([v[:, :n] for v, n in parts] + [v[:, n:] for v, n in parts], axis=1)

    def matrix(self, space: TargetSpace, values: np.ndarray) -> BlockMatrix:
        """The joined operator."""
        return BlockMatrix(space.basis, self.graph.numbers, self.graph.pairs, values, space.spin)

    def split(self, matrix: BlockMatrix, graphs: Sequence[Graph]) -> list[BlockMatrix]:
        """The inverse of `values`: the joined operator's blocks of each structure."""
        n_atoms, n_pairs = (np.cumsum([0, *sizes]) for sizes in zip(*((g.n_atoms, g.n_pairs) for g in graphs)))
        onsite, pairs, v = matrix.offsets[n_atoms], matrix.offsets[len(self.atom_sample) + n_pairs], matrix.values
        return [
            BlockMatrix(matrix.basis, g.numbers, g.pairs, np.concatenate([v[:, a:b], v[:, c:d]], axis=1), matrix.spin)
            for g, a, b, c, d in zip(graphs, onsite, onsite[1:], pairs, pairs[1:])
        ]


def join(space: TargetSpace, graphs: Sequence[Graph]) -> Joined:
    """Atoms of one structure after the other, pairs too; orientations of `space`."""
    starts = np.cumsum([0, *(g.n_atoms for g in graphs)])
    shift = np.array([1, 1, 0, 0, 0])
    graph = Graph(
        np.concatenate([g.numbers for g in graphs]),
        np.concatenate([g.pairs + start * shift for g, start in zip(graphs, starts)]),
        np.concatenate([g.vectors for g in graphs]),
    )
    number = np.arange(len(graphs))
    atoms = np.repeat(number, [g.n_atoms for g in graphs])
    return Joined(graph, space.orient(graph), atoms, np.repeat(number, [g.n_pairs for g in graphs]), len(graphs))


@dataclass(frozen=True)
class Target:
    """What is learned of a sample: H, in the gauge in which its Fermi level is zero with `fermi`; less H0 with `prior`."""

    prior: bool = False
    fermi: bool = False

    def sample(self, sample: Sample) -> Sample:
        """The sample in the target's gauge."""
        return in_fermi_gauge(sample) if self.fermi else sample

    def of(self, sample: Sample) -> BlockMatrix:
        """`FormatError` for a sample without H0, S or Fermi level where it is needed."""
        h = self.sample(sample).hamiltonian
        if not self.prior:
            return h
        if sample.prior is None:
            raise FormatError(f"sample {sample.name}: expected a prior H0, which the configuration asks for, got none")
        return h - sample.prior


def sample_graph(sample: Sample, space: TargetSpace) -> Graph:
    """The sample's graph; `MatrixError` that names the sample unless its matrix is of the space's spin, has exactly the
    graph's blocks and, if of spinors, is symmetric under time reversal: structures say nothing of magnetic moments.

    A block that a code leaves out because it is zero has been filled in, or refused, by its reader (`io.assembly`).
    """
    graph = build_graph(sample.structure, space.basis)
    if sample.spin is not space.spin:
        raise MatrixError(f"sample {sample.name}: expected spin {space.spin}, got {sample.spin}")
    if space.spin is Spin.SPINOR:
        odd = float(np.abs(magnetic_part(sample.hamiltonian.values)).max(initial=0.0))
        if odd > MAGNETIC:
            raise MatrixError(f"sample {sample.name}: expected H symmetric under time reversal, as without magnetic "
                              f"moments, got a part of {odd:.2g} eV that is not")  # fmt: skip
    if np.array_equal(sample.hamiltonian.pairs, graph.pairs):
        return graph
    stored, known = (set(map(tuple, np.asarray(p).tolist())) for p in (sample.hamiltonian.pairs, graph.pairs))
    outside, missing = sorted(stored - known), sorted(known - stored)
    which = f"a block {outside[0]} outside the graph" if outside else f"no block {missing[0]} of the graph"
    raise MatrixError(f"sample {sample.name}: expected the blocks within the basis set's radii, got {which}")


@dataclass(frozen=True)
class Measured:
    """Samples in float64, before normalisation: `coefficients` of the target in eV, and the target itself."""

    names: tuple[str, ...]
    joined: Joined
    batch: GraphBatch
    coefficients: Coefficients
    target: BlockMatrix


def measure(space: TargetSpace, samples: Sequence[Sample], target: Target) -> Measured:
    """Graphs and coefficients of some samples at once."""
    joined = join(space, [sample_graph(sample, space) for sample in samples])
    matrix = joined.matrix(space, joined.values([target.of(sample) for sample in samples]))
    return Measured(
        tuple(sample.name for sample in samples),
        joined,
        graph_batch(space, joined.graph, joined.oriented),
        to_coefficients(space, matrix, joined.oriented),
        matrix,
    )


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
        tensors += [x for c in (self.targets, self.scales) for part in (c.pairs, c.onsite) for x in part.values()]
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
        batch = GraphBatch(
            species=g.species.index_select(0, atom_rows),
            sample=torch.as_tensor(np.repeat(owner, self.atom_counts[chosen].T.ravel())),
            first=place.index_select(0, g.first.index_select(0, pair_rows)),
            second=place.index_select(0, g.second.index_select(0, pair_rows)),
            **{n: getattr(g, n).index_select(0, pair_rows) for n in _OF_PAIRS},
            atom_counts=tuple(map(len, atoms)),
            pair_counts=tuple(map(len, pairs)),
            n_samples=len(chosen),
        )
        rows = self._local_rows(atoms, pairs)
        targets, scales = (_pick_coefficients(c, *rows) for c in (self.targets, self.scales))
        names = tuple(self.names[k] for k in chosen)
        return TrainingBatch(names, batch, targets, scales, int(self.n_elements[chosen].sum()))

    def _local_rows(self, atoms: list[Tensor], pairs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Rows counted from the start of their own group or signature."""
        starts = [np.concatenate([[0], np.cumsum(c.sum(0))]) for c in (self.pair_counts, self.atom_counts)]
        return [r - int(s) for r, s in zip(pairs, starts[0])], [r - int(s) for r, s in zip(atoms, starts[1])]


_OF_PAIRS = ("kind", "vectors", "distance", "reach", "natural", "unnatural")


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


def map_coefficients(function: Callable[..., Tensor], *c: Coefficients) -> Coefficients:
    """A function of tensors, applied to every group and signature."""
    return Coefficients(
        {g: function(*(x.pairs[g] for x in c)) for g in c[0].pairs},
        {s: function(*(x.onsite[s] for x in c)) for s in c[0].onsite},
    )


def prepare(measured: Measured, baseline: Baseline, values: Coefficients | None = None) -> Prepared:
    """Normalised in float64, then rounded to float32; `values` stand in for those of the baseline."""
    joined, oriented = measured.joined, measured.joined.oriented
    values, scales = values or baseline.values(oriented), baseline.scales(oriented)
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


def restore(baseline: Baseline, oriented: OrientedPairs, predicted: Coefficients) -> Coefficients:
    """A network's outputs in eV, float64: `predicted * scales + values`."""
    values, scales = baseline.values(oriented), baseline.scales(oriented)
    return map_coefficients(_restored, predicted, values, scales)


def _restored(predicted: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    return predicted.double().cpu() * scales + values


def n_elements(joined: Joined, matrix: BlockMatrix) -> np.ndarray:
    """Matrix elements of each sample, a block that stands for its reverse as well counted twice (n_samples,)."""
    return element_sums(joined, matrix, np.full(matrix.values.shape[1], len(matrix.values))).round().astype(np.int64)


def element_sums(joined: Joined, matrix: BlockMatrix, values: np.ndarray) -> np.ndarray:
    """Sum of `values` (size,) over the elements of each sample, off-site ones twice (n_samples,)."""
    owner = np.concatenate([joined.atom_sample, joined.pair_sample])
    weight = np.concatenate([np.ones(len(joined.atom_sample)), np.full(len(joined.pair_sample), 2.0)])
    sums = np.add.reduceat(values, matrix.offsets[:-1]) * weight
    return np.bincount(owner, weights=sums, minlength=joined.n_samples)


def concatenate(parts: Sequence[Prepared]) -> Prepared:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]

    def cat(coefficients: list[Coefficients]) -> Coefficients:
        return map_coefficients(lambda *x: torch.cat(x), *coefficients)

    return Prepared(
        tuple(name for p in parts for name in p.names),
        collate([p.graph for p in parts]),
        cat([p.targets for p in parts]),
        cat([p.scales for p in parts]),
        np.concatenate([p.pair_counts for p in parts]),
        np.concatenate([p.atom_counts for p in parts]),
        np.concatenate([p.n_elements for p in parts]),
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


def fitted_baseline(
    store: Store,
    names: Sequence[str],
    target: Target,
    many_body: bool = True,
    advance: Advance = _quiet,
    fitting: Callable[[float], None] = _quiet,
) -> tuple[Baseline, Coefficients]:
    """The closed-form part of stage 1, fitted to the samples `names`, and what it says of each without having seen it.

    `advance` is told of samples read, then `fitting` of the fraction that is fitted.
    """
    if not names:
        raise FormatError(f"{store.path}: expected training samples, got none")
    space, samples = target_space(store.basis, store.spin), []
    for name in names:
        samples.append(store[name])
        advance(1)
    measured = measure(space, samples, target)
    joined = measured.joined
    training = Training(space, joined.oriented, measured.coefficients, joined.pair_sample, joined.atom_sample)
    return fit_baseline(training, many_body, advance=fitting)


def load_dataset(
    store: Store,
    names: Sequence[str],
    baseline: Baseline,
    target: Target,
    memory: int = MEMORY,
    unseen: Coefficients | None = None,
) -> Dataset:
    """The samples `names`, normalised by `baseline`; the first ones, up to `memory` bytes, prepared now and kept.

    A regression that has seen a sample leaves less of it than of a new one. With `unseen`, its predictions of the samples
    without them (`fitted_baseline`), the network learns what it will meet; all samples are kept then.
    """
    if unseen is not None:
        measured = measure(baseline.space, [store[name] for name in names], target)
        return Dataset(store, names, baseline, target, prepare(measured, baseline, unseen))
    parts: list[Prepared] = []
    for samples in chunks(store, names):
        part = prepare(measure(baseline.space, samples, target), baseline)
        if part.n_bytes + sum(p.n_bytes for p in parts) > memory:
            break
        parts.append(part)
    return Dataset(store, names, baseline, target, concatenate(parts) if parts else None)


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


class Reference:
    """Samples whose DFT matrix a network is compared with: `mae(network)` over all elements of the full matrices."""

    def __init__(self, store: Store, names: Sequence[str], baseline: Baseline, target: Target):
        self.baseline, self.names = baseline, list(names)
        self.parts = [measure(baseline.space, samples, target) for samples in chunks(store, names)]
        self.closed_form = [(baseline.values(o), baseline.scales(o)) for o in (p.joined.oriented for p in self.parts)]

    def mae(self, predict: Callable[[GraphBatch], Coefficients]) -> float:
        """Mean over samples of mean |H_predicted - H_DFT| in eV; `predict` gives normalised coefficients."""
        return float(np.concatenate([self._errors(k, predict) for k in range(len(self.parts))]).mean())

    def _errors(self, k: int, predict: Callable[[GraphBatch], Coefficients]) -> np.ndarray:
        part, (values, scales) = self.parts[k], self.closed_form[k]
        space, joined = self.baseline.space, part.joined
        restored = map_coefficients(_restored, predict(part.batch), values, scales)
        predicted = to_matrix(space, restored, joined.graph, joined.oriented)
        error = absolute(predicted.values - part.target.values).sum(0)
        return element_sums(joined, predicted, error) / n_elements(joined, predicted)
