"""The fit to one kind of pair (`fit`)."""

import copy
from collections.abc import Sequence

import numpy as np

from harmose.kernel_regression import limits
from harmose.kernel_regression.electronic_terms import pair_terms, scaled
from harmose.kernel_regression.expansion import ENVIRONMENT, KernelExpansion, References, in_turn
from harmose.kernel_regression.kernel import DIVERSE_PAIRS, PAIR_KERNEL, KernelParameters, edge_kernels
from harmose.kernel_regression.linear_terms import PairRegression
from harmose.kernel_regression.model import is_symmetric
from harmose.kernel_regression.neighbourhoods import Neighbourhoods, pair_features
from harmose.kernel_regression.regression import regress
from harmose.kernel_regression.training import Training
from harmose.representation.layout import PairLayout


class PairFit:
    """One kind of pair; pairs of like atoms enter in both directions."""

    def __init__(
        self, graph, training: Training, pair_type: int, layout: PairLayout, pairs: np.ndarray, targets: np.ndarray
    ):
        self.graph, self.layout, self.n_pairs = graph, layout, len(pairs)
        self.edges, self.targets, self.sample = pairs, targets, training.pair_sample[pairs]
        self.candidates, self.likeness = training.candidates, DIVERSE_PAIRS if training.diverse else PAIR_KERNEL
        most = limits.DIVERSE_EDGES if training.diverse else limits.REFERENCE_EDGES
        self.references = most if training.references is None else training.references
        self.symmetric = is_symmetric(pair_type, len(training.space.elements))
        if self.symmetric:
            column, sign = layout.reversal
            back = np.empty_like(targets)
            back[..., column] = sign * targets
            self.edges = np.concatenate([pairs, pairs + graph.n_pairs])
            self.targets, self.sample = np.concatenate([targets, back]), np.tile(self.sample, 2)
        self.orders = layout.degree.max()

    def run(self, many_body: bool, generator: np.random.Generator) -> tuple[PairRegression, np.ndarray]:
        """The fit, and its predictions of each sample without having seen it; of pairs that were not drawn, with it."""
        if self.n_pairs <= limits.MOST_PAIRS:
            fit, left_out = self._fit(many_body, generator)
            return fit, self._one_direction(left_out)
        drawn = np.sort(generator.permutation(self.n_pairs)[: limits.MOST_PAIRS])
        rows = np.concatenate([drawn, drawn + self.n_pairs]) if self.symmetric else drawn
        fit, left_out = self._only(rows)._fit(many_body, generator)
        found = fit.values(self.graph, self.edges, self.layout.n_slots)
        found[rows] = left_out
        return fit, self._one_direction(found)

    def _only(self, rows: np.ndarray) -> "PairFit":
        """The same fit to some of its edges."""
        other = copy.copy(self)
        other.edges, other.targets, other.sample = self.edges[rows], self.targets[rows], self.sample[rows]
        return other

    def _fit(self, many_body: bool, generator: np.random.Generator) -> tuple[PairRegression, np.ndarray]:
        linear, electronic = self._linear_features(many_body), self._electronic_features()
        left_out, weights, fields, terms = np.zeros_like(self.targets), {}, {}, {}
        kernel = None
        if many_body and self.references:
            kernel = _EdgeKernel(self.graph, self.edges, self.orders, self.likeness, self.references, generator)
        n, variances = self.layout.n_proper, self.candidates
        for m in range(self.orders + 1):
            targets = (
                self.targets[:, 0] if m == 0 else np.concatenate([self.targets[:, 2 * m - 1], self.targets[:, 2 * m]])
            )
            parts = (slice(0, n), slice(n, None)) if m == 0 else (slice(None),)
            weights[m] = np.zeros((linear[m].shape[1], targets.shape[1]))
            extra, scale = scaled(electronic[m])
            terms[m] = np.zeros((len(scale), targets.shape[1]))
            found = np.zeros_like(targets)
            if kernel is not None:
                fields[m] = np.zeros((len(kernel.chosen) * (1 if m == 0 else 2), targets.shape[1]))
            for pseudo, columns in enumerate(parts):
                # A pseudoscalar is no linear function of distances and triangles.
                x = np.concatenate([linear[m], extra], 1) if not pseudo else linear[m][:, :0]
                blocks = kernel.blocks(m, pseudo) if kernel is not None else None
                if not x.shape[1] and blocks is None:
                    continue
                sample = np.tile(self.sample, 1 if m == 0 else 2)
                fit, w, v, best = regress(x, blocks, targets[:, columns], sample, variances)
                variances = (best,)
                found[:, columns] = fit.left_out
                if not pseudo:
                    weights[m][:, columns] = w[: len(weights[m])]
                    terms[m][:, columns] = w[len(weights[m]) :] / scale[:, None]
                if kernel is not None:
                    fields[m][:, columns] = v
            if m == 0:
                left_out[:, 0] = found
            else:
                left_out[:, 2 * m - 1], left_out[:, 2 * m] = np.split(found, 2)
        field = KernelExpansion(kernel.references, fields, n) if kernel is not None else None
        return PairRegression(weights, field, terms if self.graph.charges is not None else {}), left_out

    def _electronic_features(self) -> list[np.ndarray]:
        if self.graph.charges is not None:
            return pair_terms(self.graph, self.graph.charges, self.edges, self.orders)
        n = len(self.edges)
        return [np.zeros((n, 0)), *[np.zeros((2 * n, 0))] * self.orders]

    def _linear_features(self, many_body: bool) -> list[np.ndarray]:
        if not many_body or self.graph.charges is not None:
            return pair_features(self.graph, self.edges, self.orders, None)
        n, out = len(self.edges), []
        for part, rows in in_turn(self.edges, ENVIRONMENT * self.graph.n_species):
            found = pair_features(self.graph, part, self.orders, self.graph.triangles(part))
            out = out or [np.empty((1 if m == 0 else 2, n, x.shape[1])) for m, x in enumerate(found)]
            for x, y in zip(out, found, strict=True):
                x[:, rows] = y.reshape(len(x), len(part), -1)
        return [x.reshape(-1, x.shape[2]) for x in out]

    def _one_direction(self, left_out: np.ndarray) -> np.ndarray:
        if not self.symmetric:
            return left_out
        column, sign = self.layout.reversal
        ahead, back = np.split(left_out, 2)
        return (ahead + sign * back[..., column]) / 2


class _EdgeKernel:
    """Kernels between all edges of a fit and the references among them."""

    def __init__(
        self,
        graph: Neighbourhoods,
        edges: np.ndarray,
        orders: int,
        likeness: KernelParameters,
        most: int,
        generator: np.random.Generator,
    ):
        n = min(most, max(limits.COMPARED // len(edges), 1))
        chosen = np.sort(generator.permutation(len(edges))[:n])
        self.graph, self.edges, self.chosen, self.likeness = graph, edges, chosen, likeness
        triangles = graph.triangles(edges[chosen])
        self.references = References.of(triangles, graph.pairs.distance[edges[chosen]], graph.n_species, likeness)
        together = 4 * (orders + 1) * n * len(edges) <= limits.KEPT
        self.together = [range(orders + 1)] if together else [range(m, m + 1) for m in range(orders + 1)]
        self.kernels: dict[int, np.ndarray] = {}

    def blocks(self, order: int, pseudo: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, references) and (references, references) of one order."""
        if order not in self.kernels:
            self.kernels = self._kernels(next(orders for orders in self.together if order in orders))
        kernel = self.kernels[order]
        if order == 0:
            return kernel[pseudo], kernel[pseudo][self.chosen]
        return kernel, kernel[np.concatenate([self.chosen, self.chosen + len(self.edges)])]

    def _kernels(self, orders: Sequence[int]) -> dict[int, np.ndarray]:
        self.kernels.clear()  # before the next ones take their memory
        n, m = len(self.edges), len(self.chosen)
        out = {order: np.empty((2, n, (2 if order else 1) * m)) for order in orders}
        for part, rows in in_turn(self.edges, ENVIRONMENT * self.graph.n_species):
            seen = self.graph.environments(part, self.likeness, self.graph.triangles(part))
            for order, kernel in zip(orders, edge_kernels(seen, self.references.compared, orders), strict=True):
                out[order][:, rows] = kernel.reshape(2, len(part), -1)
        return {order: kernel.reshape(2 * n, -1) if order else kernel for order, kernel in out.items()}
