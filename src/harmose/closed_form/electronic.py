"""Linear terms of the closed-form fit in what the electrons of H0 do (`harmose.electrons`).

Off-site, of a component of order M: those of P and of H0 of the same pair; at M = 0 also charges and potentials of its two
atoms, falling with the distance. On-site, of an irrep of degree l: those of P and H0 of the same atom, the field-like sums
of the neighbours' charges, and at l = 0 the atom's own charge and potential.
"""

import numpy as np

from harmose.closed_form.surroundings import Surroundings, axis_turned_back, neighbourhood
from harmose.electrons import Electrons
from harmose.targets import Coefficients

DECAYS = (0.0, 0.5, 1.0, 2.0)
"""1/angstrom, of charges and potentials with the pair's distance."""
FIELD_DECAYS = (0.2, 0.5, 1.0, 2.0)
"""1/angstrom, of what a neighbour's charge does to an atom; beside these r^-(l+1)."""


def pair_terms(graph: Surroundings, electrons: Electrons, edges: np.ndarray, orders: int) -> list[np.ndarray]:
    """For each order M: directed edges of one group (E, F) at M = 0, else (2E, F), even halves first."""
    group, rows = _rows(graph, edges)
    layout, back = graph.space.pair_layout(group), edges >= graph.n_pairs
    column, sign = layout.reversal
    found = []
    for operator in (electrons.density, electrons.prior):
        x = operator.pairs[group].numpy()[rows]
        if back.any():
            turned = np.empty_like(x[back])
            turned[..., column] = sign * x[back]
            x[back] = turned
        found.append(x)
    n = layout.n_natural
    scalars = np.concatenate([x[:, 0, :n] for x in found] + [_of_both_atoms(graph, electrons, edges)], 1)
    x = np.concatenate(found, -1)
    return [scalars, *(np.concatenate([x[:, 2 * m - 1], x[:, 2 * m]]) for m in range(1, orders + 1))]


def _rows(graph: Surroundings, edges: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """The group of some directed edges, and their rows in its coefficients."""
    pairs = np.where(edges < graph.n_pairs, edges, edges - graph.n_pairs)
    group, place = graph.pair_places
    return list(graph.oriented.members)[group[pairs[0]] if len(pairs) else 0], place[pairs]


def _of_both_atoms(graph: Surroundings, electrons: Electrons, edges: np.ndarray) -> np.ndarray:
    pairs = graph.pairs
    q, v = electrons.charge, electrons.potential
    i, j = pairs.centre[edges], graph.neighbours[edges]
    terms = np.stack([v[i], v[j], q[i], q[j], v[i] * v[j], q[i] ** 2, q[j] ** 2], 1)
    decay = np.exp(-pairs.distance[edges, None] * np.array(DECAYS))
    return (terms[:, :, None] * decay[:, None]).reshape(len(edges), -1)


def atom_terms(graph: Surroundings, electrons: Electrons, atoms: np.ndarray, degree: int) -> np.ndarray:
    """Atoms of one signature (N, 2l + 1, F) for irreps of natural parity."""
    rows, signature = slice(degree**2, (degree + 1) ** 2), _signature(graph, atoms)
    place = np.full(len(graph.oriented.species), -1)
    members = graph.oriented.atoms[signature]
    place[members] = np.arange(len(members))
    layout = graph.space.onsite_layout(signature)
    columns = np.flatnonzero(layout.mask[degree**2, : layout.n_natural])
    own = [_onsite(c, signature)[place[atoms]][:, rows][:, :, columns] for c in (electrons.density, electrons.prior)]
    around = neighbourhood(graph, atoms)
    distance = graph.pairs.distance[around.edges, None]
    radial = np.concatenate([np.exp(-distance * np.array(FIELD_DECAYS)), distance ** -(degree + 1.0)], 1)
    fields = electrons.charge[graph.neighbours[around.edges], None] * radial
    axis = axis_turned_back(graph, around.edges, degree)
    terms = [*own, around.gather(axis[:, :, None] * fields[:, None])]
    if degree == 0:
        q, v = electrons.charge[atoms], electrons.potential[atoms]
        terms.append(np.stack([v, q, v**2, q**2, q * v], 1)[:, None])
    return np.concatenate(terms, -1)


def _onsite(coefficients: Coefficients, signature: int) -> np.ndarray:
    return coefficients.onsite[signature].numpy()


def _signature(graph: Surroundings, atoms: np.ndarray) -> int:
    return next(s for s, members in graph.oriented.atoms.items() if len(atoms) and atoms[0] in members)


def scaled(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (..., F) of root mean square one, and what they were divided by (F,)."""
    scale = np.sqrt((features**2).mean(tuple(range(features.ndim - 1))))
    scale = np.where(scale > 1e-12, scale, 1.0)
    return features / scale, scale
