"""The fit to the atoms of one species."""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.electronic_terms import AtomTerms, scale_to_unit_rms
from harmose.kernel_regression.expansion import KernelExpansion, SparsePoints
from harmose.kernel_regression.kernel import (
    ATOM_KERNEL,
    MANY_MOLECULES_ATOM_KERNEL,
    KernelParameters,
    edge_kernels,
)
from harmose.kernel_regression.linear_terms import AtomDraws, AtomRegression, require_charges
from harmose.kernel_regression.neighbourhoods import (
    GAUSSIAN_CENTRES,
    N_GAUSSIANS,
    AtomEdges,
    Neighbourhoods,
    radial_gaussians,
)
from harmose.kernel_regression.ridge import N_DRAWS, NOTHING, Outermost, fit_kernel
from harmose.kernel_regression.training import Training

NEARNESS = np.exp(-GAUSSIAN_CENTRES / 2.0)
"""Prior standard deviations of the weights of Gaussians in the distance: what a neighbour adds decays over 2 angstrom. Without
it, a neighbour further than all of the training set would count as if anything might come from it."""


class AtomFit:
    """One species."""

    def __init__(
        self, graph: Neighbourhoods, training: Training, shell_type: int, atoms: np.ndarray, targets: np.ndarray
    ):
        self.graph, self.atoms, self.targets, self.settings = graph, atoms, targets, training.settings
        self.layout = training.space.onsite_layout(shell_type)
        self.sample, self.grid = training.atom_sample[atoms], training.hyperparameters
        self.parameters, self.n_components = ATOM_KERNEL, self.settings.sparse_components
        if training.many_molecules:
            self.parameters = MANY_MOLECULES_ATOM_KERNEL
            self.n_components = self.settings.sparse_components_many_molecules
        self.robust = training.many_molecules
        self.has_kernel = training.sparse_points != 0

    def run(self, kind: str, generator: np.random.Generator) -> "AtomFitResult":
        """Return the regression, and leave-one-group-out predictions; the mean of the scalars is that of all samples."""
        n = self.layout.n_proper
        mean = average = self.targets[:, 0, :n].mean(0) * self.layout.mask[0, :n]
        leave_one_out = np.zeros_like(self.targets)
        leave_one_out[:, 0, :n] = mean
        variance, outermost = np.zeros(len(self.atoms)), NOTHING
        if kind != "kernel":
            return AtomFitResult(AtomRegression(mean, {}, {}), leave_one_out, variance, outermost)
        linear, electronic, grid, draws = {}, {}, self.grid, None
        irreps, kernels = self.layout.irreps, self._kernels(generator)
        width, n_orders = sum(len(x.columns) for x in irreps), max(x.degree for x in irreps) + 1
        weights = {
            b: {m: np.zeros((k.n_rows(m), N_DRAWS + width)) for m in range(n_orders)} for b, k in kernels.items()
        }
        for degree, parity, columns, place in irreps:
            rows = slice(degree**2, (degree + 1) ** 2)
            features, neighbours = self._linear_features(degree, parity)
            extra, scale, shift = self._electronic_features(degree, parity)
            x = np.concatenate([features, extra], -1)
            y = self.targets[:, rows][..., columns] - leave_one_out[:, rows][..., columns]
            sample = np.repeat(self.sample, 2 * degree + 1)
            blocks = self._blocks(kernels, degree, parity)
            if blocks is None and not x.shape[-1]:
                continue
            x, flat = x.reshape(len(sample), -1), y.reshape(len(sample), -1)
            fit = fit_kernel(x, blocks, flat, sample, grid, self.settings, robust=self.robust)
            grid = (fit.best,)
            leave_one_out[:, rows, columns] += fit.leave_one_out.reshape(y.shape)
            by_neighbour = {b: slice(k * N_GAUSSIANS, (k + 1) * N_GAUSSIANS) for k, b in enumerate(neighbours)}
            rest = slice(len(neighbours) * N_GAUSSIANS, None)
            for b, part in by_neighbour.items():
                full = linear.setdefault((degree, b), np.zeros((N_GAUSSIANS, n)))
                full[:, columns] = NEARNESS[:, None] * fit.linear[part]
            if extra.shape[-1]:
                electronic[degree] = np.zeros((len(scale), n))
                electronic[degree][:, columns] = fit.linear[rest] / scale[:, None]
                if degree == 0:
                    mean = mean - shift @ electronic[degree]
            for b, kernel in kernels.items():
                for m, part in kernel.edge_weights(degree, parity, fit.kernel).items():
                    weights[b][m][:, N_DRAWS + np.asarray(place)] = part
            if degree == 0 and parity > 0:  # the draws are functions of the scalars' features
                variance, drawn = fit.variance, fit.linear_draws[rest] / scale[:, None]
                known = leave_one_out[:, 0, columns] - fit.leave_one_out
                outermost = fit.outermost._replace(predicted=fit.outermost.predicted + known[fit.outermost.rows])
                draws = AtomDraws(
                    {b: NEARNESS[:, None] * fit.linear_draws[part] for b, part in by_neighbour.items()},
                    drawn,
                    shift @ drawn,
                )
                for b, kernel in kernels.items():
                    weights[b][0][:, :N_DRAWS] = kernel.edge_weights(0, 1, fit.kernel_draws)[0]
        n_proper = N_DRAWS + sum(len(x.columns) for x in irreps if x.parity > 0)
        expansions = {b: KernelExpansion(kernel.sparse_points, weights[b], n_proper) for b, kernel in kernels.items()}
        return AtomFitResult(
            AtomRegression(mean, linear, expansions, electronic, draws, average), leave_one_out, variance, outermost
        )

    @cached_property
    def _terms(self) -> AtomTerms:
        return AtomTerms(self.graph, require_charges(self.graph), self.atoms)

    def _electronic_features(self, degree: int, parity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features (N, 2l+1, F), what they were divided by (F,), and what was subtracted before (F,): means of scalars."""
        if self.graph.charges is None or parity < 0:
            return np.zeros((len(self.atoms), 2 * degree + 1, 0)), np.zeros(0), np.zeros(0)
        terms, sizes = self._terms.terms(degree)
        shift = terms.mean((0, 1)) if degree == 0 else np.zeros(terms.shape[-1])
        features, scale = scale_to_unit_rms(terms - shift)
        return features * sizes, scale / sizes, shift

    def _linear_features(self, degree: int, parity: int) -> tuple[np.ndarray, list[int]]:
        """Return sums of Gaussians in the distance over neighbours of each species (N, 2l+1, F), and these species."""
        parts, neighbours = [np.zeros((len(self.atoms), 2 * degree + 1, 0))], []
        edges = self.graph.atom_edges(self.atoms)
        for neighbour, rows in rows_by_key(edges.neighbour_species) if parity > 0 else ():
            some = edges[rows]
            axes = self.graph.axis_to_global(some.edges, degree)
            radial = radial_gaussians(some.distance) * NEARNESS * some.taper[:, None]
            parts.append(some.sum(axes[:, :, None] * radial[:, None]))
            neighbours.append(neighbour)
        return np.concatenate(parts, -1), neighbours

    def _kernels(self, generator: np.random.Generator) -> "dict[int, _AtomKernel]":
        """Return the kernel for each species of neighbours; none where they would have too few sparse points."""
        edges = self.graph.atom_edges(self.atoms).weighted()
        n = 3 * self.settings.kernel_elements * len(self.atoms) // max(len(edges.edges) ** 2, 1)
        if not self.has_kernel or n < min(self.settings.sparse_atoms, len(self.atoms)):
            return {}
        orders = max(x.degree for x in self.layout.irreps)
        n = min(n, self.n_components // (2 * orders + 1))
        self.sparse_atoms = np.sort(generator.permutation(len(self.atoms))[:n])
        return {
            b: _AtomKernel(edges[rows], self.sparse_atoms, orders, self.parameters)
            for b, rows in rows_by_key(edges.neighbour_species)
        }

    def _blocks(
        self, kernels: "Mapping[int, _AtomKernel]", degree: int, parity: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the kernels between all irreps and those of sparse atoms, and between the latter."""
        if not kernels:
            return None
        total = np.sum([kernel.matrix(degree, parity) for kernel in kernels.values()], axis=0)
        size = 2 * degree + 1
        return total, total[(self.sparse_atoms[:, None] * size + np.arange(size)).ravel()]


class AtomFitResult(NamedTuple):
    """Result of `AtomFit.run`.

    Attributes:
        regression: the regression of a species.
        leave_one_out: predictions by a fit to all other samples (N, (l_max+1)^2, K) in eV.
        variance: their variances in units of the noise's (N,).
        outermost: of the scalars.
    """

    regression: AtomRegression
    leave_one_out: np.ndarray
    variance: np.ndarray
    outermost: Outermost


class _AtomKernel:
    """Kernels between atoms through their edges to one species of neighbours.

    `K(A, A') = sum_{e of A, e' of A'} s_e D_e^T K_M(e, e') D_e' s_e'` with the weights s of edges.
    """

    def __init__(self, edges: AtomEdges, sparse_atoms: np.ndarray, orders: int, parameters: KernelParameters):
        graph, self.edges = edges.graph, edges
        place = np.full(edges.n_atoms, -1)
        place[sparse_atoms] = np.arange(len(sparse_atoms))
        chosen = edges[np.flatnonzero(place[edges.rows] >= 0)]
        self.sparse = AtomEdges(graph, chosen.edges, place[chosen.rows], chosen.weights, len(sparse_atoms))
        triangles = graph.triangles(chosen.edges)
        self.sparse_points = SparsePoints.from_triangles(triangles, chosen.distance, graph.n_species, parameters)
        descriptors = graph.edge_descriptors(edges.edges, parameters, graph.triangles(edges.edges))
        orders_in_use, block = range(orders + 1), graph.settings.kernel_block
        self.kernels = edge_kernels(descriptors, self.sparse_points.references, orders_in_use, block)

    def n_rows(self, order: int) -> int:
        """Return the number of weights of an order: one or two for each sparse edge."""
        return len(self.sparse.edges) * (1 if order == 0 else 2)

    def matrix(self, degree: int, parity: int) -> np.ndarray:
        """Return the kernel between irreps of all atoms and those of sparse atoms (N (2l+1), R (2l+1))."""
        out = 0
        for m in range(degree + 1):
            kernel = self.kernels[0][0 if parity > 0 else 1] if m == 0 else self.kernels[m]
            left, right = _turn(self.edges, degree, parity, m), _turn(self.sparse, degree, parity, m)
            out = out + (right @ (left @ kernel).T).T
        return np.asarray(out)

    def edge_weights(self, degree: int, parity: int, weights: np.ndarray) -> dict[int, np.ndarray]:
        """Turn weights of irreps of sparse atoms (R (2l+1), K) into weights of their edges, by order."""
        return {m: _turn(self.sparse, degree, parity, m).T @ weights for m in range(degree + 1)}


def _turn(edges: AtomEdges, degree: int, parity: int, order: int) -> sparse.csr_matrix:
    """Return the matrix from SO(2) features of edges to irreps of atoms (N (2l+1), E or 2E)."""
    slots = [0] if order == 0 else [2 * order - 1, 2 * order]
    values = edges.graph.to_global(edges.edges, degree, parity)[slots] * edges.weights[:, None]
    size, n_edges = 2 * degree + 1, len(edges.edges)
    row = np.broadcast_to(edges.rows[:, None] * size + np.arange(size), values.shape)
    column = np.broadcast_to(np.arange(len(slots) * n_edges).reshape(len(slots), n_edges, 1), values.shape)
    shape = (edges.n_atoms * size, len(slots) * n_edges)
    return sparse.csr_matrix((values.ravel(), (row.ravel(), column.ravel())), shape=shape)
