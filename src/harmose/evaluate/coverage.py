"""Observed coverage of error bounds: of blocks of H, orbital energies, HOMO, LUMO and gap.

    coverage = mean over samples of the share of the sample's blocks (orbital energies) with |error| <= bound

at the stated confidence and at every other one that the calibration supports. Samples outside the training domain have no
bounds and do not count. The error of a block is the mean of
|H_predicted - H_DFT| over its elements. Orbital energies of a crystal are those at Gamma.
"""

from collections.abc import Sequence

import numpy as np

from harmose.evaluate.evaluation import Coverage, Prediction
from harmose.physics.eigen import eigenvalues
from harmose.uncertainty.orbitals import orbital_errors
from harmose.uncertainty.prediction import Uncertainty, mean_errors

TITLES = {
    "blocks": "blocks of H",
    "occupied": "occupied orbital energies",
    "unoccupied": "empty orbital energies",
    "homo": "HOMO",
    "lumo": "LUMO",
    "gap": "gap",
    "gamma": "bands at Γ",
}
"""Quantities with error bounds, in the order of the tables."""


class CoverageCounter:
    """Counts with `add`, and keeps no prediction; `result` returns the coverage. Predictions without bounds do not count."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}  # over samples, of the share within the bounds at each confidence
        self._counts: dict[str, list[int]] = {}  # of samples, and of scores
        self.confidence, self.confidences = 0.0, np.zeros(0)
        self.n_samples = self.n_outside = 0

    def add(self, prediction: Prediction) -> None:
        """Add the ratios of error to bound of one sample, for each quantity that it has."""
        u = prediction.uncertainty
        if u is None:
            return
        self.confidence, self.confidences = u.confidence, u.calibration.supported
        self.n_samples += 1
        self.n_outside += u.outside
        if u.outside:
            return
        for name, ratios in _ratios(prediction, u, self.confidences.tolist()).items():
            n = ratios.shape[1]
            if n:
                self._sums[name] = self._sums.get(name, 0.0) + (ratios <= 1).sum(axis=1) / n
                self._counts[name] = [a + b for a, b in zip(self._counts.get(name, [0, 0]), (1, n))]

    def result(self) -> Coverage | None:
        """Coverage of all samples; None if none of them has bounds."""
        if not self.n_samples:
            return None
        shares, counts = {}, {}
        for name in (name for name in TITLES if name in self._sums):
            n_samples, counts[name] = self._counts[name]
            shares[name] = tuple((self._sums[name] / n_samples).tolist())
        confidences = tuple(self.confidences.tolist())
        return Coverage(self.confidence, confidences, shares, counts, self.n_samples, self.n_outside)


def _ratios(prediction: Prediction, u: Uncertainty, confidences: Sequence[float]) -> dict[str, np.ndarray]:
    """|error| / bound (Q, n) at Q confidences, by quantity; quantities without bounds are left out."""
    sample = prediction.sample
    error = mean_errors(prediction.full, sample.hamiltonian)
    ratios = {"blocks": np.array([error / u.at(confidence).blocks for confidence in confidences])}
    if u.orbitals is None or sample.overlap is None:
        return ratios
    reference = np.sort(eigenvalues(sample.hamiltonian, sample.overlap), axis=None)
    for kind, (energy_error, spread) in orbital_errors(u.orbitals, reference).items():
        bounds = np.array([u.calibration.orbital_bounds(kind, spread, confidence) for confidence in confidences])
        if np.isfinite(bounds).all():
            ratios[kind] = energy_error / bounds
    return ratios
