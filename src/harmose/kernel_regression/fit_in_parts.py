"""The fit of the regression to a training set that does not fit into memory, part after part.

A part of the training set that was chosen for its diversity, the sample set, is fitted as a whole (`fit`): it decides about
sparse points, hyperparameters and fades. Then all parts are read twice for a few types at a time: once for the normal equations,
once for the predictions of each sample by a fit without it (`refit`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from operator import methodcaller
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.correction import relative_std
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.fading import Fade
from harmose.kernel_regression.fit import (
    Advance,
    Regressions,
    faded,
    fading_atoms,
    fit_atoms,
    fit_pairs,
    ignore,
)
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit, PairRows
from harmose.kernel_regression.refit import AtomRefit, AtomTargets, PairRefit
from harmose.kernel_regression.training import Training


class LeftOut(NamedTuple):
    """Predictions of some blocks of a part by fits without their samples.

    Attributes:
        group: group of the pairs, or shell type of the atoms.
        rows: rows of the blocks among those of their group or shell type (n,).
        blocks: numbers of the blocks: atoms, and then pairs, in the order of the part's graph (n,).
        values: coefficients in eV (n, S, K).
        weights, std: as in `FadedValues` (n,).
    """

    group: tuple[int, int] | int
    rows: np.ndarray
    blocks: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Parts:
    """A training set in parts.

    Attributes:
        sample_set: samples that are fitted as a whole first; they are in the parts, too.
        parts: all samples, read when they are needed.
        n_pairs: number of all pairs by pair type.
        n_atoms: number of all atoms by species.
    """

    sample_set: Training
    parts: Sequence[Training]
    n_pairs: Mapping[int, int]
    n_atoms: Mapping[int, int]


def fit_in_parts(
    data: Parts,
    write: Callable[[int, LeftOut], None],
    kind: str = "kernel",
    known_density: Mapping[int, np.ndarray] | None = None,
    seed: int = 0,
    n_threads: int = 1,
    advance: Advance = ignore,
) -> KernelRegression:
    """Fit the regression, or with the kind "correction" what a model leaves (`correction`), to a training set in parts.

    Args:
        data: the training set.
        write: takes the number of a part and predictions of its blocks by fits without their samples; every block once.
        kind: "kernel", "pairs" or "correction".
        known_density: mean density by species of the regression that is corrected.
        seed: of the draw of sparse points, and of pairs where there are very many.
        n_threads: number of threads.
        advance: called with the fraction that is done.
    """
    first = data.sample_set
    graph = Neighbourhoods(first.space, first.oriented, first.charges, known_density, first.settings)
    if first.charges is not None and known_density is None:
        graph.mean_density = mean_density(graph, first.charges)
    regression, generator = Regressions(), np.random.default_rng(seed)
    progress = _Progress(data, advance)
    with ThreadPoolExecutor(n_threads) as pool, threadpool_limits(1 if n_threads > 1 else None):
        for some in _together(_tasks(data, graph, regression, kind, generator), first.settings.refit_bytes):
            for _, part in _read(data, graph, seed):
                list(pool.map(methodcaller("add", *part), some))
                progress.read(some)
            for task in some:
                task.solve(regression)
            for number, part in _read(data, graph, seed):
                for left_out in chain.from_iterable(pool.map(methodcaller("left_out", *part), some)):
                    write(number, left_out)
                progress.read(some)
            some.clear()  # before the next fits take their memory
            del task
    return KernelRegression(first.space, mean_density=graph.mean_density, **vars(regression))


PartOfData = tuple[Training, Neighbourhoods, tuple[int, ...]]
"""A part of the training set, its neighbourhoods, and the seed of what is drawn from it."""


def _read(data: Parts, first: Neighbourhoods, seed: int) -> Iterator[tuple[int, PartOfData]]:
    """Yield the number of each part, and the part."""
    for number in range(len(data.parts)):
        part = data.parts[number]
        graph = Neighbourhoods(part.space, part.oriented, part.charges, first.mean_density, part.settings)
        graph.prepare()
        yield number, (part, graph, (seed, number))


class _Progress:
    """Fraction that is done: blocks that were read, twice each."""

    def __init__(self, data: Parts, advance: Advance) -> None:
        self.data, self.advance, self.done = data, advance, 0.0
        self.total = 2 * len(data.parts) * max(sum(data.n_pairs.values()) + 10 * sum(data.n_atoms.values()), 1)

    def read(self, tasks: "Sequence[_PairTask | _AtomTask]") -> None:
        """Count the blocks of some tasks in one part."""
        self.done += sum(task.n_blocks for task in tasks)
        self.advance(min(self.done / self.total, 1.0))


def _tasks(
    data: Parts,
    graph: Neighbourhoods,
    regression: Regressions,
    kind: str,
    generator: np.random.Generator,
) -> "Iterator[_PairTask | _AtomTask]":
    """Yield the fits to the sample set, one pair type or species after the other, made when they are asked for."""
    first, space = data.sample_set, data.sample_set.space
    for group, members in first.oriented.pairs.items():
        for pair_type, rows in rows_by_key(first.oriented.pair_type[members]):
            y = first.coefficients.pairs[group].numpy()[rows]
            fit = PairFit(graph, first, pair_type, space.pair_layout(group), members[rows], y)
            yield _PairTask(data, group, pair_type, kind, fit, regression, generator)
    for shell_type, atoms in first.oriented.atoms.items():
        for species, rows in rows_by_key(first.oriented.species[atoms]):
            y = first.coefficients.onsite[shell_type].numpy()[rows]
            fit = AtomFit(graph, first, shell_type, atoms[rows], y)
            yield _AtomTask(data, shell_type, species, kind, fit, regression, generator)


def _together(tasks: "Iterator[_PairTask | _AtomTask]", enough: int) -> "Iterator[list[_PairTask | _AtomTask]]":
    """Yield lists of tasks whose matrices have `enough` bytes together; the next task is made when they are done."""
    some: list[_PairTask | _AtomTask] = []
    for task in tasks:
        some.append(task)
        del task
        if sum(x.n_bytes for x in some) >= enough:
            yield some
            some = []
    if some:
        yield some


class _PairTask:
    """Regressions of one pair type, the simpler one first, with their fades."""

    def __init__(
        self,
        data: Parts,
        group: tuple[int, int],
        pair_type: int,
        kind: str,
        fit: PairFit,
        regression: Regressions,
        generator: np.random.Generator,
    ) -> None:
        self.group, self.pair_type, self.kind, self.n_blocks = group, pair_type, kind, data.n_pairs[pair_type]
        found = fit_pairs(regression, fit, pair_type, kind, generator)
        share = fit.settings.refit_pairs / max(self.n_blocks, 1)
        self.steps = [(PairRefit(x, share, fit.robust, fit.settings), fade) for x, fade in found.steps]

    @property
    def n_bytes(self) -> int:
        return sum(refit.n_bytes for refit, _ in self.steps)

    def _rows(self, part: Training, graph: Neighbourhoods) -> tuple[np.ndarray, np.ndarray, PairRows]:
        """Rows of the pairs in their group, their numbers, and the pairs with their targets."""
        members = part.oriented.pairs[self.group]
        rows = np.flatnonzero(part.oriented.pair_type[members] == self.pair_type)
        y, pairs = part.coefficients.pairs[self.group].numpy()[rows], members[rows]
        layout = part.space.pair_layout(self.group)
        return rows, pairs, PairRows.of(graph, self.pair_type, layout, pairs, y, part.pair_sample[pairs])

    def add(self, part: Training, graph: Neighbourhoods, seed: tuple[int, ...]) -> None:
        _, _, targets = self._rows(part, graph)
        for refit, _ in self.steps if targets.n_pairs else ():
            refit.add(graph, targets, (*seed, self.pair_type))

    def solve(self, regression: Regressions) -> None:
        for refit, _ in self.steps:
            refit.solve()
        *simpler, (last, _) = self.steps
        regression.pairs[self.pair_type] = last.regression
        for refit, _ in simpler:
            regression.distances[self.pair_type] = refit.regression

    def left_out(self, part: Training, graph: Neighbourhoods, seed: tuple[int, ...]) -> list[LeftOut]:
        rows, pairs, targets = self._rows(part, graph)
        if not len(rows):
            return []
        predicted, fade, variance = (
            np.zeros((len(rows), *targets.targets.shape[1:])),
            self.steps[0][1],
            np.zeros(len(rows)),
        )
        for refit, fade in self.steps:
            values, variance = refit.left_out(graph, targets, (*seed, self.pair_type))
            predicted = faded(predicted, values, fade, variance)
        std = _std(self.kind, self.pair_type, fade, variance)
        blocks = len(part.oriented.species) + pairs
        return [LeftOut(self.group, rows, blocks, predicted, fade.weight(variance), std)]


class _AtomTask:
    """The regression of one species, with its fade."""

    def __init__(
        self,
        data: Parts,
        shell_type: int,
        species: int,
        kind: str,
        fit: AtomFit,
        regression: Regressions,
        generator: np.random.Generator,
    ) -> None:
        self.shell_type, self.species, self.kind, self.n_blocks = shell_type, species, kind, 10 * data.n_atoms[species]
        step = fit_atoms(regression, fit, species, kind, generator).step
        share = fit.settings.refit_atoms / max(data.n_atoms[species], 1)
        self.step = None if step is None else (AtomRefit(step[0], share, fit.robust, fit.settings), step[1])

    @property
    def n_bytes(self) -> int:
        return 0 if self.step is None else self.step[0].n_bytes

    def _rows(self, part: Training) -> tuple[np.ndarray, AtomTargets]:
        """Rows of the atoms in their shell type, and the atoms with their targets."""
        atoms = part.oriented.atoms[self.shell_type]
        rows = np.flatnonzero(part.oriented.species[atoms] == self.species)
        y, layout = part.coefficients.onsite[self.shell_type].numpy()[rows], part.space.onsite_layout(self.shell_type)
        return rows, AtomTargets(atoms[rows], y, part.atom_sample[atoms[rows]], layout)

    def add(self, part: Training, graph: Neighbourhoods, seed: tuple[int, ...]) -> None:
        _, targets = self._rows(part)
        if self.step is not None and len(targets.atoms):
            self.step[0].add(graph, targets, (*seed, self.species))

    def solve(self, regression: Regressions) -> None:
        if self.step is not None:
            self.step[0].solve()
            regression.onsite[self.species] = fading_atoms(self.step[0].regression, self.kind)

    def left_out(self, part: Training, graph: Neighbourhoods, seed: tuple[int, ...]) -> list[LeftOut]:
        rows, targets = self._rows(part)
        if not len(rows):
            return []
        n, blocks = len(rows), targets.atoms
        if self.step is None:
            return [LeftOut(self.shell_type, rows, blocks, np.zeros_like(targets.targets), np.ones(n), np.ones(n))]
        refit, fade = self.step
        values, variance = refit.left_out(graph, targets, (*seed, self.species))
        mean = fading_atoms(refit.regression, self.kind).mean_values(n, targets.layout)
        predicted, std = faded(mean, values, fade, variance), _std(self.kind, self.species, fade, variance)
        return [LeftOut(self.shell_type, rows, blocks, predicted, fade.weight(variance), std)]


def _std(kind: str, block: int, fade: Fade, variance: np.ndarray) -> np.ndarray:
    """Standard deviations (n,) of blocks of one kind, in the units of `FadedValues`."""
    std = fade.std(variance)
    return relative_std(std, np.full(len(std), block), {block: fade}) if kind == "correction" else std
