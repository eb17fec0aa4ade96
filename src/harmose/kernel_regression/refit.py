"""Fits to more rows than fit into memory: sums of their normal equations over the parts of a training set.

A fit to some of the samples (`pair_fit`, `atom_fit`) has chosen features, sparse points and penalties. Here the same features of
all samples are added up, part after part,

    X^T W X,    X^T W y

with the weights W of a robust fit from residuals of the first fit. The weights of the regression follow from these sums. In a
second pass over the parts each sample is predicted by the fit without it, by the formula in `ridge`. A sample with very many
rows is left out in pieces, and so is a group of samples that lies in several parts.

A regression that has far more rows than features gains nothing from still more of them: of a type with very many pairs, a share
is drawn. The others are predicted by the regression itself, which has not seen them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg.blas import dsyrk

from harmose.kernel_regression import atom_fit, pair_fit
from harmose.kernel_regression.atom_fit import AtomFitResult, AtomRows
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFitResult, PairRows
from harmose.kernel_regression.ridge import NOTHING, FeatureSpace, KernelFit, Solution
from harmose.kernel_regression.settings import RegressionSettings
from harmose.representation.layout import OnsiteLayout

Fitted = tuple[FeatureSpace, np.ndarray]
"""Features of a part, and its draws and weights side by side, as in `PairFeatures.regression`."""


class NormalEquations:
    """Normal equations of one part, F features and K components."""

    def __init__(self, fit: KernelFit, robust: bool) -> None:
        # Without its predictions, which take more memory than its weights.
        nothing = np.zeros((0, 0))
        self.fit = replace(fit, leave_one_out=nothing, variance=np.zeros(0), outermost=NOTHING)
        self.robust, self.n_rows, self.n_first = robust, 0, len(fit.leave_one_out)
        self.gram = np.zeros((fit.space.size, fit.space.size), order="F")
        self.moment = np.zeros(fit.weights.shape)
        self.solution: Solution | None = None

    @property
    def n_bytes(self) -> int:
        """Memory of the matrices."""
        return 2 * self.gram.nbytes

    def add(self, features: np.ndarray, y: np.ndarray, sample: np.ndarray) -> None:
        """Add rows (n, F) with targets (n, K), all those of the samples (n,)."""
        root = self._root(features, y, sample)
        x = features * root
        self.gram = dsyrk(1.0, x.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
        self.moment += x.T @ (y * root)
        self.n_rows += len(y)

    def solve(self) -> Fitted:
        """Solve the equations, and return the weights; the sums are freed."""
        gram = np.tril(self.gram)
        gram += np.tril(gram, -1).T
        self.gram = np.zeros((0, 0))
        penalty = self.fit.penalty
        if not len(self.fit.space.factor):  # penalties of linear terms alone are relative to the number of rows
            penalty = penalty * max(self.n_rows, 1) / max(self.n_first, 1)
        self.solution = Solution.of(gram, self.moment, penalty)
        return self.fit.space, np.concatenate([self.solution.draws(), self.solution.weights], 1)

    def left_out(
        self, features: np.ndarray, y: np.ndarray, sample: np.ndarray, solver_numbers: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (n, K) of rows by the fit without their samples, and their variances (n,)."""
        assert self.solution is not None
        root = self._root(features, y, sample)
        residual, variance = self.solution.left_out(features * root, y * root, sample, solver_numbers)
        return y - residual / root, variance / root[:, 0] ** 2

    def _root(self, features: np.ndarray, y: np.ndarray, sample: np.ndarray) -> np.ndarray:
        if not self.robust:
            return np.ones((len(y), 1))
        return np.sqrt(self.fit.robust(y - features @ self.fit.weights, sample))[:, None]


class PairRefit:
    """A fit to the pairs of one type that goes on with further samples.

    Attributes:
        features: the features, chosen by the first fit.
        regression: the regression; that of the first fit until the equations are solved.
    """

    def __init__(self, found: PairFitResult, share: float, robust: bool, settings: RegressionSettings) -> None:
        self.features, self.share, self.settings = found.features, share, settings
        self.equations = {part: NormalEquations(fit, robust) for part, fit in found.fits.items()}
        self.regression: PairRegression = found.regression

    @property
    def n_bytes(self) -> int:
        """Memory of the matrices."""
        return sum(x.n_bytes for x in self.equations.values())

    def add(self, graph: Neighbourhoods, rows: PairRows, seed: Sequence[int]) -> None:
        """Add pairs, or a share of them that is drawn by the `seed`."""
        for numbers in self._slices(rows, self._drawn(rows, seed)):
            for part, _, x, y, sample in self._parts(graph, rows[numbers]):
                self.equations[part].add(x, y, sample)

    def solve(self) -> None:
        """Find the weights of the regression."""
        self.regression = self.features.regression({part: x.solve() for part, x in self.equations.items()})

    def left_out(self, graph: Neighbourhoods, rows: PairRows, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (P, S, K) of pairs in eV by fits without their samples, and their variances (P,)."""
        drawn, values, variance = self._drawn(rows, seed), np.zeros_like(rows.targets), np.zeros(len(rows.edges))
        if len(drawn) < len(rows.edges):
            values, variance = self.regression.values(graph, rows.edges, rows.layout.n_slots)
        values[drawn] = 0.0
        for numbers in self._slices(rows, drawn):
            for part, columns, x, y, sample in self._parts(graph, rows[numbers]):
                predicted, v = self.equations[part].left_out(x, y, sample, self.settings.solver_numbers)
                slots = pair_fit.slots_of(part.order)
                for slot, half in zip(slots, np.split(predicted, len(slots)), strict=True):
                    values[numbers, slot, columns] = half
                if part == pair_fit.Part(0, False):
                    variance[numbers] = v
        return rows.one_direction(values, variance)

    def _drawn(self, rows: PairRows, seed: Sequence[int]) -> np.ndarray:
        if self.share >= 1:
            return np.arange(len(rows.edges))
        return rows.of_pairs(np.flatnonzero(np.random.default_rng(seed).random(rows.n_pairs) < self.share))

    def _slices(self, rows: PairRows, drawn: np.ndarray) -> Iterator[np.ndarray]:
        points = self.features.sparse_points
        per_row = (1 if points is None else len(points.distance)) * (2 + 4 * self.features.orders)
        most = max(self.settings.refit_numbers // per_row, 2)
        if not rows.symmetric:
            return slices(drawn, rows.sample[drawn], most)
        # Both directions of a pair are left out together.
        pairs = drawn[: len(drawn) // 2]
        return (rows.of_pairs(part) for part in slices(pairs, rows.sample[pairs], most // 2))

    def _parts(
        self, graph: Neighbourhoods, rows: PairRows
    ) -> Iterator[tuple[pair_fit.Part, slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield each part with its columns, features, targets and samples of rows."""
        linear, kernels = self.features.linear(graph, rows.edges), self.features.kernels(graph, rows.edges)
        for part, columns in rows.parts():
            if part not in self.equations:
                continue
            (m, pseudo), space = part, self.equations[part].fit.space
            x = linear[m][:, :0] if pseudo else linear[m]
            kernel = None if kernels is None else kernels[0][int(pseudo)] if m == 0 else kernels[m]
            targets, sample = rows.targets_of(m)
            features = space.features(x, kernel, self.settings.kernel_numbers)
            yield part, columns, features, targets[:, columns], sample


class AtomRefit:
    """A fit to the atoms of one species that goes on with further samples.

    Attributes:
        features: the features, chosen by the first fit.
        regression: the regression; that of the first fit until the equations are solved.
    """

    def __init__(self, found: AtomFitResult, share: float, robust: bool, settings: RegressionSettings) -> None:
        self.features, self.share, self.settings, self.mean = found.features, share, settings, found.mean
        self.equations = {part: NormalEquations(fit, robust) for part, fit in found.fits.items()}
        self.regression: AtomRegression = found.regression

    @property
    def n_bytes(self) -> int:
        """Memory of the matrices."""
        return sum(x.n_bytes for x in self.equations.values())

    def add(self, graph: Neighbourhoods, rows: "AtomTargets", seed: Sequence[int]) -> None:
        """Add atoms, or a share of them that is drawn by the `seed`."""
        for numbers in self._slices(graph, rows, self._drawn(rows, seed)):
            for part, _, _, x, y, sample in self._parts(graph, rows[numbers]):
                self.equations[part].add(x, y, sample)

    def solve(self) -> None:
        """Find the weights of the regression, which is the mean alone where the first fit found no more."""
        if self.features is not None:
            fits = {part: x.solve() for part, x in self.equations.items()}
            self.regression = self.features.regression(self.mean, fits)

    def left_out(
        self, graph: Neighbourhoods, rows: "AtomTargets", seed: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (N, (l_max+1)^2, K) of atoms in eV by fits without their samples, and their variances (N,)."""
        drawn, values, variance = self._drawn(rows, seed), np.zeros_like(rows.targets), np.zeros(len(rows.atoms))
        if len(drawn) < len(rows.atoms):
            values, variance = self.regression.values(graph, rows.atoms, rows.layout)
        values[drawn] = 0.0
        values[drawn, 0, : len(self.mean)] = self.mean
        for numbers in self._slices(graph, rows, drawn):
            for part, slots, columns, x, y, sample in self._parts(graph, rows[numbers]):
                predicted, v = self.equations[part].left_out(x, y, sample, self.settings.solver_numbers)
                values[numbers[:, None, None], slots[:, None], columns] += predicted.reshape(
                    len(numbers), len(slots), -1
                )
                if part == atom_fit.Part(0, 1):
                    variance[numbers] = v
        return values, variance

    def _drawn(self, rows: "AtomTargets", seed: Sequence[int]) -> np.ndarray:
        if self.share >= 1:
            return np.arange(len(rows.atoms))
        return np.flatnonzero(np.random.default_rng(seed).random(len(rows.atoms)) < self.share)

    def _slices(self, graph: Neighbourhoods, rows: "AtomTargets", drawn: np.ndarray) -> Iterator[np.ndarray]:
        if self.features is None:
            return iter(())
        n_sparse = max((len(x.sparse.edges) for x in self.features.kernels.values()), default=1)
        per_edge = n_sparse * (2 + 4 * max(x.degree for x in rows.layout.irreps))
        _, start = graph.pairs.leaving
        n_edges = int(np.diff(start)[rows.atoms[drawn]].max(initial=1))
        return slices(drawn, rows.sample[drawn], max(self.settings.refit_atom_numbers // (per_edge * n_edges), 1))

    def _parts(
        self, graph: Neighbourhoods, rows: "AtomTargets"
    ) -> Iterator[tuple[atom_fit.Part, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield each part with its slots and columns, and features, targets and samples of components."""
        assert self.features is not None
        own, y = AtomRows(self.features, graph, rows.atoms), rows.targets.copy()
        y[:, 0, : len(self.mean)] -= self.mean
        for degree, parity, columns, _ in rows.layout.irreps:
            part = atom_fit.Part(degree, parity)
            if part not in self.equations:
                continue
            slots = np.arange(degree**2, (degree + 1) ** 2)
            features = self.equations[part].fit.space.features(
                own.linear(part), own.kernel(part), self.settings.kernel_numbers
            )
            targets = y[:, slots][..., columns].reshape(len(features), -1)
            yield part, slots, np.asarray(columns), features, targets, np.repeat(rows.sample, len(slots))


@dataclass(frozen=True)
class AtomTargets:
    """Atoms of one species with their targets.

    Attributes:
        atoms: the atoms (N,).
        targets: coefficients in eV (N, (l_max+1)^2, K).
        sample: sample of each (N,).
        layout: layout of the blocks.
    """

    atoms: np.ndarray
    targets: np.ndarray
    sample: np.ndarray
    layout: OnsiteLayout

    def __getitem__(self, rows: np.ndarray) -> "AtomTargets":
        return AtomTargets(self.atoms[rows], self.targets[rows], self.sample[rows], self.layout)


def slices(rows: np.ndarray, sample: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield the rows (n,) of the samples (n,) in pieces of at most `most` rows, and of whole samples unless one has more."""
    order = np.argsort(sample, kind="stable")
    rows, sample = rows[order], sample[order]
    ends = np.append(np.flatnonzero(np.diff(sample)) + 1, len(rows))
    start = 0
    while start < len(rows):
        fitting = ends[(ends > start) & (ends <= start + most)]
        stop = int(fitting[-1]) if len(fitting) else min(start + most, len(rows))
        yield rows[start:stop]
        start = stop
