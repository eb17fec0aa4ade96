"""The fit to the atoms of one species."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
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
from harmose.kernel_regression.ridge import N_DRAWS, NOTHING, FeatureSpace, KernelFit, Outermost, fit_kernel
from harmose.kernel_regression.training import Training
from harmose.representation.layout import OnsiteLayout

NEARNESS = np.exp(-GAUSSIAN_CENTRES / 2.0)
"""Prior standard deviations of the weights of Gaussians in the distance: what a neighbour adds decays over 2 angstrom. Without
it, a neighbour further than all of the training set would count as if anything might come from it."""


class Part(NamedTuple):
    """Components that are fitted together: irreps of one degree and parity."""

    degree: int
    parity: int


@dataclass(frozen=True)
class AtomFeatures:
    """Features of the atoms of one species in any graph.

    Attributes:
        layout: layout of the on-site blocks.
        kernels: by species of the neighbour, kernels with sparse atoms; empty without kernel.
        neighbours: species of neighbours that have functions of the distance.
        scale, shift: by degree, what the terms in the density of H0 are divided by, and what is subtracted before (F',); empty
            where they are not read.
    """

    layout: OnsiteLayout
    kernels: "Mapping[int, AtomKernel]"
    neighbours: tuple[int, ...]
    scale: Mapping[int, np.ndarray]
    shift: Mapping[int, np.ndarray]

    def linear(self, graph: Neighbourhoods, atoms: np.ndarray, terms: AtomTerms | None, part: Part) -> np.ndarray:
        """Return the linear features (N (2l+1), F) of a part; `terms`: those of the atoms, where the density is read."""
        degree, parity = part
        out = [distance_sums(graph, atoms, degree, self.neighbours if parity > 0 else ())]
        if terms is not None and parity > 0:
            out.append((terms.terms(degree)[0] - self.shift[degree]) / self.scale[degree])
        x = np.concatenate(out, -1)
        return x.reshape(len(atoms) * (2 * degree + 1), x.shape[-1])

    def regression(self, mean: np.ndarray, fits: Mapping[Part, tuple[FeatureSpace, np.ndarray]]) -> AtomRegression:
        """Return the regression with the weights of the parts that were fitted.

        Args:
            mean: mean of the scalars (K_proper,), which was subtracted from the targets.
            fits: features of each part, and columns of weights (F, N_DRAWS + K): draws, which count for the scalars, and weights.
        """
        irreps, n, average, draws = self.layout.irreps, len(mean), mean, None
        width = sum(len(x.columns) for x in irreps)
        orders = range(max(x.degree for x in irreps) + 1)
        kernel = {b: {m: np.zeros((k.n_rows(m), N_DRAWS + width)) for m in orders} for b, k in self.kernels.items()}
        linear, electronic = {}, {}
        for degree, parity, columns, place in irreps:
            if Part(degree, parity) not in fits:
                continue
            space, weights = fits[Part(degree, parity)]
            own, sparse_weights = space.split(weights)
            drawn, own = np.split(own, [N_DRAWS], axis=1)
            neighbours = self.neighbours if parity > 0 else ()
            by_neighbour = {b: slice(k * N_GAUSSIANS, (k + 1) * N_GAUSSIANS) for k, b in enumerate(neighbours)}
            rest = slice(len(neighbours) * N_GAUSSIANS, None)
            for b, rows in by_neighbour.items():
                full = linear.setdefault((degree, b), np.zeros((N_GAUSSIANS, n)))
                full[:, columns] = NEARNESS[:, None] * own[rows]
            if len(own[rest]):
                electronic[degree] = np.zeros((len(own[rest]), n))
                electronic[degree][:, columns] = own[rest] / self.scale[degree][:, None]
                if degree == 0:
                    mean = mean - self.shift[degree] @ electronic[degree]
            for b, one in self.kernels.items():
                for m, x in one.edge_weights(degree, parity, sparse_weights[:, N_DRAWS:]).items():
                    kernel[b][m][:, N_DRAWS + np.asarray(place)] = x
            if degree == 0 and parity > 0:  # the draws are functions of the scalars' features
                terms = drawn[rest] / self.scale[0][:, None] if self.scale else drawn[rest]
                shift = self.shift[0] @ terms if self.scale else np.zeros(N_DRAWS)
                draws = AtomDraws(
                    {b: NEARNESS[:, None] * drawn[rows] for b, rows in by_neighbour.items()}, terms, shift
                )
                for b, one in self.kernels.items():
                    kernel[b][0][:, :N_DRAWS] = one.edge_weights(0, 1, sparse_weights[:, :N_DRAWS])[0]
        n_proper = N_DRAWS + sum(len(x.columns) for x in irreps if x.parity > 0)
        expansions = {b: KernelExpansion(one.sparse_points, kernel[b], n_proper) for b, one in self.kernels.items()}
        return AtomRegression(mean, linear, expansions, electronic, draws, average)


class AtomRows:
    """Features of some atoms (N,) of one species in a graph; kernels and terms are computed once."""

    def __init__(self, features: AtomFeatures, graph: Neighbourhoods, atoms: np.ndarray) -> None:
        self.features, self.graph, self.atoms = features, graph, atoms

    def linear(self, part: Part) -> np.ndarray:
        """Return the linear features (N (2l+1), F) of a part."""
        return self.features.linear(self.graph, self.atoms, self._terms, part)

    def kernel(self, part: Part) -> np.ndarray | None:
        """Return the kernels (N (2l+1), R (2l+1)) of a part between the atoms and the sparse atoms; None without kernel."""
        if not self.features.kernels:
            return None
        if self._matrices is not None:
            return self._matrices[part]
        size, n_sparse = 2 * part.degree + 1, next(iter(self.features.kernels.values())).sparse.n_atoms
        out = np.zeros((len(self.atoms) * size, n_sparse * size))
        for b, (edges, kernels) in self._kernels.items():
            out += self.features.kernels[b].matrix(edges, kernels, *part)
        return out

    @cached_property
    def _matrices(self) -> dict[Part, np.ndarray] | None:
        """Kernels of all parts, where those between all edges do not fit into memory; these are then computed in pieces."""
        edges = self.graph.atom_edges(self.atoms).weighted()
        orders = 2 + 4 * max(x.degree for x in self.features.layout.irreps)
        sparse_edges = {b: len(one.sparse.edges) for b, one in self.features.kernels.items()}
        species = edges.neighbour_species
        size = sum(int((species == b).sum()) * n * orders for b, n in sparse_edges.items())
        if size <= self.graph.settings.kernel_numbers:
            return None
        n_pieces = min(-(-4 * size // self.graph.settings.kernel_numbers), len(self.atoms))
        pieces = [AtomRows(self.features, self.graph, some) for some in np.array_split(self.atoms, n_pieces)]
        out: dict[Part, list[np.ndarray]] = {}
        for piece in pieces:
            piece._matrices = None  # one atom may have more edges than fit
            for degree, parity, *_ in self.features.layout.irreps:
                found = piece.kernel(Part(degree, parity))
                out.setdefault(Part(degree, parity), []).append(np.zeros(0) if found is None else found)
            piece._kernels.clear()
        return {part: np.concatenate(parts) for part, parts in out.items()}

    @cached_property
    def _terms(self) -> AtomTerms | None:
        return AtomTerms(self.graph, require_charges(self.graph), self.atoms) if self.features.scale else None

    @cached_property
    def _kernels(self) -> dict[int, tuple[AtomEdges, list[np.ndarray]]]:
        edges = self.graph.atom_edges(self.atoms).weighted()
        parts = ((b, edges[rows]) for b, rows in rows_by_key(edges.neighbour_species) if b in self.features.kernels)
        return {b: (part, self.features.kernels[b].kernels(part)) for b, part in parts}


def _n_components(layout: OnsiteLayout) -> int:
    """Numbers of the kernels of all parts between two atoms."""
    return sum((2 * x.degree + 1) ** 2 for x in layout.irreps)


def distance_sums(graph: Neighbourhoods, atoms: np.ndarray, degree: int, neighbours: tuple[int, ...]) -> np.ndarray:
    """Return sums of Gaussians in the distance over neighbours of each species: (N, 2l+1, F)."""
    parts, edges = [np.zeros((len(atoms), 2 * degree + 1, 0))], graph.atom_edges(atoms)
    for neighbour in neighbours:
        some = edges[np.flatnonzero(edges.neighbour_species == neighbour)]
        axes = graph.axis_to_global(some.edges, degree)
        radial = radial_gaussians(some.distance) * NEARNESS * some.taper[:, None]
        parts.append(some.sum(axes[:, :, None] * radial[:, None]))
    return np.concatenate(parts, -1)


class AtomFit:
    """One species."""

    def __init__(
        self, graph: Neighbourhoods, training: Training, shell_type: int, atoms: np.ndarray, targets: np.ndarray
    ):
        self.graph, self.settings = graph, training.settings
        self.layout = training.space.onsite_layout(shell_type)
        self.grid = training.hyperparameters
        self.parameters, self.n_components = ATOM_KERNEL, self.settings.sparse_components
        if training.many_molecules:
            self.parameters = MANY_MOLECULES_ATOM_KERNEL
            self.n_components = self.settings.sparse_components_many_molecules
        self.more = 1.0  # sparse points, in proportion to those of pairs
        if training.is_part and not training.many_molecules:
            pairs = training.sparse_points or self.settings.sparse_edges_in_parts
            self.more = max(pairs / self.settings.sparse_edges, 1.0)
            self.n_components = int(self.more * self.n_components)
        self.robust = training.many_molecules
        self.has_kernel = training.sparse_points != 0
        n_sparse = self.n_components // (2 * max(x.degree for x in self.layout.irreps) + 1)
        most = max(self.settings.first_fit_numbers // (n_sparse * _n_components(self.layout)), n_sparse)
        if training.is_part and self.has_kernel and len(atoms) > most:
            chosen = np.sort(np.random.default_rng(shell_type).permutation(len(atoms))[:most])
            atoms, targets = atoms[chosen], targets[chosen]
        self.atoms, self.targets, self.sample = atoms, targets, training.atom_sample[atoms]
        self.is_part = training.is_part

    def run(self, kind: str, generator: np.random.Generator) -> "AtomFitResult":
        """Return the regression, and leave-one-group-out predictions; the mean of the scalars is that of all samples."""
        n = self.layout.n_proper
        mean = self.targets[:, 0, :n].mean(0) * self.layout.mask[0, :n]
        leave_one_out = np.zeros_like(self.targets)
        leave_one_out[:, 0, :n] = mean
        variance, outermost = np.zeros(len(self.atoms)), NOTHING
        if kind != "kernel":
            regression = AtomRegression(mean, {}, {})
            return AtomFitResult(regression, leave_one_out, variance, outermost, mean, None, {})
        features, grid, fits = self._features(generator), self.grid, {}
        rows = AtomRows(features, self.graph, self.atoms)
        for degree, parity, columns, _ in self.layout.irreps:
            part, size = Part(degree, parity), 2 * degree + 1
            slots = slice(degree**2, (degree + 1) ** 2)
            known = leave_one_out[:, slots][..., columns]
            y, x, sample = self.targets[:, slots][..., columns] - known, rows.linear(part), np.repeat(self.sample, size)
            blocks = self._blocks(rows, part)
            if blocks is None and not x.shape[1]:
                continue
            flat = y.reshape(len(sample), -1)
            fit = fit_kernel(x, blocks, flat, sample, grid, self.settings, robust=self.robust)
            fits[part], grid = fit, (fit.best,)
            leave_one_out[:, slots, columns] += fit.leave_one_out.reshape(y.shape)
            if degree == 0 and parity > 0:
                variance, outermost = fit.variance, fit.outermost
                outermost = outermost._replace(predicted=outermost.predicted + known[outermost.rows, 0])
        regression = features.regression(mean, {part: (fit.space, fit.columns) for part, fit in fits.items()})
        return AtomFitResult(regression, leave_one_out, variance, outermost, mean, features, fits)

    def _features(self, generator: np.random.Generator) -> AtomFeatures:
        kernels = self._kernels(generator)
        species = self.graph.atom_edges(self.atoms).neighbour_species
        scale, shift = {}, {}
        if self.graph.charges is not None:
            terms = AtomTerms(self.graph, require_charges(self.graph), self.atoms)
            for degree in {x.degree for x in self.layout.irreps if x.parity > 0}:
                values, sizes = terms.terms(degree)
                # Means of scalars are subtracted.
                shift[degree] = values.mean((0, 1)) if degree == 0 else np.zeros(values.shape[-1])
                scale[degree] = scale_to_unit_rms(values - shift[degree])[1] / sizes
        neighbours = tuple(np.flatnonzero(np.bincount(species)).tolist())
        return AtomFeatures(self.layout, kernels, neighbours, scale, shift)

    def _kernels(self, generator: np.random.Generator) -> "dict[int, AtomKernel]":
        """Return the kernel for each species of neighbours; none where they would have too few sparse points."""
        edges = self.graph.atom_edges(self.atoms).weighted()
        n = 3 * self.settings.kernel_elements * len(self.atoms) // max(len(edges.edges) ** 2, 1)
        if self.is_part:
            n_edges = int(self.more * self.settings.sparse_edges_of_atoms)
            n = max(n_edges * len(self.atoms) // max(len(edges.edges), 1), 1)
        if not self.has_kernel or n < min(self.settings.sparse_atoms, len(self.atoms)):
            return {}
        orders = max(x.degree for x in self.layout.irreps)
        n = min(n, self.n_components // (2 * orders + 1))
        self.sparse_atoms = np.sort(generator.permutation(len(self.atoms))[:n])
        return {
            b: AtomKernel(edges[rows], self.sparse_atoms, self.parameters, orders)
            for b, rows in rows_by_key(edges.neighbour_species)
        }

    def _blocks(self, rows: AtomRows, part: Part) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the kernel between all irreps and those of sparse atoms, and between the latter."""
        total = rows.kernel(part)
        if total is None:
            return None
        size = 2 * part.degree + 1
        return total, total[(self.sparse_atoms[:, None] * size + np.arange(size)).ravel()]


class AtomFitResult(NamedTuple):
    """Result of `AtomFit.run`.

    Attributes:
        regression: the regression of a species.
        leave_one_out: predictions by a fit to all other samples (N, (l_max+1)^2, K) in eV.
        variance: their variances in units of the noise's (N,).
        outermost: of the scalars.
        mean: mean of the scalars, which was subtracted before the fit (K_proper,).
        features: the features of the regression; None for the mean alone.
        fits: the fit of each part.
    """

    regression: AtomRegression
    leave_one_out: np.ndarray
    variance: np.ndarray
    outermost: Outermost
    mean: np.ndarray
    features: AtomFeatures | None
    fits: Mapping[Part, KernelFit]


class AtomKernel:
    """Kernels between atoms and sparse atoms through their edges to one species of neighbours.

    `K(A, A') = sum_{e of A, e' of A'} s_e D_e^T K_M(e, e') D_e' s_e'` with the weights s of edges.
    """

    def __init__(self, edges: AtomEdges, sparse_atoms: np.ndarray, parameters: KernelParameters, orders: int) -> None:
        """Take the sparse atoms from those that the edges leave, given by their rows."""
        graph, self.orders = edges.graph, orders
        place = np.full(edges.n_atoms, -1)
        place[sparse_atoms] = np.arange(len(sparse_atoms))
        chosen = edges[np.flatnonzero(place[edges.rows] >= 0)]
        self.sparse = AtomEdges(graph, chosen.edges, place[chosen.rows], chosen.weights, len(sparse_atoms))
        triangles = graph.triangles(chosen.edges)
        self.sparse_points = SparsePoints.from_triangles(triangles, chosen.distance, graph.n_species, parameters)
        self._turn = cache(lambda degree, parity, order: _turn(self.sparse, degree, parity, order))

    def n_rows(self, order: int) -> int:
        """Return the number of weights of an order: one or two for each sparse edge."""
        return len(self.sparse.edges) * (1 if order == 0 else 2)

    def kernels(self, edges: AtomEdges) -> list[np.ndarray]:
        """Return the kernels between edges and sparse edges by order, as `edge_kernels` does."""
        graph = edges.graph
        descriptors = graph.edge_descriptors(edges.edges, self.sparse_points.parameters, graph.triangles(edges.edges))
        return edge_kernels(
            descriptors, self.sparse_points.references, range(self.orders + 1), graph.settings.kernel_block
        )

    def matrix(self, edges: AtomEdges, kernels: list[np.ndarray], degree: int, parity: int) -> np.ndarray:
        """Return the kernel between irreps of all atoms of edges and those of sparse atoms (N (2l+1), R (2l+1))."""
        out = 0
        for m in range(degree + 1):
            kernel = kernels[0][0 if parity > 0 else 1] if m == 0 else kernels[m]
            left, right = _turn(edges, degree, parity, m), self._turn(degree, parity, m)
            out = out + (right @ (left @ kernel).T).T
        return np.asarray(out)

    def edge_weights(self, degree: int, parity: int, weights: np.ndarray) -> dict[int, np.ndarray]:
        """Turn weights of irreps of sparse atoms (R (2l+1), K) into weights of their edges, by order."""
        return {m: self._turn(degree, parity, m).T @ weights for m in range(degree + 1)}


def _turn(edges: AtomEdges, degree: int, parity: int, order: int) -> sparse.csr_matrix:
    """Return the matrix from SO(2) features of edges to irreps of atoms (N (2l+1), E or 2E)."""
    slots = [0] if order == 0 else [2 * order - 1, 2 * order]
    values = edges.graph.to_global(edges.edges, degree, parity)[slots] * edges.weights[:, None]
    size, n_edges = 2 * degree + 1, len(edges.edges)
    row = np.broadcast_to(edges.rows[:, None] * size + np.arange(size), values.shape)
    column = np.broadcast_to(np.arange(len(slots) * n_edges).reshape(len(slots), n_edges, 1), values.shape)
    shape = (edges.n_atoms * size, len(slots) * n_edges)
    return sparse.csr_matrix((values.ravel(), (row.ravel(), column.ravel())), shape=shape)
