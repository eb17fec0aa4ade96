"""The fit to the atoms of one species (`fit`)."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from scipy import sparse

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression import limits
from harmose.kernel_regression.electronic_terms import AtomTerms, scaled
from harmose.kernel_regression.expansion import KernelExpansion, References
from harmose.kernel_regression.kernel import ATOM_KERNEL, DIVERSE_ATOMS, KernelParameters, edge_kernels
from harmose.kernel_regression.linear_terms import AtomRegression, atom_columns, known_electrons
from harmose.kernel_regression.neighbourhoods import (
    N_GAUSSIANS,
    Neighbourhood,
    Neighbourhoods,
    axis_turned_back,
    neighbourhood,
    radial_gaussians,
    shared,
    turned_back,
)
from harmose.kernel_regression.regression import regress
from harmose.kernel_regression.training import Training


class AtomFit:
    """One species."""

    def __init__(
        self, graph: Neighbourhoods, training: Training, shell_type: int, atoms: np.ndarray, targets: np.ndarray
    ):
        self.graph, self.atoms, self.targets = graph, atoms, targets
        self.layout = training.space.onsite_layout(shell_type)
        self.sample, self.candidates = training.atom_sample[atoms], training.candidates
        self.likeness = DIVERSE_ATOMS if training.diverse else ATOM_KERNEL
        self.compares = training.references != 0

    def run(self, many_body: bool, generator: np.random.Generator) -> tuple[AtomRegression, np.ndarray]:
        n = self.layout.n_proper
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
            fit, w, v, best = regress(x.reshape(len(sample), -1), blocks, y.reshape(len(sample), -1), sample, variances)
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
        n_proper = sum(len(c) for _, parity, c, _ in columns if parity > 0)
        fields = {b: KernelExpansion(term.references, weights[b], n_proper) for b, term in terms.items()}
        return AtomRegression(mean, linear, fields, electronic), left_out

    @cached_property
    def _terms(self) -> AtomTerms:
        return AtomTerms(self.graph, known_electrons(self.graph), self.atoms)

    def _electronic_features(self, degree: int, parity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N, 2l+1, F) of their usual sizes, their scales, and of scalars what is subtracted before (F,), their mean."""
        if self.graph.charges is None or parity < 0:
            return np.zeros((len(self.atoms), 2 * degree + 1, 0)), np.zeros(0), np.zeros(0)
        terms, sizes = self._terms.of(degree)
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
        if not self.compares:
            return {}
        around = shared(self.graph, neighbourhood(self.graph, self.atoms))
        n = 3 * limits.COMPARED * len(self.atoms) // max(len(around.edges) ** 2, 1)
        if n < min(limits.FEWEST_ATOMS, len(self.atoms)):
            return {}
        orders = max(degree for degree, *_ in atom_columns(self.layout.mask, self.layout.n_proper))
        most = limits.DIVERSE_COMPONENTS if self.likeness == DIVERSE_ATOMS else limits.REFERENCE_COMPONENTS
        n = min(n, most // (2 * orders + 1))
        self.references = np.sort(generator.permutation(len(self.atoms))[:n])
        species = self.graph.pairs.neighbour_species[around.edges]
        return {
            b: _AtomKernel(self.graph, around[rows], self.references, orders, self.likeness)
            for b, rows in rows_by_key(species)
        }


class _AtomKernel:
    """Kernels between atoms through their edges to one species of neighbour.

    `K(A, A') = sum_{e of A, e' of A'} s_e D_e^T K_M(e, e') D_e' s_e'`, s the edges' shares.
    """

    def __init__(
        self,
        graph: Neighbourhoods,
        around: Neighbourhood,
        references: np.ndarray,
        orders: int,
        likeness: KernelParameters,
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
