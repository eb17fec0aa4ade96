"""Linear terms of the regression in the density P, the charges and the potentials of H0 (`harmose.physics.charges`).

Off-site terms of a component of order M: P and H0 of the same pair, and P on its two atoms, in the frame of the pair. At M = 0
also the charges and potentials of the two atoms, decaying with the distance. On-site terms of an irrep of degree l: P and H0 of
the same atom, multipole potentials of the neighbours' charges, and the blocks of P with the neighbours. At l = 0 also the
charge and the potential of the atom.
"""

from collections.abc import Iterator

import numpy as np

from harmose.kernel_regression.neighbourhoods import AtomEdges, Neighbourhoods
from harmose.representation.block_irreps import BlockIrreps, Coefficients
from harmose.representation.charge_features import ChargeFeatures

DECAYS = (0.0, 0.5, 1.0, 2.0)
"""1/angstrom. Decay constants of charges and potentials with the distance of the pair."""
POTENTIAL_DECAYS = (0.2, 0.5, 1.0, 2.0)
"""1/angstrom. Decay constants of the potential of a neighbour's charge; r^-(l+1) is one more function."""
NEAR_SCALE = 3.0
"""Size of terms that decay as exp(-r / angstrom), relative to the same terms without decay."""
BOND_SCALE = 0.2
"""Usual size of the terms in blocks with neighbours, relative to others: there are many, and each matters less."""


def mean_density(graph: Neighbourhoods, charges: ChargeFeatures) -> dict[int, np.ndarray]:
    """Return the mean on-site scalars (K_proper,) of P by species."""
    species, out = graph.oriented.species, {}
    for shell_type, atoms in graph.oriented.atoms.items():
        n = graph.space.onsite_layout(shell_type).n_proper
        scalars = charges.density.onsite[shell_type].numpy()[:, 0, :n]
        out |= {int(k): scalars[species[atoms] == k].mean(0) for k in np.unique(species[atoms])}
    return out


def pair_terms(graph: Neighbourhoods, charges: ChargeFeatures, edges: np.ndarray, orders: int) -> list[np.ndarray]:
    """Return the terms of directed pairs of one type by order M: (E, F) at M = 0, else (2E, F), even halves first."""
    x = np.concatenate([_pair_values(graph, operator, edges) for operator in (charges.density, charges.prior)], -1)
    proper = np.tile(np.arange(x.shape[-1] // 2) < graph.space.pair_layout(_group(graph, edges)).n_proper, 2)
    terms = [[x[:, 0, proper], _charge_terms(graph, charges, edges)]]
    terms += [[np.concatenate([x[:, 2 * m - 1], x[:, 2 * m]])] for m in range(1, orders + 1)]
    for atoms in (graph.pairs.centre[edges], graph.neighbours[edges]):
        for m, values in enumerate(_onsite_in_frames(graph, charges.density, edges, atoms, orders)):
            near = NEAR_SCALE * np.exp(-graph.pairs.distance[edges, None])
            terms[m] += [values, values * (near if m == 0 else np.tile(near, (2, 1)))]
    return [np.concatenate(parts, 1) for parts in terms]


def n_pair_terms(space: BlockIrreps, low: int, high: int, order: int) -> int:
    """Return the number of `pair_terms` of two species at one order."""
    layout = space.pair_layout(space.group(low, high))
    n = 2 * layout.n_irreps if order else 2 * layout.n_proper + 7 * len(DECAYS)
    for species in (low, high):
        onsite = space.onsite_layout(int(space.shell_type[species]))
        n += 2 * int(onsite.mask[np.arange(order, space.l_max + 1) ** 2, : onsite.n_proper].sum())
    return n


def _group(graph: Neighbourhoods, edges: np.ndarray) -> tuple[int, int]:
    """Group of directed pairs of one type."""
    return list(graph.oriented.pairs)[graph.pair_rows[0][edges[0] % graph.n_pairs]]


def _pair_values(graph: Neighbourhoods, operator: Coefficients, edges: np.ndarray) -> np.ndarray:
    """Coefficients (E, S, K) of an operator for directed pairs of one type, in their own frames."""
    group, is_reversed = _group(graph, edges), edges >= graph.n_pairs
    x = operator.pairs[group].numpy()[graph.pair_rows[1][edges % graph.n_pairs]]
    if is_reversed.any():
        column, sign = graph.space.pair_layout(group).reversal
        turned = np.empty_like(x[is_reversed])
        turned[..., column if group[0] == group[1] else slice(None)] = sign * x[is_reversed]
        x[is_reversed] = turned
    return x


def _onsite_in_frames(
    graph: Neighbourhoods, operator: Coefficients, edges: np.ndarray, atoms: np.ndarray, orders: int
) -> list[np.ndarray]:
    """On-site irreps of `atoms` (E,) of one species in the frames of edges (E,), by order as in `pair_terms`."""
    shell_type = _shell_type(graph, atoms)
    layout, species = graph.space.onsite_layout(shell_type), int(graph.oriented.species[atoms[0]])
    onsite = operator.onsite[shell_type].numpy()[graph.atom_rows[atoms]]
    terms: list[list[np.ndarray]] = [[] for _ in range(orders + 1)]
    for degree in range(graph.space.l_max + 1):
        columns = np.flatnonzero(layout.mask[degree**2, : layout.n_proper])
        irreps = onsite[:, degree**2 : (degree + 1) ** 2][:, :, columns]
        if degree == 0:
            irreps = irreps - graph.mean_density[species][columns]
        slots = graph.to_global(edges, degree, 1).transpose(1, 0, 2) @ irreps  # (E, 2l + 1, columns)
        terms[0].append(slots[:, 0])
        for m in range(1, min(degree, orders) + 1):
            terms[m].append(np.concatenate([slots[:, 2 * m - 1], slots[:, 2 * m]]))
    rows = [len(edges) * (2 if m else 1) for m in range(orders + 1)]
    return [np.concatenate(t, 1) if t else np.zeros((n, 0)) for t, n in zip(terms, rows, strict=True)]


def _charge_terms(graph: Neighbourhoods, charges: ChargeFeatures, edges: np.ndarray) -> np.ndarray:
    """Charges and potentials of both atoms of edges, times each decay: (E, 7 len(DECAYS))."""
    q, v = charges.charge, charges.potential
    i, j = graph.pairs.centre[edges], graph.neighbours[edges]
    terms = np.stack([v[i], v[j], q[i], q[j], v[i] * v[j], q[i] ** 2, q[j] ** 2], 1)
    decay = np.exp(-graph.pairs.distance[edges, None] * np.array(DECAYS))
    return (terms[:, :, None] * decay[:, None]).reshape(len(edges), -1)


class AtomTerms:
    """Terms of atoms (N,) of one species, for proper irreps of any degree."""

    def __init__(self, graph: Neighbourhoods, charges: ChargeFeatures, atoms: np.ndarray) -> None:
        self.graph, self.charges, self.atoms = graph, charges, atoms
        shell_type, rows = _shell_type(graph, atoms), graph.atom_rows[atoms]
        self.layout = graph.space.onsite_layout(shell_type)
        self._onsite = [x.onsite[shell_type].numpy()[rows] for x in (charges.density, charges.prior)]
        self.edges = graph.atom_edges(atoms).by_species()
        distance = self.edges.distance[:, None]
        self._distance, self._decay = distance, np.exp(-distance * np.array(POTENTIAL_DECAYS))
        self._bonds = list(self._bond_blocks(shell_type))

    def terms(self, degree: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the terms (N, 2l + 1, F) of a degree, and their usual sizes (F,)."""
        rows = slice(degree**2, (degree + 1) ** 2)
        columns = np.flatnonzero(self.layout.mask[degree**2, : self.layout.n_proper])
        terms = [x[:, rows][:, :, columns] for x in self._onsite]
        terms.append(self._potentials(degree).reshape(len(self.atoms), self.graph.n_species, 2 * degree + 1, -1).sum(1))
        if degree == 0:
            q, v = self.charges.charge[self.atoms], self.charges.potential[self.atoms]
            terms.append(np.stack([v, q, v**2, q**2, q * v], 1)[:, None])
        bonds = self._bond_terms(degree)
        counts = [sum(t.shape[-1] for t in part) for part in (terms, bonds)]
        return np.concatenate([*terms, *bonds], -1), np.repeat([1.0, BOND_SCALE], counts)

    def _potentials(self, degree: int) -> np.ndarray:
        """Multipole potentials of the charges of the neighbours, by atom and species."""
        edges = self.edges.edges
        radial = np.concatenate([self._decay, self._distance ** -(degree + 1.0)], 1)
        charge = self.charges.charge[self.graph.neighbours[edges]] * self.edges.taper
        potentials = charge[:, None] * radial
        return self.edges.sum(self.graph.axis_to_global(edges, degree)[:, :, None] * potentials[:, None])

    def _bond_blocks(self, shell_type: int) -> Iterator[tuple[AtomEdges, np.ndarray]]:
        """Edges to neighbours of each shell type, and the blocks of P with them (E, S, K_proper)."""
        graph = self.graph
        shell_types = graph.space.shell_type[self.edges.neighbour_species]
        for other in range(len(graph.space.shell_types)):
            layout = graph.space.pair_layout((min(shell_type, other), max(shell_type, other)))
            edges = self.edges[np.flatnonzero(shell_types == other)]
            blocks = np.zeros((0, layout.n_slots, layout.n_proper))
            if len(edges.edges):
                blocks = _pair_values(graph, self.charges.density, edges.edges)[:, :, : layout.n_proper]
            yield edges, blocks

    def _bond_terms(self, degree: int) -> list[np.ndarray]:
        """Sums of the blocks with the neighbours of each species in the global frame, by shell type: (N, 2l + 1, F)."""
        graph, terms = self.graph, []
        for other, (edges, blocks) in enumerate(self._bonds):
            to_global = graph.to_global(edges.edges, degree, 1)[: blocks.shape[1]]
            sums = edges.sum(to_global.transpose(1, 2, 0) @ blocks[:, : len(to_global)])
            sums = sums.reshape(len(self.atoms), graph.n_species, *sums.shape[1:])
            sums = sums[:, graph.space.shell_type == other].swapaxes(1, 2)
            terms.append(sums.reshape(*sums.shape[:2], -1))
        return terms


def n_atom_terms(space: BlockIrreps, species: int, degree: int) -> int:
    """Return the number of `AtomTerms.terms` of a species at one degree."""
    layout = space.onsite_layout(int(space.shell_type[species]))
    n = 2 * int(layout.mask[degree**2, : layout.n_proper].sum()) + len(POTENTIAL_DECAYS) + 1 + 5 * (degree == 0)
    pairs = (sorted((species, other)) for other in range(len(space.elements)))
    return n + sum(space.pair_layout(space.group(low, high)).n_proper for low, high in pairs)


def _shell_type(graph: Neighbourhoods, atoms: np.ndarray) -> int:
    """Shell type of atoms of one species."""
    return int(graph.space.shell_type[graph.oriented.species[atoms[0]]])


def scale_to_unit_rms(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide features (..., F) by their root mean squares (F,); return both."""
    scale = np.sqrt((features**2).mean(tuple(range(features.ndim - 1))))
    scale = np.where(scale > 1e-12, scale, 1.0)
    return features / scale, scale
