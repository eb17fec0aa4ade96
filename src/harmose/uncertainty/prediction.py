"""`Uncertainty`: a predicted Hamiltonian with bounds of its errors."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.spin import absolute
from harmose.uncertainty.calibration import Calibration
from harmose.uncertainty.features import ErrorFeatures
from harmose.uncertainty.orbitals import KINDS, OrbitalEnergies


@dataclass(frozen=True)
class Bounded:
    """An energy in eV; its error is at most `bound` as often as the level says."""

    value: float
    bound: float

    def __str__(self) -> str:
        digits = max(2, 1 - int(np.floor(np.log10(self.bound)))) if 0 < self.bound < np.inf else 6
        return f"{self.value:.{digits}f} ± {self.bound:.{digits}f}"


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """H, and for each of its blocks and energies what the error stays below with probability `level`.

    The level holds for structures like those of the training set; `outside` says that this one is not, and its bounds are
    extrapolated. Energies are in eV; `levels` is None without S, or where the number of electrons is not known.
    """

    hamiltonian: BlockMatrix
    confidence: float
    features: ErrorFeatures
    calibration: Calibration
    orbitals: OrbitalEnergies | None = None

    def at(self, confidence: float) -> "Uncertainty":
        """The same at another level; `ModelError` for one that the calibration does not support."""
        return replace(self, confidence=self.calibration.confidence(confidence))

    @cached_property
    def blocks(self) -> np.ndarray:
        """Bounds of the mean absolute error of every block (B,) in eV, in the order of `hamiltonian.keys`."""
        return self.calibration.block_bounds(self.features, self.confidence)

    @property
    def ood_scores(self) -> np.ndarray:
        """Of every atom (N,): 1 is the most unusual that training held out, 2 and more is outside."""
        return self.features.atom_ood_score

    @property
    def outside(self) -> bool:
        """Whether the structure is unlike those of the training set: then bounds are extrapolated."""
        return self.calibration.outside(self.features)

    @cached_property
    def expected_error(self) -> float:
        """What the mean absolute error of all elements of H is expected to be, in eV."""
        return expected_error(self.hamiltonian, self.calibration, self.features)

    @property
    def orbital_energies(self) -> np.ndarray | None:
        """Ascending (n,): of a molecule, of both spins together; of a crystal at Gamma."""
        return None if self.orbitals is None else self.orbitals.energies

    @cached_property
    def orbital_bounds(self) -> np.ndarray | None:
        """Of each of `orbital_energies` (n,)."""
        if self.orbitals is None:
            return None
        spreads, kinds = self.orbitals.spreads, self.orbitals.kinds()
        bounds = np.stack([self.calibration.orbital_bounds(kind, spreads, self.confidence) for kind in KINDS])
        return bounds[kinds, np.arange(len(kinds))]

    @property
    def homo(self) -> Bounded | None:
        return self._frontier("homo")

    @property
    def lumo(self) -> Bounded | None:
        return self._frontier("lumo")

    @property
    def gap(self) -> Bounded | None:
        return self._frontier("gap")

    def _frontier(self, kind: str) -> Bounded | None:
        found = {} if self.orbitals is None else self.orbitals.frontier()
        if kind not in found:
            return None
        value, spread = found[kind]
        return Bounded(value, float(self.calibration.orbital_bounds(kind, np.array(spread), self.confidence)))

    def arrays(self) -> dict[str, np.ndarray]:
        """What a .npz of the prediction holds besides: level, block_bounds, novelty and, where known, orbital_bounds."""
        found = {"confidence": np.array(self.confidence), "block_bounds": self.blocks, "ood_scores": self.ood_scores}
        if self.orbital_energies is None or self.orbital_bounds is None:
            return found
        return found | {"orbital_energies": self.orbital_energies, "orbital_bounds": self.orbital_bounds}

    def summary(self) -> dict[str, Any]:
        """As JSON values: level, outside, expected_error, and of homo, lumo and gap value and bound in eV."""
        energies = {"homo": self.homo, "lumo": self.lumo, "gap": self.gap}
        known = {k: [x.value, x.bound] for k, x in energies.items() if x is not None and np.isfinite(x.bound)}
        return {"confidence": self.confidence, "outside": self.outside, "expected_error": self.expected_error, **known}


def mean_errors(predicted: BlockMatrix, reference: BlockMatrix) -> np.ndarray:
    """Mean |dH| of every block (B,) in eV: what `Uncertainty.blocks` bounds."""
    error = absolute(predicted.values - reference.values).mean(0)
    return np.add.reduceat(error, predicted.offsets[:-1]) / np.diff(predicted.offsets)


def expected_error(h: BlockMatrix, calibration: Calibration, features: ErrorFeatures) -> float:
    """What the mean absolute error of all elements of the matrix is expected to be, in eV."""
    weight = np.diff(h.offsets) * np.where(np.arange(len(h.keys)) < len(h.numbers), 1, 2)
    return float(np.average(calibration.expected(features), weights=weight))
