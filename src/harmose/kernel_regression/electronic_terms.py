"""Linear terms of the closed-form fit in what the electrons of H0 do (`harmose.physics.charges`).

Off-site, of a component of order M: those of P and of H0 of the same pair, and of P on its two atoms, seen in the pair's
frame; at M = 0 also charges and potentials of its two atoms, falling with the distance. On-site, of an irrep of degree l:
those of P and H0 of the same atom, the field-like sums of the neighbours' charges, those of P's blocks with them, and at
l = 0 the atom's own charge and potential.
"""

from collections.abc import Iterator

import numpy as np

from harmose.kernel_regression.neighbourhoods import (
    Neighbourhood,
    Neighbourhoods,
    axis_turned_back,
    neighbourhood,
    turned_back,
)
from harmose.representation.block_irreps import Coefficients
from harmose.representation.charge_features import ChargeFeatures

DECAYS = (0.0, 0.5, 1.0, 2.0)
"""1/angstrom, of charges and potentials with the pair's distance."""
FIELD_DECAYS = (0.2, 0.5, 1.0, 2.0)
"""1/angstrom, of what a neighbour's charge does to an atom; beside these r^-(l+1)."""
NEARNESS = 3.0
"""Of terms that fall by e with each angstrom, against the same ones at any distance."""
BONDS = 0.2
"""Usual size of the terms of bonds, beside those of size one: there are many, and less is expected of each."""


def mean_density(graph: Neighbourhoods, charges: ChargeFeatures) -> dict[int, np.ndarray]:
    """By species: the mean of P's on-site scalars (K_natural,)."""
    species, out = graph.oriented.species, {}
    for shell_type, atoms in graph.oriented.atoms.items():
        n = graph.space.onsite_layout(shell_type).n_proper
        scalars = charges.density.onsite[shell_type].numpy()[:, 0, :n]
        out |= {int(k): scalars[species[atoms] == k].mean(0) for k in np.unique(species[atoms])}
    return out


def pair_terms(graph: Neighbourhoods, charges: ChargeFeatures, edges: np.ndarray, orders: int) -> list[np.ndarray]:
    """For each order M: directed edges of one kind (E, F) at M = 0, else (2E, F), even halves first."""
    x = np.concatenate([_along(graph, operator, edges) for operator in (charges.density, charges.prior)], -1)
    proper = np.tile(np.arange(x.shape[-1] // 2) < graph.space.pair_layout(_group(graph, edges)).n_proper, 2)
    terms = [[x[:, 0, proper], _of_both_atoms(graph, charges, edges)]]
    terms += [[np.concatenate([x[:, 2 * m - 1], x[:, 2 * m]])] for m in range(1, orders + 1)]
    for atoms in (graph.pairs.centre[edges], graph.neighbours[edges]):
        for m, found in enumerate(_seen_along(graph, charges.density, edges, atoms, orders)):
            near = NEARNESS * np.exp(-graph.pairs.distance[edges, None])
            terms[m] += [found, found * (near if m == 0 else np.tile(near, (2, 1)))]
    return [np.concatenate(parts, 1) for parts in terms]


def _group(graph: Neighbourhoods, edges: np.ndarray) -> tuple[int, int]:
    """The group of some directed edges of one kind."""
    return list(graph.oriented.members)[graph.pair_places[0][edges[0] % graph.n_pairs]]


def _along(graph: Neighbourhoods, operator: Coefficients, edges: np.ndarray) -> np.ndarray:
    """An operator's coefficients of directed edges of one kind, seen in their own direction (E, S, K)."""
    group, back = _group(graph, edges), edges >= graph.n_pairs
    x = operator.pairs[group].numpy()[graph.pair_places[1][edges % graph.n_pairs]]
    if back.any():
        column, sign = graph.space.pair_layout(group).reversal
        turned = np.empty_like(x[back])
        turned[..., column if group[0] == group[1] else slice(None)] = sign * x[back]
        x[back] = turned
    return x


def _seen_along(
    graph: Neighbourhoods, operator: Coefficients, edges: np.ndarray, atoms: np.ndarray, orders: int
) -> list[np.ndarray]:
    """On-site irreps of the `atoms` (E,), all of one species, in the frames of edges: for each order M as `pair_terms`."""
    shell_type = _signature(graph, atoms)
    layout, species = graph.space.onsite_layout(shell_type), int(graph.oriented.species[atoms[0]])
    own = operator.onsite[shell_type].numpy()[graph.atom_places[atoms]]
    terms: list[list[np.ndarray]] = [[] for _ in range(orders + 1)]
    for degree in range(graph.space.l_max + 1):
        columns = np.flatnonzero(layout.mask[degree**2, : layout.n_proper])
        irreps = own[:, degree**2 : (degree + 1) ** 2][:, :, columns]
        if degree == 0:
            irreps = irreps - graph.mean_density[species][columns]
        slots = turned_back(graph, edges, degree, 1).transpose(1, 0, 2) @ irreps  # (E, 2l + 1, columns)
        terms[0].append(slots[:, 0])
        for m in range(1, min(degree, orders) + 1):
            terms[m].append(np.concatenate([slots[:, 2 * m - 1], slots[:, 2 * m]]))
    rows = [len(edges) * (2 if m else 1) for m in range(orders + 1)]
    return [np.concatenate(t, 1) if t else np.zeros((n, 0)) for t, n in zip(terms, rows, strict=True)]


def _of_both_atoms(graph: Neighbourhoods, charges: ChargeFeatures, edges: np.ndarray) -> np.ndarray:
    pairs = graph.pairs
    q, v = charges.charge, charges.potential
    i, j = pairs.centre[edges], graph.neighbours[edges]
    terms = np.stack([v[i], v[j], q[i], q[j], v[i] * v[j], q[i] ** 2, q[j] ** 2], 1)
    decay = np.exp(-pairs.distance[edges, None] * np.array(DECAYS))
    return (terms[:, :, None] * decay[:, None]).reshape(len(edges), -1)


class AtomTerms:
    """Of atoms of one species (N,), for irreps of natural parity of any degree."""

    def __init__(self, graph: Neighbourhoods, charges: ChargeFeatures, atoms: np.ndarray) -> None:
        self.graph, self.charges, self.atoms = graph, charges, atoms
        shell_type, rows = _signature(graph, atoms), graph.atom_places[atoms]
        self.layout = graph.space.onsite_layout(shell_type)
        self._own = [x.onsite[shell_type].numpy()[rows] for x in (charges.density, charges.prior)]
        self.around = neighbourhood(graph, atoms).by_species(graph)
        distance = graph.pairs.distance[self.around.edges, None]
        self._distance, self._decay = distance, np.exp(-distance * np.array(FIELD_DECAYS))
        self._bonds = list(self._known_bonds(shell_type))

    def of(self, degree: int) -> tuple[np.ndarray, np.ndarray]:
        """The terms (N, 2l + 1, F), and their usual sizes (F,)."""
        rows = slice(degree**2, (degree + 1) ** 2)
        columns = np.flatnonzero(self.layout.mask[degree**2, : self.layout.n_proper])
        terms = [x[:, rows][:, :, columns] for x in self._own]
        terms.append(self._fields(degree).reshape(len(self.atoms), self.graph.n_species, 2 * degree + 1, -1).sum(1))
        if degree == 0:
            q, v = self.charges.charge[self.atoms], self.charges.potential[self.atoms]
            terms.append(np.stack([v, q, v**2, q**2, q * v], 1)[:, None])
        bonds = self._bond_terms(degree)
        n_others = sum(t.shape[-1] for t in terms)
        return np.concatenate([*terms, *bonds], -1), np.repeat(
            [1.0, BONDS], [n_others, sum(t.shape[-1] for t in bonds)]
        )

    def _fields(self, degree: int) -> np.ndarray:
        """What the charges of the neighbours of each species do."""
        graph, edges = self.graph, self.around.edges
        radial = np.concatenate([self._decay, self._distance ** -(degree + 1.0)], 1)
        fields = self.charges.charge[graph.neighbours[edges], None] * radial
        return self.around.gather(axis_turned_back(graph, edges, degree)[:, :, None] * fields[:, None])

    def _known_bonds(self, shell_type: int) -> Iterator[tuple[Neighbourhood, np.ndarray]]:
        """Edges to neighbours of each signature, and P's blocks with them (E, S, K_natural)."""
        graph = self.graph
        shell_types = graph.space.shell_type[graph.pairs.neighbour_species[self.around.edges]]
        for other in range(len(graph.space.shell_types)):
            layout = graph.space.pair_layout((min(shell_type, other), max(shell_type, other)))
            mine = self.around[np.flatnonzero(shell_types == other)]
            slots = np.zeros((0, layout.n_slots, layout.n_proper))
            if len(mine.edges):
                slots = _along(graph, self.charges.density, mine.edges)[:, :, : layout.n_proper]
            yield mine, slots

    def _bond_terms(self, degree: int) -> list[np.ndarray]:
        """Sums of the blocks with the neighbours of each species, turned back: (N, 2l + 1, F) by signature."""
        graph, terms = self.graph, []
        for other, (mine, slots) in enumerate(self._bonds):
            back = turned_back(graph, mine.edges, degree, 1)[: slots.shape[1]]
            found = mine.gather(back.transpose(1, 2, 0) @ slots[:, : len(back)])
            found = found.reshape(len(self.atoms), graph.n_species, *found.shape[1:])
            found = found[:, graph.space.shell_type == other].swapaxes(1, 2)
            terms.append(found.reshape(*found.shape[:2], -1))
        return terms


def _signature(graph: Neighbourhoods, atoms: np.ndarray) -> int:
    """Of atoms of one species."""
    return int(graph.space.shell_type[graph.oriented.species[atoms[0]]])


def scaled(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (..., F) of root mean square one, and what they were divided by (F,)."""
    scale = np.sqrt((features**2).mean(tuple(range(features.ndim - 1))))
    scale = np.where(scale > 1e-12, scale, 1.0)
    return features / scale, scale
