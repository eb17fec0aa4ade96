"""The closed-form part of stage 1: a covariant regression of every block, fitted without iterations (`fit`).

Off-site: each component in the edge frame is a ridge regression on functions of the distance and of triangles
(`triangles.three_centre`) and on its likeness to reference edges (`kernel`). On-site: each irrep is one on functions of
the distances to all neighbours, and on the likeness of the atom's edges to those of reference atoms, turned back into the
global frame. Or, of pairs alone: functions of the distance off-site, the mean of the scalars on-site. What is left is for
the network, divided by its root mean square per irrep and a smooth envelope of the distance. All in float64: absolute
accuracy matters at 1e-5 eV beside core levels of -500 eV. The network sees float32 numbers of order one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harmose.closed_form.electronic import AtomTerms, pair_terms
from harmose.closed_form.kernel import Compared, Environments, Likeness, environments, weighted
from harmose.closed_form.novelty import Familiar, features
from harmose.closed_form.surroundings import (
    N_GAUSSIANS,
    Neighbourhood,
    Surroundings,
    neighbourhood,
    radial_gaussians,
    shared,
    turned_back,
)
from harmose.closed_form.triangles import (
    Triangles,
    along_edge,
    from_positions,
    potentials,
    potentials_from_the_other_end,
    three_centre_weights,
)
from harmose.electrons import Electrons
from harmose.errors import ModelError
from harmose.targets import Coefficients, OrientedPairs, TargetSpace

AT_ONCE = 5 * 10**5
"""Numbers of features of edges in memory."""
EDGES_AT_ONCE = 5_000
"""Edges that leave atoms which are worked on together."""
ENVIRONMENT = 1000
"""Numbers for each species that a picture of an edge's surroundings takes, about."""


@dataclass(frozen=True)
class References:
    """Edges of the training set that others are compared with: lengths (R,), and the atoms around: edge (T,), ascending,
    third (T,) species, position (T, 3) in the edge's frame, angstrom.
    """

    distance: np.ndarray
    edge: np.ndarray
    third: np.ndarray
    position: np.ndarray
    n_species: int
    likeness: Likeness

    @staticmethod
    def of(triangles: Triangles, distance: np.ndarray, n_species: int, likeness: Likeness) -> "References":
        """Edges with these triangles."""
        return References(distance, triangles.edge, triangles.third, triangles.position, n_species, likeness)

    @cached_property
    def compared(self) -> Compared:
        triangles = from_positions(self.edge, self.third, self.position, self.distance)
        return Compared(environments(triangles, self.distance, self.n_species, self.likeness))


@dataclass(frozen=True)
class EdgeField:
    """A covariant function of edges, expanded around references: weights[M] (R, K) at M = 0, else (2R, K)."""

    references: References
    weights: Mapping[int, np.ndarray]
    n_natural: int
    """Columns of scalars at M = 0; the others are pseudoscalars."""

    def values(self, graph: Surroundings, edges: np.ndarray) -> np.ndarray:
        """Directed edges (E,) -> slots (E, 2 M + 1, K)."""
        out = np.zeros((len(edges), 2 * len(self.weights) - 1, self.weights[0].shape[1]))
        for part, rows in in_turn(edges, ENVIRONMENT * graph.n_species):
            self.add([out[rows]], graph.environments(part, self.references.likeness, graph.triangles(part)))
        return out

    def add(self, out: list[np.ndarray], seen: Environments) -> None:
        """The same, added to `out[0]` (E, slots, K), of few edges whose surroundings these are; and to `out[1]`, if there is one,
        that of the same edges reversed.
        """
        columns, weights = zip(*self._some)
        sides = weighted(seen, self.references.compared, weights, self.n_natural, both=len(out) == 2)
        for side, orders in zip(out, sides, strict=True):
            for m, found in enumerate(orders):
                _add_order(side, m, columns[m], found)

    @cached_property
    def _some(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return some_columns(self.weights)


@dataclass(frozen=True)
class PairRegression:
    """Of one kind of pair: `linear[M]` (F, K), of three-centre terms and the distance or of the distance alone; `many_body` None
    without references; `electronic[M]` (F', K) where H0 is read.
    """

    linear: Mapping[int, np.ndarray]
    many_body: EdgeField | None = None
    electronic: Mapping[int, np.ndarray] = field(default_factory=dict)

    def values(self, graph: Surroundings, edges: np.ndarray, n_slots: int) -> np.ndarray:
        """Directed edges -> layout (E, S, K)."""
        return self._values(graph, [edges], n_slots)[0]

    def both_values(self, graph: Surroundings, pairs: np.ndarray, n_slots: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of pairs ahead, and of the pairs reversed."""
        if not graph.same_from_both_ends:
            return self.values(graph, pairs, n_slots), self.values(graph, pairs + graph.n_pairs, n_slots)
        ahead, back = self._values(graph, [pairs, pairs + graph.n_pairs], n_slots)
        return ahead, back

    def _values(self, graph: Surroundings, sides: list[np.ndarray], n_slots: int) -> list[np.ndarray]:
        out = [np.zeros((len(sides[0]), n_slots, self.linear[0].shape[1])) for _ in sides]
        for _, rows in in_turn(sides[0], ENVIRONMENT * graph.n_species):
            self._add([x[rows] for x in out], graph, [edges[rows] for edges in sides])
        return out

    def _add(self, out: list[np.ndarray], graph: Surroundings, sides: list[np.ndarray]) -> None:
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
                    _add_order(x, m, np.arange(x.shape[2]), found[:, k].reshape(-1, x.shape[2]))

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
                _add_order(x, m, columns, np.einsum("seak,ea->sek", found, along).reshape(-1, len(columns)))
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


def some_columns(weights: Mapping[int, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each order the columns that are not all zero, and what is in them; up to the last order that has any.

    Irreps of degree L have no component of an order above L. Order 0 keeps all its columns.
    """
    columns = [np.flatnonzero(w.any(0)) if m else np.arange(w.shape[1]) for m, w in sorted(weights.items())]
    last = max(m for m, c in enumerate(columns) if len(c) or m == 0)
    return [(columns[m], np.ascontiguousarray(weights[m][:, columns[m]])) for m in range(last + 1)]


def _add_order(out: np.ndarray, m: int, columns: np.ndarray, values: np.ndarray) -> None:
    """Components of order M, (E, columns) at M = 0, else (2E, columns), into their slots of (E, slots, K)."""
    if m == 0:
        out[:, 0] += values
        return
    out[:, 2 * m - 1, columns] += values[: len(out)]
    out[:, 2 * m, columns] += values[len(out) :]


@dataclass(frozen=True)
class AtomRegression:
    """Of one species: `mean` (K_natural,) of its scalars; `linear[degree, neighbour]` (N_GAUSSIANS, K_natural);
    `many_body[neighbour]` with a column for every row and column of the layout that exists (`atom_columns`);
    `electronic[degree]` (F', K_natural) where H0 is read.
    """

    mean: np.ndarray
    linear: Mapping[tuple[int, int], np.ndarray]
    many_body: Mapping[int, EdgeField]
    electronic: Mapping[int, np.ndarray] = field(default_factory=dict)

    def values(self, graph: Surroundings, atoms: np.ndarray, mask: np.ndarray) -> np.ndarray:
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

    def _add_linear(self, out: np.ndarray, graph: Surroundings, around: Neighbourhood) -> None:
        weights, degree = self._by_neighbour, self._degrees
        radial = radial_gaussians(graph.pairs.distance[around.edges])
        seen = np.zeros((len(around.edges), degree[-1] + 1, len(self.mean)))
        for neighbour, rows in by_value(graph.pairs.neighbour_species[around.edges]):
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

    def _add_many_body(self, out, graph: Surroundings, around: Neighbourhood, mask) -> None:
        seen = self._fields(graph, around.edges)
        for degree, parity, columns, place in self._columns(mask):
            back = turned_back(graph, around.edges, degree, parity) * around.shares[:, None]
            slots = seen[:, : 2 * degree + 1, place]
            rows = slice(degree**2, (degree + 1) ** 2)
            out[:, rows, columns] += around.gather(back.transpose(1, 2, 0) @ slots)

    def _fields(self, graph: Surroundings, edges: np.ndarray) -> np.ndarray:
        """`many_body` of edges to any neighbours, whose surroundings are looked at in one way: slots (E, 2 M + 1, K)."""
        one = next(iter(self.many_body.values()))
        out = np.zeros((len(edges), 2 * len(one.weights) - 1, one.weights[0].shape[1]))
        species = graph.pairs.neighbour_species[edges]
        for part, rows in in_turn(edges, ENVIRONMENT * graph.n_species):
            seen = graph.environments(part, one.references.likeness, graph.triangles(part))
            for neighbour, chosen in by_value(species[rows]):
                if neighbour in self.many_body:
                    mine = slice(None) if len(chosen) == len(part) else chosen  # without a copy where they are all
                    found = out[rows][mine]
                    self.many_body[neighbour].add([found], seen[mine])
                    out[rows][mine] = found
        return out


def known_electrons(graph: Surroundings) -> Electrons:
    """`ModelError` where they are not known."""
    if graph.electrons is None:
        raise ModelError("the closed-form part reads the electrons of H0: expected H0 and S, got none")
    return graph.electrons


def atom_columns(mask: np.ndarray, n_natural: int) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """`(degree, parity, columns of the layout, columns of an EdgeField)` of the irreps of an on-site layout.

    The field's columns hold all natural irreps, by degree, and then all unnatural ones.
    """
    out, start = [], 0
    for parity in (1, -1):
        for degree in range(round(len(mask) ** 0.5)):
            exists = np.flatnonzero(mask[degree**2])
            columns = exists[exists < n_natural] if parity > 0 else exists[exists >= n_natural]
            if len(columns):
                out.append((degree, parity, columns, np.arange(start, start + len(columns))))
                start += len(columns)
    return out


@dataclass(frozen=True)
class Baseline:
    """`pairs[kind]` and `onsite[species]` regressions; scales of what they leave: `pair_scale[kind]` (K + 5,): rms, envelope,
    range; `onsite_scale[species]` ((l_max+1)^2, K), all in eV; and what surroundings they were fitted to."""

    space: TargetSpace
    pairs: Mapping[int, PairRegression]
    onsite: Mapping[int, AtomRegression]
    pair_scale: Mapping[int, np.ndarray] = field(default_factory=dict)
    onsite_scale: Mapping[int, np.ndarray] = field(default_factory=dict)
    domain: Mapping[int, Familiar] = field(default_factory=dict)
    """By species; none for those whose training set does not say."""
    mean_density: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By species, where the electrons of H0 are read."""

    def surroundings(self, oriented: OrientedPairs, electrons: Electrons | None = None) -> Surroundings:
        """What is seen of a graph: made once, and read by any number of threads that each work on a part of it."""
        return Surroundings(self.space, oriented, electrons, self.mean_density)

    def novelty(self, oriented: OrientedPairs) -> np.ndarray:
        """How unfamiliar the surroundings of each atom are (N,), 0 where the domain is not known (`novelty.Familiar`)."""
        return self.novelty_of(self.surroundings(oriented))

    def novelty_of(self, graph: Surroundings, atoms: np.ndarray | None = None) -> np.ndarray:
        """`novelty` of some atoms (N,), or of all."""
        atoms = np.arange(len(graph.oriented.species)) if atoms is None else atoms
        out = np.zeros(len(atoms))
        for species, rows in by_value(graph.oriented.species[atoms]):
            if species in self.domain:
                for part in atoms_in_turn(graph, rows, atoms):
                    out[part] = self.domain[species].novelty(features(graph, atoms[part]))
        return out

    @property
    def reads_electrons(self) -> bool:
        """Whether `values` needs to know what the electrons of H0 do."""
        return any(fit.electronic for fit in self.pairs.values())

    def values(self, oriented: OrientedPairs, electrons: Electrons | None = None) -> Coefficients:
        """The closed-form prediction for a graph, in eV."""
        return self.values_of(self.surroundings(oriented, electrons))

    def values_of(self, graph: Surroundings) -> Coefficients:
        """The same of a graph whose `surroundings` are known."""
        pairs, atoms = graph.oriented.members, graph.oriented.atoms
        return Coefficients(
            {group: self.pair_values(graph, group, members) for group, members in pairs.items()},
            {signature: self.onsite_values(graph, signature, members) for signature, members in atoms.items()},
        )

    def pair_values(self, graph: Surroundings, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """The same of some pairs of a group, (P,) numbers of the graph's pairs: (P, S, K) in eV."""
        layout, kinds = self.space.pair_layout(group), graph.oriented.kind[pairs]
        out = np.zeros((len(pairs), layout.n_slots, layout.n_irreps))
        for kind, rows in by_value(kinds):
            out[rows] = self._pair(graph, kind, group, pairs[rows])
        return torch.as_tensor(out)

    def onsite_values(self, graph: Surroundings, signature: int, atoms: np.ndarray) -> Tensor:
        """The same of some atoms of a signature, (N,) numbers of the graph's atoms: (N, (l_max+1)^2, K) in eV."""
        mask = self.space.onsite_layout(signature).mask
        out = np.zeros((len(atoms), *mask.shape))
        for species, rows in by_value(graph.oriented.species[atoms]):
            fit = self._species(species)
            for part in atoms_in_turn(graph, rows, atoms):
                out[part] = fit.values(graph, atoms[part], mask)
        return torch.as_tensor(out)

    def _pair(self, graph: Surroundings, kind: int, group: tuple[int, int], pairs: np.ndarray) -> np.ndarray:
        if kind not in self.pairs:
            raise ModelError(
                f"the training set holds no pair of elements {self._names(kind)}: the model cannot predict one"
            )
        fit, layout = self.pairs[kind], self.space.pair_layout(group)
        if not is_symmetric(kind, len(self.space.elements)):
            return fit.values(graph, pairs, layout.n_slots)
        column, sign = layout.reversal
        ahead, back = fit.both_values(graph, pairs, layout.n_slots)
        return (ahead + sign * back[..., column]) / 2

    def _species(self, species: int) -> AtomRegression:
        if species not in self.onsite:
            raise ModelError(
                f"the training set holds no element {self.space.elements[species]}: the model cannot predict it"
            )
        return self.onsite[species]

    def scales(self, oriented: OrientedPairs) -> Coefficients:
        """What network outputs are multiplied by, in eV: pairs (P_group, 1, K), onsite (N_signature, (l_max+1)^2, K)."""
        return Coefficients(
            {group: self.pair_scales(oriented, group, members) for group, members in oriented.members.items()},
            {signature: self.onsite_scales(oriented, signature, atoms) for signature, atoms in oriented.atoms.items()},
        )

    def pair_scales(self, oriented: OrientedPairs, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """The same of some pairs of a group: (P, 1, K)."""
        out = np.ones((len(pairs), 1, self.space.pair_layout(group).n_irreps))
        distance = np.linalg.norm(oriented.vectors[pairs], axis=1)
        for kind, rows in by_value(oriented.kind[pairs]):
            out[rows, 0] = scale_at(self.pair_scale[kind], distance[rows])
        return torch.as_tensor(out)

    def onsite_scales(self, oriented: OrientedPairs, signature: int, atoms: np.ndarray) -> Tensor:
        """The same of some atoms of a signature: (N, (l_max+1)^2, K)."""
        out = np.ones((len(atoms), *self.space.onsite_layout(signature).mask.shape))
        for species, rows in by_value(oriented.species[atoms]):
            out[rows] = self.onsite_scale[species]
        return torch.as_tensor(out)

    def _names(self, kind: int) -> str:
        return "-".join(str(self.space.elements[s]) for s in divmod(kind, len(self.space.elements)))


def in_turn(edges: np.ndarray, width: int) -> Iterable[tuple[np.ndarray, slice]]:
    """Parts of the edges whose rows of so many numbers fit into memory, and where they are."""
    step = max(AT_ONCE // max(width, 1), 1)
    return ((edges[start : start + step], slice(start, start + step)) for start in range(0, len(edges), step))


def atoms_in_turn(graph: Surroundings, rows: np.ndarray, atoms: np.ndarray) -> list[np.ndarray]:
    """Parts of `rows` whose `atoms` have few enough edges to be in memory together."""
    _, start = graph.pairs.leaving
    count = np.cumsum(start[atoms[rows] + 1] - start[atoms[rows]])
    return np.split(rows, np.flatnonzero(np.diff(count // EDGES_AT_ONCE)) + 1)


def by_value(keys: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    """Each value that occurs, and where."""
    return ((k, np.flatnonzero(keys == k)) for k in np.flatnonzero(np.bincount(keys)).tolist())


def is_symmetric(kind: int, n_species: int) -> bool:
    """Whether a kind of pair is of two like atoms."""
    return kind // n_species == kind % n_species


def scale_at(scale: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(K + 5,) as rms, envelope (3), range (2); distances (P,) -> (P, K) in eV."""
    rms, envelope, (low, high) = scale[:-5], scale[-5:-2], scale[-2:]
    x = (np.clip(distance, low, high) - low) / max(high - low, 0.5)
    return np.exp(np.stack([np.ones_like(x), x, x * x], -1) @ envelope)[:, None] * rms
