"""The fit to the pairs of one type."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harmose.kernel_regression.electronic_terms import pair_terms, scale_to_unit_rms
from harmose.kernel_regression.expansion import KernelExpansion, SparsePoints
from harmose.kernel_regression.kernel import (
    MANY_MOLECULES_PAIR_KERNEL,
    PAIR_KERNEL,
    KernelParameters,
    edge_kernels,
)
from harmose.kernel_regression.linear_terms import PairRegression, require_charges
from harmose.kernel_regression.neighbourhoods import Neighbourhoods, pair_features
from harmose.kernel_regression.ridge import (
    N_DRAWS,
    NOTHING,
    PENALTIES,
    SMOOTH_PENALTIES,
    FeatureSpace,
    KernelFit,
    Outermost,
    fit_kernel,
)
from harmose.kernel_regression.training import Training
from harmose.representation.layout import PairLayout


class Part(NamedTuple):
    """Components that are fitted together: those of order M; at M = 0 the scalars, or the pseudoscalars."""

    order: int
    pseudo: bool


@dataclass(frozen=True)
class PairRows:
    """Pairs of one type with their targets; pairs of like atoms are there in both directions.

    Attributes:
        edges: directed pairs (E,).
        targets: coefficients in eV (E, S, K).
        sample: sample of each (E,).
        layout: layout of the blocks.
        symmetric: True for like atoms; the second half of the rows is then the first one reversed.
    """

    edges: np.ndarray
    targets: np.ndarray
    sample: np.ndarray
    layout: PairLayout
    symmetric: bool

    @staticmethod
    def of(
        graph: Neighbourhoods, pair_type: int, layout: PairLayout, pairs: np.ndarray, y: np.ndarray, sample: np.ndarray
    ) -> "PairRows":
        """Return the rows of pairs (P,) with targets (P, S, K), of the samples (P,)."""
        if not graph.space.is_symmetric(pair_type):
            return PairRows(pairs, y, sample, layout, False)
        column, sign = layout.reversal
        backward = np.empty_like(y)
        backward[..., column] = sign * y
        edges = np.concatenate([pairs, pairs + graph.n_pairs])
        return PairRows(edges, np.concatenate([y, backward]), np.tile(sample, 2), layout, True)

    @property
    def n_pairs(self) -> int:
        """Number of pairs, which are two rows each for like atoms."""
        return len(self.edges) // (2 if self.symmetric else 1)

    def of_pairs(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows of some pairs, given by their numbers, ascending."""
        return np.concatenate([chosen, chosen + self.n_pairs]) if self.symmetric else chosen

    def __getitem__(self, rows: np.ndarray) -> "PairRows":
        return PairRows(self.edges[rows], self.targets[rows], self.sample[rows], self.layout, self.symmetric)

    def parts(self) -> Iterator[tuple[Part, slice]]:
        """Yield the parts, and the columns of their targets."""
        n = self.layout.n_proper
        yield Part(0, False), slice(0, n)
        yield Part(0, True), slice(n, None)
        for m in range(1, self.layout.degree.max() + 1):
            yield Part(m, False), slice(0, None)

    def targets_of(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the targets of an order, even halves first, (E, K) or (2E, K), and the sample of each row."""
        slots = slots_of(order)
        return np.concatenate([self.targets[:, slot] for slot in slots]), np.tile(self.sample, len(slots))

    def one_direction(self, values: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values (P, S, K) and variances (P,) of pairs from those of the rows: their means over both directions."""
        if not self.symmetric:
            return values, variance
        return self.layout.hermitian_mean(*np.split(values, 2)), variance.reshape(2, -1).mean(0)


def slots_of(order: int) -> list[int]:
    """Return the slots of an order: one at M = 0, else its even and its odd half."""
    return [0] if order == 0 else [2 * order - 1, 2 * order]


@dataclass(frozen=True)
class PairFeatures:
    """Features of the pairs of one type in any graph.

    Attributes:
        kind: "distances" and "pairs" have functions of the distance alone, "kernel" all.
        layout: layout of the blocks.
        sparse_points: sparse points of the kernel, or None.
        scale: by order M, what the terms in the density of H0 are divided by (F',).
        reads_charges: True if these terms are read.
    """

    kind: str
    layout: PairLayout
    sparse_points: SparsePoints | None
    scale: Sequence[np.ndarray]
    reads_charges: bool

    @property
    def orders(self) -> int:
        """Largest order M."""
        return int(self.layout.degree.max())

    def linear(self, graph: Neighbourhoods, edges: np.ndarray) -> list[np.ndarray]:
        """Return the linear features of directed pairs by order: (E, F) at M = 0, else (2E, F), even halves first."""
        own = linear_features(graph, edges, self.orders, self.kind)
        if not self.reads_charges:
            return own
        electronic = pair_terms(graph, require_charges(graph), edges, self.orders)
        return [np.concatenate([x, y / s], 1) for x, y, s in zip(own, electronic, self.scale, strict=True)]

    def kernels(self, graph: Neighbourhoods, edges: np.ndarray) -> list[np.ndarray] | None:
        """Return the kernels of directed pairs with the sparse points by order, as `edge_kernels` does."""
        if self.sparse_points is None:
            return None
        orders, block = range(self.orders + 1), graph.settings.kernel_block
        descriptors = graph.edge_descriptors(edges, self.sparse_points.parameters, graph.triangles(edges))
        return edge_kernels(descriptors, self.sparse_points.references, orders, block)

    def regression(self, fits: Mapping[Part, tuple[FeatureSpace, np.ndarray]]) -> PairRegression:
        """Return the regression with the weights of the parts that were fitted.

        fits: features of each part, and columns of weights (F + R, N_DRAWS + K): draws, which belong to the scalars, and weights.
        """
        linear, electronic, kernel = {}, {}, {}
        width, n_sparse = N_DRAWS + len(self.layout.degree), 0
        if self.sparse_points is not None:
            n_sparse = len(self.sparse_points.distance)
        for m in range(self.orders + 1):
            n_electronic = len(self.scale[m]) if self.reads_charges else 0
            n_linear = fits[Part(m, False)][0].n_linear - n_electronic if Part(m, False) in fits else 0
            linear[m], electronic[m] = np.zeros((n_linear, width)), np.zeros((n_electronic, width))
            kernel[m] = np.zeros((n_sparse * len(slots_of(m)), width))
        for (m, pseudo), (space, columns) in fits.items():
            n = self.layout.n_proper
            first = N_DRAWS + (n if pseudo else 0)
            own = slice(first, N_DRAWS + n if m == 0 and not pseudo else width)
            weights, sparse = space.split(columns)
            for out, part in (
                (kernel[m], sparse),
                (linear[m], weights[: len(linear[m])]),
                (electronic[m], weights[len(linear[m]) :]),
            ):
                if len(out) and len(part):
                    part = part / self.scale[m][:, None] if out is electronic[m] else part
                    out[:, own] = part[:, N_DRAWS:]
                    if m == 0 and not pseudo:  # the draws are functions of the scalars' features
                        out[:, :N_DRAWS] = part[:, :N_DRAWS]
        expansion = None
        if self.sparse_points is not None:
            expansion = KernelExpansion(self.sparse_points, kernel, N_DRAWS + self.layout.n_proper)
        return PairRegression(linear, expansion, electronic if self.reads_charges else {}, N_DRAWS)


def linear_features(graph: Neighbourhoods, edges: np.ndarray, orders: int, kind: str) -> list[np.ndarray]:
    """Return the features that need no density, by order as in `PairFeatures.linear`."""
    if kind != "kernel" or graph.charges is not None:
        return pair_features(graph, edges, orders, None)
    n, out = len(edges), []
    for some, rows in graph.edge_chunks(edges):
        features = pair_features(graph, some, orders, graph.triangles(some))
        out = out or [np.empty((1 if m == 0 else 2, n, x.shape[1])) for m, x in enumerate(features)]
        for whole, part in zip(out, features, strict=True):
            whole[:, rows] = part.reshape(len(whole), len(some), -1)
    return [x.reshape(-1, x.shape[2]) for x in out]


class PairFit:
    """One pair type; pairs of like atoms enter in both directions."""

    def __init__(
        self,
        graph: Neighbourhoods,
        training: Training,
        pair_type: int,
        layout: PairLayout,
        pairs: np.ndarray,
        targets: np.ndarray,
    ):
        self.graph, self.layout, self.settings = graph, layout, training.settings
        self.rows = PairRows.of(graph, pair_type, layout, pairs, targets, training.pair_sample[pairs])
        self.grid = training.hyperparameters
        self.parameters = PAIR_KERNEL
        self.n_sparse = self.settings.sparse_edges_in_parts if training.is_part else self.settings.sparse_edges
        if training.many_molecules:
            self.parameters = MANY_MOLECULES_PAIR_KERNEL
            self.n_sparse = self.settings.sparse_edges_many_molecules
        if training.sparse_points is not None:
            self.n_sparse = training.sparse_points
        if training.is_part and self.n_sparse:
            directions = 2 if self.rows.symmetric else 1
            most = self.settings.first_fit_numbers // (8 * directions * self.n_sparse)
            most = max(most, -(-self.n_sparse // directions))
            if self.rows.n_pairs > most:
                chosen = np.random.default_rng(pair_type).permutation(self.rows.n_pairs)[:most]
                self.rows = self.rows[self.rows.of_pairs(np.sort(chosen))]
        self.robust, self.is_part = training.many_molecules, training.is_part

    @property
    def targets(self) -> np.ndarray:
        """Coefficients of the rows in eV (E, S, K)."""
        return self.rows.targets

    def run(self, kind: str, generator: np.random.Generator) -> "PairFitResult":
        """Return the regression, and leave-one-group-out predictions; of pairs that were not drawn, the usual ones."""
        rows = self.rows
        if rows.n_pairs <= self.settings.pairs:
            return self._one_direction(self._fit(kind, generator))
        chosen = rows.of_pairs(np.sort(generator.permutation(rows.n_pairs)[: self.settings.pairs]))
        fit = self._subset(chosen)._fit(kind, generator)
        values, variance = fit.regression.values(self.graph, rows.edges, self.layout.n_slots)
        values[chosen], variance[chosen] = fit.leave_one_out, fit.variance
        outermost = fit.outermost._replace(rows=chosen[fit.outermost.rows])
        return self._one_direction(
            fit._replace(leave_one_out=values, variance=variance, outermost=outermost),
        )

    def _subset(self, rows: np.ndarray) -> "PairFit":
        """Return the same fit to some of its rows."""
        other = copy.copy(self)
        other.rows = self.rows[rows]
        return other

    def _fit(self, kind: str, generator: np.random.Generator) -> "PairFitResult":
        edges, has_electronic = self.rows.edges, self.graph.charges is not None and kind != "distances"
        linear = linear_features(self.graph, edges, int(self.layout.degree.max()), kind)
        scale = [np.zeros(0)] * len(linear)
        if has_electronic:
            terms = pair_terms(self.graph, require_charges(self.graph), edges, len(linear) - 1)
            scaled, scale = zip(*map(scale_to_unit_rms, terms))
            linear = [np.concatenate(both, 1) for both in zip(linear, scaled, strict=True)]
        leave_one_out, fits, grid = np.zeros_like(self.targets), {}, self.grid
        kernel, variance, outermost = None, np.zeros(len(self.targets)), NOTHING
        if kind == "kernel" and self.n_sparse:
            n = self.n_sparse
            if not self.is_part:
                n = min(n, max(self.settings.kernel_elements // len(edges), 1))
            kernel = _EdgeKernel(self.graph, edges, len(linear) - 1, self.parameters, n, generator)
        penalties = SMOOTH_PENALTIES if kind == "distances" else PENALTIES
        for part, columns in self.rows.parts():
            m, pseudo = part
            targets, sample = self.rows.targets_of(m)
            # A pseudoscalar is no linear function of distances and triangles.
            x = linear[m][:, :0] if pseudo else linear[m]
            kernels = None if kernel is None else kernel.blocks(m, int(pseudo))
            if not x.shape[1] and kernels is None:
                continue
            fit = fit_kernel(x, kernels, targets[:, columns], sample, grid, self.settings, penalties, self.robust)
            grid, slots = (fit.best,), slots_of(m)
            for slot, values in zip(slots, np.split(fit.leave_one_out, len(slots)), strict=True):
                leave_one_out[:, slot, columns] = values
            if part == Part(0, False):
                variance, outermost = fit.variance, fit.outermost
            fits[part] = fit
        points = None if kernel is None else kernel.sparse_points
        features = PairFeatures(kind, self.layout, points, scale, has_electronic)
        regression = features.regression({part: (fit.space, fit.columns) for part, fit in fits.items()})
        return PairFitResult(regression, leave_one_out, variance, outermost, features, fits)

    def _one_direction(self, fit: "PairFitResult") -> "PairFitResult":
        values, variance = self.rows.one_direction(fit.leave_one_out, fit.variance)
        return fit._replace(leave_one_out=values, variance=variance)


class PairFitResult(NamedTuple):
    """Result of `PairFit.run`.

    Attributes:
        regression: the regression of a pair type.
        leave_one_out: predictions by a fit to all other samples (P, S, K) in eV.
        variance: their variances in units of the noise's (P,).
        outermost: of the scalars, rows of the directed pairs.
        features: the features of the regression.
        fits: the fit of each part.
    """

    regression: PairRegression
    leave_one_out: np.ndarray
    variance: np.ndarray
    outermost: Outermost
    features: PairFeatures
    fits: Mapping[Part, KernelFit]


class _EdgeKernel:
    """Kernels between all edges of a fit and `n` sparse points drawn from them."""

    def __init__(
        self,
        graph: Neighbourhoods,
        edges: np.ndarray,
        orders: int,
        parameters: KernelParameters,
        n: int,
        generator: np.random.Generator,
    ):
        chosen = np.sort(generator.permutation(len(edges))[:n])
        self.graph, self.edges, self.chosen, self.parameters = graph, edges, chosen, parameters
        self.sparse_points = SparsePoints.from_triangles(
            graph.triangles(edges[chosen]), graph.pairs.distance[edges[chosen]], graph.n_species, parameters
        )
        all_fit = 4 * (orders + 1) * n * len(edges) <= graph.settings.kernel_numbers
        self._together = [range(orders + 1)] if all_fit else [range(m, m + 1) for m in range(orders + 1)]
        self._kernels: dict[int, np.ndarray] = {}

    def blocks(self, order: int, pseudo: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernels of one order between rows and sparse points, and between sparse points."""
        if order not in self._kernels:
            self._kernels.clear()  # before the next ones take their memory
            self._kernels = self._compute(next(orders for orders in self._together if order in orders))
        kernel = self._kernels[order]
        if order == 0:
            return kernel[pseudo], kernel[pseudo][self.chosen]
        return kernel, kernel[np.concatenate([self.chosen, self.chosen + len(self.edges)])]

    def _compute(self, orders: Sequence[int]) -> dict[int, np.ndarray]:
        n, m = len(self.edges), len(self.chosen)
        out = {order: np.empty((2, n, (2 if order else 1) * m)) for order in orders}
        references, block = self.sparse_points.references, self.graph.settings.kernel_block
        for edges, rows in self.graph.edge_chunks(self.edges):
            descriptors = self.graph.edge_descriptors(edges, self.parameters, self.graph.triangles(edges))
            for order, kernel in zip(orders, edge_kernels(descriptors, references, orders, block), strict=True):
                out[order][:, rows] = kernel.reshape(2, len(edges), -1)
        return {order: kernel.reshape(2 * n, -1) if order else kernel for order, kernel in out.items()}
