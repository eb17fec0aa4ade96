"""How often errors stay within the bounds that a model states: of blocks, levels, HOMO, LUMO and gap.

    coverage = mean over samples of the share of the sample's blocks (levels) with |error| <= bound

at the stated level and at every other that the calibration supports: a model that can be trusted covers what it states.
Errors of blocks are means of |H_predicted - H_DFT| over their elements; a crystal's levels are those at Gamma.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harmose.evaluate.evaluation import Coverage
from harmose.physics.eigen import eigenvalues
from harmose.uncertainty import conformal
from harmose.uncertainty.orbitals import compared
from harmose.uncertainty.prediction import Uncertainty, mean_errors

if TYPE_CHECKING:
    from harmose.evaluate.metrics import Prediction

TITLES = {
    "blocks": "blocks of H",
    "occupied": "occupied levels",
    "unoccupied": "empty levels",
    "homo": "HOMO",
    "lumo": "LUMO",
    "gap": "gap",
    "gamma": "bands at Γ",
}
"""Quantities that have bounds, in the order of the tables."""


class CoverageCounter:
    """`add` every prediction, then `result`; predictions without bounds do not count."""

    def __init__(self) -> None:
        self.ratios: dict[str, list[np.ndarray]] = {}
        self.level, self.levels = 0.0, np.zeros(0)
        self.n_samples = self.n_outside = 0

    def add(self, prediction: "Prediction") -> None:
        """Errors over bounds at each level, of every quantity that the sample has."""
        u = prediction.uncertainty
        if u is None:
            return
        self.level, self.levels = u.level, u.calibration.supported
        for name, ratios in _ratios(prediction, u, self.levels.tolist()).items():
            self.ratios.setdefault(name, []).append(ratios)
        self.n_samples += 1
        self.n_outside += u.outside

    def result(self) -> Coverage | None:
        if not self.n_samples:
            return None
        shares, counts = {}, {}
        for name in (name for name in TITLES if name in self.ratios):
            parts = self.ratios[name]
            sample = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
            shares[name] = tuple(conformal.coverage(row, sample) for row in np.concatenate(parts, 1))
            counts[name] = len(sample)
        return Coverage(self.level, tuple(self.levels.tolist()), shares, counts, self.n_samples, self.n_outside)


def _ratios(prediction: "Prediction", u: Uncertainty, levels: Sequence[float]) -> dict[str, np.ndarray]:
    """By quantity (Q, n); without those of which the calibration knew nothing."""
    sample = prediction.sample
    error = mean_errors(prediction.full, sample.hamiltonian)
    found = {"blocks": np.array([error / u.at(level).blocks for level in levels])}
    if u.levels is None or sample.overlap is None:
        return found
    reference = np.sort(eigenvalues(sample.hamiltonian, sample.overlap), axis=None)
    for kind, (wrong, spread) in compared(u.levels, reference).items():
        bounds = np.array([u.calibration.orbital_bounds(kind, spread, level) for level in levels])
        if np.isfinite(bounds).all():
            found[kind] = wrong / bounds
    return found
