"""What the closed form says of one kind of pair and of the atoms of one species (`regression`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.kernel_regression.descriptors import (
    Triangles,
    along_edge,
    potentials,
    potentials_from_the_other_end,
    three_centre_weights,
)
from harmose.kernel_regression.electronic_terms import AtomTerms, pair_terms
from harmose.kernel_regression.expansion import ENVIRONMENT, KernelExpansion, add_order, in_turn, some_columns
from harmose.kernel_regression.neighbourhoods import (
    N_GAUSSIANS,
    Neighbourhood,
    Neighbourhoods,
    neighbourhood,
    radial_gaussians,
    shared,
    turned_back,
)
from harmose.representation.charge_features import ChargeFeatures


@dataclass(frozen=True)
class PairRegression:
    """Of one kind of pair: `linear[M]` (F, K), of three-centre terms and the distance or of the distance alone; `many_body` None
    without references; `electronic[M]` (F', K) where H0 is read.
    """

    linear: Mapping[int, np.ndarray]
    many_body: KernelExpansion | None = None
    electronic: Mapping[int, np.ndarray] = field(default_factory=dict)

    def values(self, graph: Neighbourhoods, edges: np.ndarray, n_slots: int) -> np.ndarray:
        """Directed edges -> layout (E, S, K)."""
        return self._values(graph, [edges], n_slots)[0]

    def both_values(self, graph: Neighbourhoods, pairs: np.ndarray, n_slots: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of pairs ahead, and of the pairs reversed."""
        if not graph.same_from_both_ends:
            return self.values(graph, pairs, n_slots), self.values(graph, pairs + graph.n_pairs, n_slots)
        ahead, back = self._values(graph, [pairs, pairs + graph.n_pairs], n_slots)
        return ahead, back

    def _values(self, graph: Neighbourhoods, sides: list[np.ndarray], n_slots: int) -> list[np.ndarray]:
        out = [np.zeros((len(sides[0]), n_slots, self.linear[0].shape[1])) for _ in sides]
        for _, rows in in_turn(sides[0], ENVIRONMENT * graph.n_species):
            self._add([x[rows] for x in out], graph, [edges[rows] for edges in sides])
        return out

    def _add(self, out: list[np.ndarray], graph: Neighbourhoods, sides: list[np.ndarray]) -> None:
        """To the values of some edges, and of the same reversed if there are two sides."""
        distance = graph.pairs.distance[sides[0]]
        radial = radial_gaussians(distance) @ self.linear[0][-N_GAUSSIANS:]
        for x in out:
            x[:, 0] += radial
        # P and H0 say more of the potential than three-centre terms of the structure do.
        three_centre = len(self.linear[0]) > N_GAUSSIANS and not self.electronic
        if three_centre or self.many_body is not None:
            triangles = graph.triangles(sides[0])
            if three_centre:
                self._add_three_centre(out, graph.n_species, distance, triangles)
            if self.many_body is not None:
                likeness = self.many_body.references.likeness
                self.many_body.add(out, graph.environments(sides[0], likeness, triangles))
        if self.electronic:
            terms = pair_terms(graph, known_electrons(graph), np.concatenate(sides), len(self.electronic) - 1)
            for m, weights in self.electronic.items():
                found = (terms[m] @ weights).reshape(-1, len(sides), *out[0][:, 0].shape)
                for k, x in enumerate(out):
                    add_order(x, m, np.arange(x.shape[2]), found[:, k].reshape(-1, x.shape[2]))

    def _add_three_centre(
        self, out: list[np.ndarray], n_species: int, distance: np.ndarray, triangles: Triangles
    ) -> None:
        known = self._three_centre(n_species)
        seen = potentials(triangles, len(distance), n_species, len(known) - 1)
        along = along_edge(distance)
        for x in out:
            for m, (columns, weights) in enumerate(known):
                mine = seen[0] if m == 0 else seen[2 * m - 1 : 2 * m + 1]
                found = (mine.reshape(-1, len(weights)) @ weights).reshape(-1, *along.shape, len(columns))
                add_order(x, m, columns, np.einsum("seak,ea->sek", found, along).reshape(-1, len(columns)))
            if x is not out[-1]:
                seen = potentials_from_the_other_end(seen, distance)

    def _three_centre(self, n_species: int) -> list[tuple[np.ndarray, np.ndarray]]:
        if "three_centre" not in self._ready:
            weights = {m: w[: len(w) - (N_GAUSSIANS if m == 0 else 0)] for m, w in self.linear.items()}
            self._ready["three_centre"] = [
                (columns, three_centre_weights(w, n_species)) for columns, w in some_columns(weights)
            ]
        return self._ready["three_centre"]

    @cached_property
    def _ready(self) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        return {}


@dataclass(frozen=True)
class AtomRegression:
    """Of one species: `mean` (K_natural,) of its scalars; `linear[degree, neighbour]` (N_GAUSSIANS, K_natural);
    `many_body[neighbour]` with a column for every row and column of the layout that exists (`atom_columns`);
    `electronic[degree]` (F', K_natural) where H0 is read.
    """

    mean: np.ndarray
    linear: Mapping[tuple[int, int], np.ndarray]
    many_body: Mapping[int, KernelExpansion]
    electronic: Mapping[int, np.ndarray] = field(default_factory=dict)

    def values(self, graph: Neighbourhoods, atoms: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Atoms -> layout (N, (l_max+1)^2, K)."""
        out = np.zeros((len(atoms), *mask.shape))
        out[:, 0, : len(self.mean)] = self.mean
        if self.electronic:
            terms = AtomTerms(graph, known_electrons(graph), atoms)
            for degree, weights in self.electronic.items():
                out[:, degree**2 : (degree + 1) ** 2, : len(self.mean)] += terms.of(degree)[0] @ weights
        if not self.linear and not self.many_body:
            return out
        around = neighbourhood(graph, atoms)
        if self.linear:
            self._add_linear(out, graph, around)
        if self.many_body:
            self._add_many_body(out, graph, shared(graph, around), mask)
        return out

    def _add_linear(self, out: np.ndarray, graph: Neighbourhoods, around: Neighbourhood) -> None:
        weights, degree = self._by_neighbour, self._degrees
        radial = radial_gaussians(graph.pairs.distance[around.edges])
        seen = np.zeros((len(around.edges), degree[-1] + 1, len(self.mean)))
        for neighbour, rows in rows_by_key(graph.pairs.neighbour_species[around.edges]):
            if neighbour in weights:
                seen[rows] = (radial[rows] @ weights[neighbour]).reshape(-1, *seen.shape[1:])
        axes = graph.axes(around.edges)[:, : len(degree)]
        out[:, : len(degree), : len(self.mean)] += around.gather(axes[:, :, None] * seen[:, degree])

    @cached_property
    def _degrees(self) -> np.ndarray:
        """Of each component l m up to the largest degree of `linear`."""
        degrees = np.arange(max(degree for degree, _ in self.linear) + 1)
        return np.repeat(degrees, 2 * degrees + 1)

    @cached_property
    def _by_neighbour(self) -> dict[int, np.ndarray]:
        """`linear` of all degrees side by side, by the species of the neighbour: (N_GAUSSIANS, degrees K_natural)."""
        out = {}
        for (degree, neighbour), weights in self.linear.items():
            shape = (N_GAUSSIANS, self._degrees[-1] + 1, len(self.mean))
            out.setdefault(neighbour, np.zeros(shape))[:, degree] = weights
        return {neighbour: weights.reshape(N_GAUSSIANS, -1) for neighbour, weights in out.items()}

    def _columns(self, mask: np.ndarray) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
        if "columns" not in self._ready:
            self._ready["columns"] = atom_columns(mask, len(self.mean))
        return self._ready["columns"]

    @cached_property
    def _ready(self) -> dict[str, list[tuple[int, int, np.ndarray, np.ndarray]]]:
        return {}

    def _add_many_body(self, out, graph: Neighbourhoods, around: Neighbourhood, mask) -> None:
        seen = self._fields(graph, around.edges)
        for degree, parity, columns, place in self._columns(mask):
            back = turned_back(graph, around.edges, degree, parity) * around.shares[:, None]
            slots = seen[:, : 2 * degree + 1, place]
            rows = slice(degree**2, (degree + 1) ** 2)
            out[:, rows, columns] += around.gather(back.transpose(1, 2, 0) @ slots)

    def _fields(self, graph: Neighbourhoods, edges: np.ndarray) -> np.ndarray:
        """`many_body` of edges to any neighbours, whose surroundings are looked at in one way: slots (E, 2 M + 1, K)."""
        one = next(iter(self.many_body.values()))
        out = np.zeros((len(edges), 2 * len(one.weights) - 1, one.weights[0].shape[1]))
        species = graph.pairs.neighbour_species[edges]
        for part, rows in in_turn(edges, ENVIRONMENT * graph.n_species):
            seen = graph.environments(part, one.references.likeness, graph.triangles(part))
            for neighbour, chosen in rows_by_key(species[rows]):
                if neighbour in self.many_body:
                    mine = slice(None) if len(chosen) == len(part) else chosen  # without a copy where they are all
                    found = out[rows][mine]
                    self.many_body[neighbour].add([found], seen[mine])
                    out[rows][mine] = found
        return out


def known_electrons(graph: Neighbourhoods) -> ChargeFeatures:
    """`ModelError` where they are not known."""
    if graph.charges is None:
        raise ModelError("the closed-form part reads the electrons of H0: expected H0 and S, got none")
    return graph.charges


def atom_columns(mask: np.ndarray, n_proper: int) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """`(degree, parity, columns of the layout, columns of an KernelExpansion)` of the irreps of an on-site layout.

    The field's columns hold all natural irreps, by degree, and then all unnatural ones.
    """
    out, start = [], 0
    for parity in (1, -1):
        for degree in range(round(len(mask) ** 0.5)):
            exists = np.flatnonzero(mask[degree**2])
            columns = exists[exists < n_proper] if parity > 0 else exists[exists >= n_proper]
            if len(columns):
                out.append((degree, parity, columns, np.arange(start, start + len(columns))))
                start += len(columns)
    return out
