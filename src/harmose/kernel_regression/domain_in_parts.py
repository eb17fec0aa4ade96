"""The fit of a training domain to a training set that does not fit into memory, part after part.

The first pass sums means and covariances of the descriptors of atoms, in `FOLDS` folds of the samples; the second one measures
how far the atoms of each fold are from all others.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.contacts import Extremes, contact_extremes, contact_lengths
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training_domain import (
    FOLDS,
    SpeciesDomain,
    TrainingDomain,
    descriptors,
    distance_from,
    statistics_of,
)


class DomainFit:
    """The fit of a training domain to samples in parts: `add` and then `measure` each part, and ask for the `domain`."""

    def __init__(self, n_species: int) -> None:
        self.n_species = n_species
        self.moments: dict[int, list[_Moments]] = {}
        self.extremes: list[tuple[Extremes, Extremes]] = []
        self.largest: dict[int, float] = {}
        self.owners: set[int] = set()

    def add(self, graph: Neighbourhoods, owner: np.ndarray) -> None:
        """Add the atoms of a part; `owner` (N,): number of what is left out together."""
        self.extremes.append(contact_extremes(graph.pairs, owner, self.n_species))
        self.owners |= set(np.unique(owner).tolist())
        for species, rows, x in self._descriptors(graph):
            folds = self.moments.setdefault(species, [_Moments() for _ in range(FOLDS)])
            for k, fold in enumerate(folds):
                fold.add(x[owner[rows] % FOLDS == k])

    def measure(self, graph: Neighbourhoods, owner: np.ndarray) -> None:
        """Measure the distances of the atoms of a part from those of the other folds."""
        for species, rows, x in self._descriptors(graph):
            for k in np.unique(owner[rows] % FOLDS):
                statistics = self._without(species, int(k))
                if statistics is not None:
                    distance = float(distance_from(x[owner[rows] % FOLDS == k], *statistics).max())
                    self.largest[species] = max(self.largest.get(species, 0.0), distance)

    def domain(self) -> TrainingDomain:
        """Return the domain."""
        fitted = {}
        for species, folds in self.moments.items():
            if species in self.largest:
                mean, whiten, floor = statistics_of(*_Moments.sum(folds).mean_and_covariance())
                fitted[species] = SpeciesDomain(mean, whiten, np.array([max(self.largest[species], 1e-9)]), floor)
        contacts = contact_lengths(self.extremes, self.n_species) if len(self.owners) > 1 else None
        return TrainingDomain(fitted, contacts)

    def _descriptors(self, graph: Neighbourhoods) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield species, atoms, and their descriptors."""
        for species, atoms in rows_by_key(graph.oriented.species):
            for part in graph.atom_chunks(np.arange(len(atoms)), atoms):
                yield species, atoms[part], descriptors(graph, atoms[part])

    def _without(self, species: int, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Statistics of all folds but one; None where there are no others."""
        if (species, fold) not in self._known:
            others = _Moments.sum([x for k, x in enumerate(self.moments[species]) if k != fold])
            self._known[species, fold] = statistics_of(*others.mean_and_covariance()) if others.n else None
        return self._known[species, fold]

    @cached_property
    def _known(self) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray] | None]:
        return {}


class _Moments:
    """Number, mean and scatter matrix of rows that are added in parts."""

    def __init__(self) -> None:
        self.n, self.mean, self.scatter = 0, np.zeros(0), np.zeros((0, 0))

    def add(self, x: np.ndarray) -> None:
        if len(x):
            mean = x.mean(0)
            self._add(len(x), mean, (x - mean).T @ (x - mean))

    def _add(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        """Chan, Golub and LeVeque, The American Statistician 37, 242 (1983)."""
        if not self.n:
            self.n, self.mean, self.scatter = n, mean, scatter
            return
        total, apart = self.n + n, mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(apart, apart) * (self.n * n / total)
        self.mean, self.n = self.mean + apart * (n / total), total

    @staticmethod
    def sum(parts: "Sequence[_Moments]") -> "_Moments":
        out = _Moments()
        for x in parts:
            if x.n:
                out._add(x.n, x.mean, x.scatter)
        return out

    def mean_and_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean, self.scatter / max(self.n, 1)
