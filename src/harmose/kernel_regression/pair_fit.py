"""The fit to the pairs of one type."""

import copy
from collections.abc import Sequence
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
from harmose.kernel_regression.linear_terms import PairRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods, pair_features
from harmose.kernel_regression.ridge import N_DRAWS, NOTHING, PENALTIES, SMOOTH_PENALTIES, Outermost, fit_kernel
from harmose.kernel_regression.training import Training
from harmose.representation.layout import PairLayout


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
        self.graph, self.layout, self.settings, self.n_pairs = graph, layout, training.settings, len(pairs)
        self.edges, self.targets, self.sample = pairs, targets, training.pair_sample[pairs]
        self.grid = training.hyperparameters
        self.parameters, self.n_sparse = PAIR_KERNEL, self.settings.sparse_edges
        if training.many_molecules:
            self.parameters = MANY_MOLECULES_PAIR_KERNEL
            self.n_sparse = self.settings.sparse_edges_many_molecules
        if training.sparse_points is not None:
            self.n_sparse = training.sparse_points
        self.robust = training.many_molecules
        self.symmetric = training.space.is_symmetric(pair_type)
        if self.symmetric:
            column, sign = layout.reversal
            backward = np.empty_like(targets)
            backward[..., column] = sign * targets
            self.edges = np.concatenate([pairs, pairs + graph.n_pairs])
            self.targets, self.sample = np.concatenate([targets, backward]), np.tile(self.sample, 2)
        self.orders = layout.degree.max()

    def run(self, kind: str, generator: np.random.Generator) -> "PairFitResult":
        """Return the regression, and leave-one-group-out predictions; of pairs that were not drawn, the usual ones."""
        if self.n_pairs <= self.settings.pairs:
            return self._one_direction(self._fit(kind, generator))
        drawn = np.sort(generator.permutation(self.n_pairs)[: self.settings.pairs])
        rows = np.concatenate([drawn, drawn + self.n_pairs]) if self.symmetric else drawn
        fit = self._subset(rows)._fit(kind, generator)
        values, variance = fit.regression.values(self.graph, self.edges, self.layout.n_slots)
        values[rows], variance[rows] = fit.leave_one_out, fit.variance
        outermost = fit.outermost._replace(rows=rows[fit.outermost.rows])
        return self._one_direction(PairFitResult(fit.regression, values, variance, outermost))

    def _subset(self, rows: np.ndarray) -> "PairFit":
        """Return the same fit to some of its edges."""
        other = copy.copy(self)
        other.edges, other.targets, other.sample = self.edges[rows], self.targets[rows], self.sample[rows]
        return other

    def _fit(self, kind: str, generator: np.random.Generator) -> "PairFitResult":
        linear_features, electronic_features = self._linear_features(kind), self._electronic_features(kind)
        leave_one_out, linear, kernel_weights, electronic = np.zeros_like(self.targets), {}, {}, {}
        kernel, variance, outermost = None, np.zeros(len(self.targets)), NOTHING
        if kind == "kernel" and self.n_sparse:
            n = min(self.n_sparse, max(self.settings.kernel_elements // len(self.edges), 1))
            kernel = _EdgeKernel(self.graph, self.edges, self.orders, self.parameters, n, generator)
        n_proper, grid = self.layout.n_proper, self.grid
        penalties = SMOOTH_PENALTIES if kind == "distances" else PENALTIES
        width = N_DRAWS + self.targets.shape[2]
        for m in range(self.orders + 1):
            slots = [0] if m == 0 else [2 * m - 1, 2 * m]
            targets = np.concatenate([self.targets[:, slot] for slot in slots])
            sample = np.tile(self.sample, len(slots))
            extra, scale = scale_to_unit_rms(electronic_features[m])
            linear[m] = np.zeros((linear_features[m].shape[1], width))
            electronic[m] = np.zeros((len(scale), width))
            if kernel is not None:
                kernel_weights[m] = np.zeros((len(kernel.chosen) * len(slots), width))
            predicted = np.zeros_like(targets)
            for pseudo, columns in enumerate((slice(0, n_proper), slice(n_proper, None)) if m == 0 else (slice(None),)):
                # A pseudoscalar is no linear function of distances and triangles.
                x = linear_features[m][:, :0] if pseudo else np.concatenate([linear_features[m], extra], 1)
                kernels = None if kernel is None else kernel.blocks(m, pseudo)
                if not x.shape[1] and kernels is None:
                    continue
                fit = fit_kernel(x, kernels, targets[:, columns], sample, grid, self.settings, penalties, self.robust)
                grid = (fit.best,)
                predicted[:, columns] = fit.leave_one_out
                if m == 0 and not pseudo:  # the draws are functions of the scalars' features
                    variance, outermost, drawn = fit.variance, fit.outermost, slice(0, N_DRAWS)
                    linear[m][:, drawn] = fit.linear_draws[: len(linear[m])]
                    electronic[m][:, drawn] = fit.linear_draws[len(linear[m]) :] / scale[:, None]
                    if kernel is not None:
                        kernel_weights[m][:, drawn] = fit.kernel_draws
                own = slice(N_DRAWS + (columns.start or 0), N_DRAWS + columns.stop if columns.stop else None)
                if not pseudo:
                    linear[m][:, own] = fit.linear[: len(linear[m])]
                    electronic[m][:, own] = fit.linear[len(linear[m]) :] / scale[:, None]
                if kernel is not None:
                    kernel_weights[m][:, own] = fit.kernel
            leave_one_out[:, slots] = np.stack(np.split(predicted, len(slots)), 1)
        expansion = (
            None if kernel is None else KernelExpansion(kernel.sparse_points, kernel_weights, N_DRAWS + n_proper)
        )
        has_electronic = self.graph.charges is not None and kind != "distances"
        regression = PairRegression(linear, expansion, electronic if has_electronic else {}, N_DRAWS)
        return PairFitResult(regression, leave_one_out, variance, outermost)

    def _electronic_features(self, kind: str) -> list[np.ndarray]:
        if self.graph.charges is not None and kind != "distances":
            return pair_terms(self.graph, self.graph.charges, self.edges, self.orders)
        n = len(self.edges)
        return [np.zeros((n, 0)), *[np.zeros((2 * n, 0))] * self.orders]

    def _linear_features(self, kind: str) -> list[np.ndarray]:
        if kind != "kernel" or self.graph.charges is not None:
            return pair_features(self.graph, self.edges, self.orders, None)
        n, out = len(self.edges), []
        for edges, rows in self.graph.edge_chunks(self.edges):
            features = pair_features(self.graph, edges, self.orders, self.graph.triangles(edges))
            out = out or [np.empty((1 if m == 0 else 2, n, x.shape[1])) for m, x in enumerate(features)]
            for whole, part in zip(out, features, strict=True):
                whole[:, rows] = part.reshape(len(whole), len(edges), -1)
        return [x.reshape(-1, x.shape[2]) for x in out]

    def _one_direction(self, fit: "PairFitResult") -> "PairFitResult":
        if not self.symmetric:
            return fit
        values = self.layout.hermitian_mean(*np.split(fit.leave_one_out, 2))
        return fit._replace(leave_one_out=values, variance=fit.variance.reshape(2, -1).mean(0))


class PairFitResult(NamedTuple):
    """Result of `PairFit.run`.

    Attributes:
        regression: the regression of a pair type.
        leave_one_out: predictions by a fit to all other samples (P, S, K) in eV.
        variance: their variances in units of the noise's (P,).
        outermost: of the scalars, rows of the directed pairs.
    """

    regression: PairRegression
    leave_one_out: np.ndarray
    variance: np.ndarray
    outermost: Outermost


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
