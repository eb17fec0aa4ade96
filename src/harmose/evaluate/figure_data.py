"""`FigureData`: what the figures of a report need of all predictions, in an amount that does not depend on their number.

Means are over all values. Points are a random selection without repetition: each value gets a random key, and those with
the smallest keys are kept.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.metrics import solved_orbitals
from harmose.physics.eigen import MolecularOrbitals
from harmose.uncertainty.prediction import mean_errors

MAX_POINTS = 12_000
"""More points than this hide each other; a random selection is drawn."""

MAX_BLOCKS = 8000
"""The same for errors of blocks over their bounds."""

MAX_SAMPLES = 200
"""Figures of orbital energies use the first samples only, since each needs eigenvalues of all stages."""

UNOCCUPIED = 4
"""Number of unoccupied orbitals in the figure of errors by orbital."""


class RandomPoints:
    """A random selection of at most `size` points out of all that are added.

    Attributes:
        columns: values (n,) by name, of the points that were chosen so far.
    """

    def __init__(self, size: int):
        self.columns: dict[str, np.ndarray] = {}
        self._size = size
        self._keys = np.zeros(0)
        self._generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Add points; `columns` have the same names each time, and the same length."""
        keys = self._generator.random(len(next(iter(columns.values()))))
        new = np.arange(len(keys))
        if len(self) == self._size:  # most of many points are out at once
            new = np.flatnonzero(keys < self._keys.max())
        keys = np.concatenate([self._keys, keys[new]])
        chosen = np.sort(np.argpartition(keys, self._size)[: self._size]) if len(keys) > self._size else slice(None)
        self._keys = keys[chosen]
        old = self.columns or {name: values[:0] for name, values in columns.items()}
        self.columns = {name: np.concatenate([old[name], values[new]])[chosen] for name, values in columns.items()}


class ParityPoints(RandomPoints):
    """Values of DFT and of each stage in eV ("dft" and names of stages), with the mean absolute error of each stage."""

    def __init__(self) -> None:
        super().__init__(MAX_POINTS)
        self._n = 0
        self._sums: dict[str, float] = {}

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        super().add(columns)
        self._n += len(columns["dft"])
        for stage in columns.keys() - {"dft"}:
            error = float(np.abs(columns[stage] - columns["dft"]).sum())
            self._sums[stage] = self._sums.get(stage, 0.0) + error

    def mean_error(self, stage: str) -> float:
        """Mean over all values, also those that were not chosen."""
        return self._sums[stage] / self._n


class FigureData:
    """Gathers from predictions, one after the other, what figures show. No prediction is kept.

    Attributes:
        n_samples: number of predictions so far.
        periodic: True if one of them is a crystal.
        elements: elements of H.
        orbital_energies: energies of the occupied orbitals of the first `MAX_SAMPLES` samples.
        orbital_errors: absolute errors in eV by stage and by number of the orbital, counted from the gap (HOMO: -1).
        bounds: columns "bound" and "error" (eV) of the blocks of samples inside the training domain.
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self.periodic = False
        self.elements = ParityPoints()
        self.orbital_energies = ParityPoints()
        self.orbital_errors: dict[str, dict[int, list[float]]] = {}
        self.bounds = RandomPoints(MAX_BLOCKS)

    def watch(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the predictions, each after it was added."""
        for prediction in predictions:
            self.add(prediction)
            yield prediction

    def add(self, prediction: Prediction) -> None:
        """Add one prediction."""
        self.n_samples += 1
        self.periodic |= bool(prediction.sample.structure.pbc.any())
        matrices = {"dft": prediction.sample.hamiltonian, **prediction.stages}
        self.elements.add({name: _elements(h) for name, h in matrices.items()})
        if self.n_samples <= MAX_SAMPLES:
            self._add_orbitals(solved_orbitals(prediction))
        self._add_bounds(prediction)

    def _add_orbitals(self, solved: Mapping[str, MolecularOrbitals] | None) -> None:
        if solved is None:
            return
        n = solved["dft"].n_occupied
        self.orbital_energies.add({name: orbitals.energies[:n] for name, orbitals in solved.items()})
        for stage in (name for name in solved if name != "dft"):
            table = self.orbital_errors.setdefault(stage, {})
            difference = np.abs(solved[stage].energies - solved["dft"].energies)[: n + UNOCCUPIED]
            for orbital, error in enumerate(difference.tolist(), start=-n):
                table.setdefault(orbital, []).append(error)

    def _add_bounds(self, prediction: Prediction) -> None:
        u = prediction.uncertainty
        if u is None or u.outside:
            return
        bound, error = u.blocks, mean_errors(prediction.full, prediction.sample.hamiltonian)
        shown = np.isfinite(bound) & (bound > 0) & (error > 0)
        self.bounds.add({"bound": bound[shown], "error": error[shown]})


def _elements(operator: BlockMatrix) -> np.ndarray:
    """All elements of the whole matrix; those of spinors as real and imaginary parts."""
    repeats = np.repeat(operator.multiplicity, np.diff(operator.offsets))
    values = np.repeat(operator.values, repeats, axis=1).ravel()
    return values.view(np.float64) if np.iscomplexobj(values) else values
