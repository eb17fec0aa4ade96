"""Fits the closed-form part of stage 1 (`baseline`) to training samples, and says what it predicts of each unseen."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import solve_triangular

from harmose.closed_form.baseline import (
    ENVIRONMENT,
    AtomRegression,
    Baseline,
    EdgeField,
    PairRegression,
    References,
    atom_columns,
    by_value,
    in_turn,
    is_symmetric,
)
from harmose.closed_form.electronic import atom_terms, mean_density, pair_terms, scaled
from harmose.closed_form.kernel import DIVERSE_ATOMS, DIVERSE_PAIRS, OF_ATOMS, OF_PAIRS, Likeness, edge_kernels
from harmose.closed_form.novelty import Familiar, familiar, features
from harmose.closed_form.ridge import Fit, cholesky, ridge
from harmose.closed_form.scales import fit_scales
from harmose.closed_form.surroundings import (
    N_GAUSSIANS,
    Neighbourhood,
    Surroundings,
    axis_turned_back,
    neighbourhood,
    pair_features,
    radial_gaussians,
    shared,
    turned_back,
)
from harmose.electrons import Electrons
from harmose.so3.layout import PairLayout
from harmose.targets import Coefficients, OrientedPairs, TargetSpace, map_coefficients

REFERENCE_EDGES = 1200
"""At most so many for a kind of pair."""
REFERENCE_COMPONENTS = 2700
"""At most so many components (2l + 1 for each atom) of the largest degree for a species: the time goes as their square."""
DIVERSE_EDGES, DIVERSE_COMPONENTS = 100, 600
"""The same of many molecules: likeness says less there, and fewer do as well."""
MOST_PAIRS = 20_000
"""Pairs of one kind that are fitted, drawn from all."""
COMPARED = 10**7
"""Edges times references, at most: where there are many edges, references are fewer."""
FEWEST_ATOMS = 30
"""Atoms have no many-body terms of their own where `COMPARED` leaves fewer references."""
RIDGES = (1e-12, 1e-10, 1e-8, 1e-6)
"""Candidates for pairs alone, relative to the size of the features."""
KEPT = 5 * 10**7
"""Numbers of kernels in memory beyond which each order is computed when it is needed."""
JITTER = 1e-10
"""Of the kernel between references, against rounding."""
Variances = tuple[float, float]
"""Of what no regression explains, and of the linear terms together, where the kernel's terms have variance one."""
CANDIDATES: tuple[Variances, ...] = tuple(product((1e-7, 1e-6, 1e-5), (1e3, 1e5, 1e7)))
"""The best for scalars is taken for all orders."""
ELECTRONIC_CANDIDATES: tuple[Variances, ...] = tuple(product((1e-6, 1e-5, 1e-4), (1e-1, 1e1, 1e3)))
"""Where the linear terms are those in the electrons of H0."""
DIVERSE_CANDIDATES: tuple[Variances, ...] = tuple(product((1e-4, 1e-3, 1e-2, 1e-1), (1e-1, 1e1, 1e3)))
"""For many molecules, of which no two are alike."""


@dataclass(frozen=True)
class Training:
    """All training samples as one graph: `pair_sample` (P,) and `atom_sample` (N,) say whose each pair and atom is.

    Samples that are left out together have one number. Of `diverse` ones, many molecules, less is to be had by likeness and
    more is noise. `electrons` where H0 is read.
    """

    space: TargetSpace
    oriented: OrientedPairs
    coefficients: Coefficients
    pair_sample: np.ndarray
    atom_sample: np.ndarray
    diverse: bool = False
    electrons: Electrons | None = None

    @property
    def candidates(self) -> "tuple[Variances, ...]":
        if self.diverse:
            return DIVERSE_CANDIDATES
        return CANDIDATES if self.electrons is None else ELECTRONIC_CANDIDATES


def _quiet(_: float) -> None:
    pass


def fit_baseline(
    training: Training, many_body: bool = True, seed: int = 0, advance: Callable[[float], None] = _quiet
) -> tuple[Baseline, Coefficients]:
    """The fit in closed form, and its predictions in eV of each training sample by a fit to all the others.

    Without `many_body` only functions of the pair's distance and the mean of on-site scalars are fitted. `advance` is told
    which fraction of the coefficients is done.
    """
    oriented, space = training.oriented, training.space
    graph, generator = Surroundings(space, oriented, training.electrons), np.random.default_rng(seed)
    if training.electrons is not None:
        graph.mean_density = mean_density(graph, training.electrons)
    pairs, onsite, done = {}, {}, 0
    both = (training.coefficients.pairs, training.coefficients.onsite)
    total = max(sum(x.numel() for part in both for x in part.values()), 1)
    unseen = Coefficients(
        {g: torch.zeros_like(x) for g, x in training.coefficients.pairs.items()},
        {s: torch.zeros_like(x) for s, x in training.coefficients.onsite.items()},
    )
    for group, members in oriented.members.items():
        for kind, rows in by_value(oriented.kind[members]):
            targets = training.coefficients.pairs[group].numpy()[rows]
            fit = _PairFit(graph, training, kind, space.pair_layout(group), members[rows], targets)
            pairs[kind], left_out = fit.run(many_body, generator)
            unseen.pairs[group][rows] = torch.as_tensor(left_out)
            done += targets.size
            advance(done / total)
    for signature, atoms in oriented.atoms.items():
        for species, rows in by_value(oriented.species[atoms]):
            targets = training.coefficients.onsite[signature].numpy()[rows]
            fit = _AtomFit(graph, training, signature, atoms[rows], targets)
            onsite[species], left_out = fit.run(many_body, generator)
            unseen.onsite[signature][rows] = torch.as_tensor(left_out)
            done += targets.size
            advance(done / total)
    left = map_coefficients(lambda target, found: target - found, training.coefficients, unseen)
    scales = fit_scales(space, oriented, left)
    return Baseline(space, pairs, onsite, *scales, _familiar(graph, training), graph.mean_density), unseen


def _familiar(graph: Surroundings, training: Training) -> dict[int, Familiar]:
    """The surroundings of each species."""
    found = {}
    for species, atoms in by_value(training.oriented.species):
        statistics = familiar(features(graph, atoms), training.atom_sample[atoms])
        found |= {} if statistics is None else {species: statistics}
    return found


class _PairFit:
    """One kind of pair; pairs of like atoms enter in both directions."""

    def __init__(
        self, graph, training: Training, kind: int, layout: PairLayout, pairs: np.ndarray, targets: np.ndarray
    ):
        self.graph, self.layout, self.n_pairs = graph, layout, len(pairs)
        self.edges, self.targets, self.sample = pairs, targets, training.pair_sample[pairs]
        self.candidates, self.likeness = training.candidates, DIVERSE_PAIRS if training.diverse else OF_PAIRS
        self.symmetric = is_symmetric(kind, len(training.space.elements))
        if self.symmetric:
            column, sign = layout.reversal
            back = np.empty_like(targets)
            back[..., column] = sign * targets
            self.edges = np.concatenate([pairs, pairs + graph.n_pairs])
            self.targets, self.sample = np.concatenate([targets, back]), np.tile(self.sample, 2)
        self.orders = layout.degree.max()

    def run(self, many_body: bool, generator: np.random.Generator) -> tuple[PairRegression, np.ndarray]:
        """The fit, and its predictions of each sample without having seen it; of pairs that were not drawn, with it."""
        if self.n_pairs <= MOST_PAIRS:
            fit, left_out = self._fit(many_body, generator)
            return fit, self._one_direction(left_out)
        drawn = np.sort(generator.permutation(self.n_pairs)[:MOST_PAIRS])
        rows = np.concatenate([drawn, drawn + self.n_pairs]) if self.symmetric else drawn
        fit, left_out = self._only(rows)._fit(many_body, generator)
        found = fit.values(self.graph, self.edges, self.layout.n_slots)
        found[rows] = left_out
        return fit, self._one_direction(found)

    def _only(self, rows: np.ndarray) -> "_PairFit":
        """The same fit to some of its edges."""
        other = copy.copy(self)
        other.edges, other.targets, other.sample = self.edges[rows], self.targets[rows], self.sample[rows]
        return other

    def _fit(self, many_body: bool, generator: np.random.Generator) -> tuple[PairRegression, np.ndarray]:
        linear, electronic = self._linear_features(many_body), self._electronic_features()
        left_out, weights, fields, terms = np.zeros_like(self.targets), {}, {}, {}
        kernel = _EdgeKernel(self.graph, self.edges, self.orders, self.likeness, generator) if many_body else None
        n, variances = self.layout.n_natural, self.candidates
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
                fit, w, v, best = _regress(x, blocks, targets[:, columns], sample, variances)
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
        field = EdgeField(kernel.references, fields, n) if kernel is not None else None
        return PairRegression(weights, field, terms if self.graph.electrons is not None else {}), left_out

    def _electronic_features(self) -> list[np.ndarray]:
        if self.graph.electrons is not None:
            return pair_terms(self.graph, self.graph.electrons, self.edges, self.orders)
        n = len(self.edges)
        return [np.zeros((n, 0)), *[np.zeros((2 * n, 0))] * self.orders]

    def _linear_features(self, many_body: bool) -> list[np.ndarray]:
        if not many_body or self.graph.electrons is not None:
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
        graph: Surroundings,
        edges: np.ndarray,
        orders: int,
        likeness: Likeness,
        generator: np.random.Generator,
    ):
        most = DIVERSE_EDGES if likeness == DIVERSE_PAIRS else REFERENCE_EDGES
        n = min(most, max(COMPARED // len(edges), 1))
        chosen = np.sort(generator.permutation(len(edges))[:n])
        self.graph, self.edges, self.chosen, self.likeness = graph, edges, chosen, likeness
        triangles = graph.triangles(edges[chosen])
        self.references = References.of(triangles, graph.pairs.distance[edges[chosen]], graph.n_species, likeness)
        together = 4 * (orders + 1) * n * len(edges) <= KEPT
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


def _regress(
    x: np.ndarray,
    blocks: tuple[np.ndarray, np.ndarray] | None,
    y: np.ndarray,
    sample: np.ndarray,
    variances: Sequence[Variances],
) -> tuple[Fit, np.ndarray, np.ndarray, Variances]:
    """Linear and kernel terms together: the fit, weights of the linear features and of the references, best variances."""
    n_linear = x.shape[1]
    linear = np.full(n_linear, max(np.einsum("nf,nf->", x, x) / len(x), 1e-300) if n_linear else 1.0)
    if blocks is None:
        fit = ridge(x, y, sample, [ridge * linear * len(x) for ridge in RIDGES])
        return fit, fit.weights, np.zeros((0, y.shape[1])), variances[0]
    factor = cholesky(blocks[1] + JITTER * np.eye(len(blocks[1])))
    both = np.empty((len(x), n_linear + len(factor)))
    both[:, :n_linear] = x
    for rows in np.array_split(np.arange(len(x)), -(-both.size // KEPT)):
        both[rows, n_linear:] = solve_triangular(factor, blocks[0][rows].T, lower=True, check_finite=False).T
    penalties = [noise * np.concatenate([linear / size, np.ones(len(factor))]) for noise, size in variances]
    fit = ridge(both, y, sample, penalties)
    weights = solve_triangular(factor, fit.weights[n_linear:], lower=True, trans=1, check_finite=False)
    return fit, fit.weights[:n_linear], weights, variances[fit.best]


class _AtomFit:
    """One species."""

    def __init__(self, graph: Surroundings, training: Training, signature: int, atoms: np.ndarray, targets: np.ndarray):
        self.graph, self.atoms, self.targets = graph, atoms, targets
        self.layout = training.space.onsite_layout(signature)
        self.sample, self.candidates = training.atom_sample[atoms], training.candidates
        self.likeness = DIVERSE_ATOMS if training.diverse else OF_ATOMS

    def run(self, many_body: bool, generator: np.random.Generator) -> tuple[AtomRegression, np.ndarray]:
        n = self.layout.n_natural
        mean = self.targets[:, 0, :n].mean(0) * self.layout.mask[0, :n]
        left_out = np.zeros_like(self.targets)
        if not many_body:
            left_out[:, 0, :n] = mean
            return AtomRegression(mean, {}, {}), left_out
        left_out[:, 0, :n], linear, electronic, variances = mean, {}, {}, self.candidates
        terms = self._many_body_terms(generator)
        columns = atom_columns(self.layout.mask, n)
        width = sum(len(c) for _, _, c, _ in columns)
        n_orders = max(degree for degree, *_ in columns) + 1
        weights = {b: {m: np.zeros((term.size(m), width)) for m in range(n_orders)} for b, term in terms.items()}
        for degree, parity, cols, place in columns:
            rows = slice(degree**2, (degree + 1) ** 2)
            x, neighbours = (
                self._linear_features(degree) if parity > 0 else (np.zeros((len(self.atoms), 2 * degree + 1, 0)), [])
            )
            extra, scale, shift = self._electronic_features(degree, parity)
            x = np.concatenate([x, extra], -1)
            y = self.targets[:, rows][..., cols] - left_out[:, rows][..., cols]
            sample = np.repeat(self.sample, 2 * degree + 1)
            blocks = self._blocks(terms, degree, parity)
            if blocks is None and not x.shape[-1]:
                continue
            fit, w, v, best = _regress(
                x.reshape(len(sample), -1), blocks, y.reshape(len(sample), -1), sample, variances
            )
            variances = (best,)
            left_out[:, rows, cols] += fit.left_out.reshape(y.shape)
            for k, neighbour in enumerate(neighbours):
                full = linear.setdefault((degree, neighbour), np.zeros((N_GAUSSIANS, n)))
                full[:, cols] = w[k * N_GAUSSIANS : (k + 1) * N_GAUSSIANS]
            if extra.shape[-1]:
                electronic[degree] = np.zeros((len(scale), n))
                electronic[degree][:, cols] = w[len(neighbours) * N_GAUSSIANS :] / scale[:, None]
                if degree == 0:
                    mean = mean - shift @ electronic[degree]
            for b, term in terms.items():
                for m, part in term.edge_weights(degree, parity, v).items():
                    weights[b][m][:, place] = part
        n_natural = sum(len(c) for _, parity, c, _ in columns if parity > 0)
        fields = {b: EdgeField(term.references, weights[b], n_natural) for b, term in terms.items()}
        return AtomRegression(mean, linear, fields, electronic), left_out

    def _electronic_features(self, degree: int, parity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N, 2l+1, F) of their usual sizes, their scales, and of scalars what is subtracted before (F,), their mean."""
        if self.graph.electrons is None or parity < 0:
            return np.zeros((len(self.atoms), 2 * degree + 1, 0)), np.zeros(0), np.zeros(0)
        terms, sizes = atom_terms(self.graph, self.graph.electrons, self.atoms, degree)
        shift = terms.mean((0, 1)) if degree == 0 else np.zeros(terms.shape[-1])
        features, scale = scaled(terms - shift)
        return features * sizes, scale / sizes, shift

    def _linear_features(self, degree: int) -> tuple[np.ndarray, list[int]]:
        """Sums over neighbours of each species of Gaussians in the distance, turned back: (N, 2l+1, F)."""
        around, parts, neighbours = neighbourhood(self.graph, self.atoms), [], []
        for b in np.unique(self.graph.pairs.neighbour_species[around.edges]).tolist():
            mine = around[np.flatnonzero(self.graph.pairs.neighbour_species[around.edges] == b)]
            axial = axis_turned_back(self.graph, mine.edges, degree)
            radial = radial_gaussians(self.graph.pairs.distance[mine.edges])
            parts.append(mine.gather(axial[:, :, None] * radial[:, None]))
            neighbours.append(b)
        empty = np.zeros((len(self.atoms), 2 * degree + 1, 0))
        return np.concatenate(parts, -1) if parts else empty, neighbours

    def _blocks(self, terms: "Mapping[int, _AtomKernel]", degree: int, parity: int):
        if not terms:
            return None
        gram = np.sum([term.gram(degree, parity) for term in terms.values()], axis=0)
        return gram, gram[_rows_of(self.references, 2 * degree + 1)]

    def _many_body_terms(self, generator: np.random.Generator) -> "dict[int, _AtomKernel]":
        around = shared(self.graph, neighbourhood(self.graph, self.atoms))
        n = 3 * COMPARED * len(self.atoms) // max(len(around.edges) ** 2, 1)
        if n < min(FEWEST_ATOMS, len(self.atoms)):
            return {}
        orders = max(degree for degree, *_ in atom_columns(self.layout.mask, self.layout.n_natural))
        most = DIVERSE_COMPONENTS if self.likeness == DIVERSE_ATOMS else REFERENCE_COMPONENTS
        n = min(n, most // (2 * orders + 1))
        self.references = np.sort(generator.permutation(len(self.atoms))[:n])
        species = self.graph.pairs.neighbour_species[around.edges]
        return {
            b: _AtomKernel(self.graph, around[rows], self.references, orders, self.likeness)
            for b, rows in by_value(species)
        }


class _AtomKernel:
    """Kernels between atoms through their edges to one species of neighbour.

    `K(A, A') = sum_{e of A, e' of A'} s_e D_e^T K_M(e, e') D_e' s_e'`, s the edges' shares.
    """

    def __init__(
        self, graph: Surroundings, around: Neighbourhood, references: np.ndarray, orders: int, likeness: Likeness
    ):
        self.graph, self.around = graph, around
        place = np.full(around.n_atoms, -1)
        place[references] = np.arange(len(references))
        rows = np.flatnonzero(place[around.rows] >= 0)
        chosen = around[rows]
        self.chosen = Neighbourhood(chosen.edges, place[chosen.rows], chosen.shares, len(references))
        triangles = graph.triangles(chosen.edges)
        self.references = References.of(triangles, graph.pairs.distance[chosen.edges], graph.n_species, likeness)
        seen = graph.environments(around.edges, likeness, graph.triangles(around.edges))
        self.kernels = edge_kernels(seen, self.references.compared, range(orders + 1))

    def size(self, order: int) -> int:
        return len(self.chosen.edges) * (1 if order == 0 else 2)

    def gram(self, degree: int, parity: int) -> np.ndarray:
        """(N (2l+1), R (2l+1)) of irreps of all atoms with those of the references."""
        out = 0
        for m in range(degree + 1):
            kernel = self.kernels[0][0 if parity > 0 else 1] if m == 0 else self.kernels[m]
            left, right = self._turn(self.around, degree, parity, m), self._turn(self.chosen, degree, parity, m)
            out = out + (right @ (left @ kernel).T).T
        return np.asarray(out)

    def edge_weights(self, degree: int, parity: int, weights: np.ndarray) -> dict[int, np.ndarray]:
        """Weights of reference irreps (R (2l+1), K) -> of reference edges, for each order."""
        return {m: self._turn(self.chosen, degree, parity, m).T @ weights for m in range(degree + 1)}

    def _turn(self, around: Neighbourhood, degree: int, parity: int, order: int) -> sparse.csr_matrix:
        """Doublets of edges -> irreps of atoms: (N (2l+1), E or 2E)."""
        slots = [0] if order == 0 else [2 * order - 1, 2 * order]
        values = turned_back(self.graph, around.edges, degree, parity)[slots] * around.shares[:, None]
        size, n_edges = 2 * degree + 1, len(around.edges)
        row = np.broadcast_to(around.rows[:, None] * size + np.arange(size), values.shape)
        column = np.broadcast_to(np.arange(len(slots) * n_edges).reshape(len(slots), n_edges, 1), values.shape)
        shape = (around.n_atoms * size, len(slots) * n_edges)
        return sparse.csr_matrix((values.ravel(), (row.ravel(), column.ravel())), shape=shape)


def _rows_of(atoms: np.ndarray, size: int) -> np.ndarray:
    return (atoms[:, None] * size + np.arange(size)).ravel()
