"""The regression of one pair type, and of the atoms of one species: linear terms and kernel expansions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.kernel_regression.descriptors import (
    N_THREE_CENTRE,
    Triangles,
    edge_gaussians,
    reverse_potentials,
    side_potentials,
    three_centre_weights,
)
from harmose.kernel_regression.electronic_terms import AtomTerms, pair_terms
from harmose.kernel_regression.expansion import KernelExpansion, add_order, nonzero_columns
from harmose.kernel_regression.neighbourhoods import N_GAUSSIANS, AtomEdges, Neighbourhoods, radial_gaussians
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.layout import OnsiteLayout
from harmose.so3.harmonics import degree_of_slot


@dataclass(frozen=True)
class PairRegression:
    """Regression of the blocks of one pair type, K irreps.

    The first `n_draws` columns of all weights are draws of the posterior (`ridge`), scalars; the others are those of the irreps.

    Attributes:
        linear: by order M, weights (F, K) of three-centre terms and functions of the distance, or of the latter alone.
        kernel_expansion: kernel terms, or None.
        electronic: by order M, weights (F', K) of terms in the density and charges of H0; empty where they are not read.
        n_draws: number of draws; 0 in models older than version 4.
    """

    linear: Mapping[int, np.ndarray]
    kernel_expansion: KernelExpansion | None = None
    electronic: Mapping[int, np.ndarray] = field(default_factory=dict)
    n_draws: int = 0

    def values(self, graph: Neighbourhoods, edges: np.ndarray, n_slots: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the coefficients (E, slots, K) of directed pairs (E,) in eV, and their variances (E,)."""
        return self._split(self._values(graph, [edges], n_slots)[0])

    def both_values(
        self, graph: Neighbourhoods, pairs: np.ndarray, n_slots: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the coefficients of pairs (P,) and of the reversed pairs, and the mean of their variances (P,)."""
        if graph.same_from_both_ends:
            both = self._values(graph, [pairs, pairs + graph.n_pairs], n_slots)
        else:
            both = [self._values(graph, [edges], n_slots)[0] for edges in (pairs, pairs + graph.n_pairs)]
        (forward, v), (backward, w) = (self._split(x) for x in both)
        return forward, backward, (v + w) / 2

    def _split(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return raw[..., self.n_draws :], variance_of_draws(raw[:, 0, : self.n_draws])

    def _values(self, graph: Neighbourhoods, directions: list[np.ndarray], n_slots: int) -> list[np.ndarray]:
        out = [np.zeros((len(directions[0]), n_slots, self.linear[0].shape[1])) for _ in directions]
        for _, rows in graph.edge_chunks(directions[0]):
            self._add([x[rows] for x in out], graph, [edges[rows] for edges in directions])
        return out

    def _add(self, out: list[np.ndarray], graph: Neighbourhoods, directions: list[np.ndarray]) -> None:
        """Add the values at some edges and, if there are two directions, those at the same edges reversed."""
        edges = directions[0]
        distance = graph.pairs.distance[edges]
        radial = radial_gaussians(distance) @ self.linear[0][-N_GAUSSIANS:]
        for x in out:
            x[:, 0] += radial
        # The density and H0 describe the potential better than three-centre terms of the structure do.
        has_three_centre = len(self.linear[0]) > N_GAUSSIANS and not self.electronic
        if has_three_centre or self.kernel_expansion is not None:
            triangles = graph.triangles(edges)
            if has_three_centre:
                self._add_three_centre(out, distance, triangles)
            if self.kernel_expansion is not None:
                parameters = self.kernel_expansion.sparse_points.parameters
                self.kernel_expansion.add(out, graph.edge_descriptors(edges, parameters, triangles))
        if self.electronic:
            terms = pair_terms(graph, require_charges(graph), np.concatenate(directions), len(self.electronic) - 1)
            for m, weights in self.electronic.items():
                values = (terms[m] @ weights).reshape(-1, len(directions), *out[0][:, 0].shape)
                for k, x in enumerate(out):
                    add_order(x, m, np.arange(x.shape[2]), values[:, k].reshape(-1, x.shape[2]))

    def _add_three_centre(self, out: list[np.ndarray], distance: np.ndarray, triangles: Triangles) -> None:
        weights_by_order = self._three_centre_weights
        potentials = side_potentials(triangles, len(distance), self._n_species, len(weights_by_order) - 1)
        along = edge_gaussians(distance)
        for x in out:
            for m, (columns, weights) in enumerate(weights_by_order):
                rows = potentials[0] if m == 0 else potentials[2 * m - 1 : 2 * m + 1]
                values = (rows.reshape(-1, len(weights)) @ weights).reshape(-1, *along.shape, len(columns))
                add_order(x, m, columns, np.einsum("seak,ea->sek", values, along).reshape(-1, len(columns)))
            if x is not out[-1]:
                potentials = reverse_potentials(potentials, distance)

    @property
    def _n_species(self) -> int:
        return (len(self.linear[0]) - N_GAUSSIANS) // N_THREE_CENTRE

    @cached_property
    def _three_centre_weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Columns of each order that are not all zero, and their weights as in `three_centre_weights`."""
        weights = {m: w[: self._n_species * N_THREE_CENTRE] for m, w in self.linear.items()}
        return [(columns, three_centre_weights(w, self._n_species)) for columns, w in nonzero_columns(weights)]


def variance_of_draws(values: np.ndarray) -> np.ndarray:
    """Return the variance (E,) from the values of draws of the posterior (E, N); zero without draws."""
    return np.einsum("en,en->e", values, values) / max(values.shape[1], 1)


@dataclass(frozen=True)
class AtomDraws:
    """Draws of the posterior of a species' scalars, which give the variance of its regression.

    Attributes:
        linear: by species of the neighbour, weights (N_GAUSSIANS, N) of functions of the distance.
        electronic: weights (F', N) of terms in the density and charges of H0, without rows where they are not read.
        shift: subtracted from the draws (N,), since the terms of the fit were centred.
    """

    linear: Mapping[int, np.ndarray]
    electronic: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class AtomRegression:
    """Regression of the on-site blocks of one species; `K_proper` columns of proper irreps.

    Attributes:
        mean: constant part of the scalars (K_proper,).
        linear: by degree and species of the neighbour, weights (N_GAUSSIANS, K_proper) of functions of the distance.
        kernel_expansions: by species of the neighbour, with one column for each of `OnsiteLayout.irreps`, after those of the draws.
        electronic: by degree, weights (F', K_proper) of terms in the density and charges of H0; empty where they are not read.
        draws: draws of the posterior; None for a mean alone, and in models older than version 4.
        average: mean of the scalars in the training set (K_proper,); None where it is `mean`.
    """

    mean: np.ndarray
    linear: Mapping[tuple[int, int], np.ndarray]
    kernel_expansions: Mapping[int, KernelExpansion]
    electronic: Mapping[int, np.ndarray] = field(default_factory=dict)
    draws: AtomDraws | None = None
    average: np.ndarray | None = None

    @property
    def n_draws(self) -> int:
        """Number of draws of the posterior."""
        return 0 if self.draws is None else len(self.draws.shift)

    def mean_values(self, n_atoms: int, layout: OnsiteLayout) -> np.ndarray:
        """Return the average as coefficients (N, (l_max+1)^2, K) in eV."""
        out = np.zeros((n_atoms, *layout.mask.shape))
        out[:, 0, : len(self.mean)] = self.mean if self.average is None else self.average
        return out

    def values(self, graph: Neighbourhoods, atoms: np.ndarray, layout: OnsiteLayout) -> tuple[np.ndarray, np.ndarray]:
        """Return the coefficients (N, (l_max+1)^2, K) of atoms (N,) in eV, and their variances (N,)."""
        out, drawn = np.zeros((len(atoms), *layout.mask.shape)), np.zeros((len(atoms), self.n_draws))
        out[:, 0, : len(self.mean)] = self.mean
        if self.draws is not None:
            drawn -= self.draws.shift
        if self.electronic:
            terms = AtomTerms(graph, require_charges(graph), atoms)
            for degree, weights in self.electronic.items():
                values = terms.terms(degree)[0]
                out[:, degree**2 : (degree + 1) ** 2, : len(self.mean)] += values @ weights
                if degree == 0 and self.draws is not None:
                    drawn += values[:, 0] @ self.draws.electronic
        if self.linear or self.kernel_expansions:
            edges = graph.atom_edges(atoms)
            if self.linear:
                self._add_linear(out, drawn, edges)
            if self.kernel_expansions:
                self._add_kernel(out, drawn, edges.weighted(), layout)
        return out, variance_of_draws(drawn)

    def _add_linear(self, out: np.ndarray, drawn: np.ndarray, edges: AtomEdges) -> None:
        degree = degree_of_slot(max(degree for degree, _ in self.linear))
        radial = radial_gaussians(edges.distance) * edges.taper[:, None]
        values = np.zeros((len(edges.edges), degree[-1] + 1, len(self.mean)))
        draws = np.zeros((len(edges.edges), drawn.shape[1]))
        for neighbour, rows in rows_by_key(edges.neighbour_species):
            if neighbour in self._linear_by_neighbour:
                weights = self._linear_by_neighbour[neighbour]
                values[rows] = (radial[rows] @ weights).reshape(-1, *values.shape[1:])
            if self.draws is not None and neighbour in self.draws.linear:
                draws[rows] = radial[rows] @ self.draws.linear[neighbour]
        axes = edges.graph.axes(edges.edges)[:, : len(degree)]
        out[:, : len(degree), : len(self.mean)] += edges.sum(axes[:, :, None] * values[:, degree])
        drawn += edges.sum(draws)

    @cached_property
    def _linear_by_neighbour(self) -> dict[int, np.ndarray]:
        """`linear` of all degrees side by side, by species of the neighbour: (N_GAUSSIANS, degrees K_proper)."""
        shape = (N_GAUSSIANS, max(degree for degree, _ in self.linear) + 1, len(self.mean))
        out = {}
        for (degree, neighbour), weights in self.linear.items():
            out.setdefault(neighbour, np.zeros(shape))[:, degree] = weights
        return {neighbour: weights.reshape(N_GAUSSIANS, -1) for neighbour, weights in out.items()}

    def _add_kernel(self, out: np.ndarray, drawn: np.ndarray, edges: AtomEdges, layout: OnsiteLayout) -> None:
        values, n = self._kernel_values(edges), self.n_draws
        drawn += edges.sum(values[:, 0, :n] * edges.weights[:, None])
        for degree, parity, columns, place in layout.irreps:
            to_global = edges.graph.to_global(edges.edges, degree, parity) * edges.weights[:, None]
            slots = values[:, : 2 * degree + 1, n + np.asarray(place)]
            out[:, degree**2 : (degree + 1) ** 2, columns] += edges.sum(to_global.transpose(1, 2, 0) @ slots)

    def _kernel_values(self, edges: AtomEdges) -> np.ndarray:
        """Values of `kernel_expansions` at edges to any neighbours (E, slots, K); all have the same kernel parameters."""
        graph, one = edges.graph, next(iter(self.kernel_expansions.values()))
        out = np.zeros((len(edges.edges), 2 * len(one.weights) - 1, one.weights[0].shape[1]))
        species = edges.neighbour_species
        for part, rows in graph.edge_chunks(edges.edges):
            descriptors = graph.edge_descriptors(part, one.sparse_points.parameters, graph.triangles(part))
            for neighbour, chosen in rows_by_key(species[rows]):
                if neighbour in self.kernel_expansions:
                    some = slice(None) if len(chosen) == len(part) else chosen  # a slice copies nothing
                    values = out[rows][some]
                    self.kernel_expansions[neighbour].add([values], descriptors[some])
                    out[rows][some] = values
        return out


def require_charges(graph: Neighbourhoods) -> ChargeFeatures:
    """Return the charge features of a graph; `ModelError` if it has none."""
    if graph.charges is None:
        raise ModelError("the regression reads the density of H0: expected H0 and S, got none")
    return graph.charges
