"""`Uncertainty`: a predicted Hamiltonian with bounds of its errors."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.spin import absolute
from harmose.uncertainty.calibration import Calibration
from harmose.uncertainty.features import ErrorFeatures
from harmose.uncertainty.orbitals import ORBITAL_KINDS, OrbitalEnergies


@dataclass(frozen=True)
class BoundedEnergy:
    """An energy and a bound of its error.

    Attributes:
        value: energy in eV.
        bound: bound of the absolute error in eV.
    """

    value: float
    bound: float

    def __str__(self) -> str:
        digits = max(2, 1 - int(np.floor(np.log10(self.bound)))) if 0 < self.bound < np.inf else 6
        bound = f"± {self.bound:.{digits}f}" if np.isfinite(self.bound) else "(no bound)"
        return f"{self.value:.{digits}f} {bound}"


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """A predicted Hamiltonian with bounds, which its errors stay below with the probability `confidence`.

    `Model.uncertainty` returns it. The probability holds on average over structures like those of the training set. A structure
    that is `outside` has no bounds: they are infinite.

    Attributes:
        hamiltonian: predicted H in eV.
        confidence: probability that an error stays below its bound.
        features: error features of the blocks.
        calibration: gives bounds from the features.
        orbitals: orbital energies and their spreads in eV; None without S, or without the number of electrons.
        reasons: what is outside the training domain, and ghost levels, one line each.
        unused: summands of the model that were faded out, such as "network not used for 2 of 3 pairs".

    Examples:
        >>> from ase.build import molecule
        >>> import harmose
        >>> u = harmose.load("water-pbe-def2svp").uncertainty(molecule("H2O"))
        >>> u.hamiltonian.dense().shape, u.confidence
        ((24, 24), 0.9)
        >>> 0 < u.gap.bound < 1
        True
    """

    hamiltonian: BlockMatrix
    confidence: float
    features: ErrorFeatures
    calibration: Calibration
    orbitals: OrbitalEnergies | None = None
    reasons: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def at(self, confidence: float) -> "Uncertainty":
        """Return the same prediction with bounds for another confidence.

        Args:
            confidence: probability that an error stays below its bound.

        Returns:
            The prediction with other bounds.

        Raises:
            ModelError: the calibration has too few samples for this confidence.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> u = harmose.load("water-pbe-def2svp").uncertainty(molecule("H2O"))
            >>> bool((u.at(0.5).blocks <= u.blocks).all())
            True
        """
        return replace(self, confidence=self.calibration.confidence(confidence))

    @cached_property
    def blocks(self) -> np.ndarray:
        """Bound of the mean absolute error of each block (B,) in eV, in the order of `hamiltonian.keys`."""
        return self.calibration.block_bounds(self.features, self.confidence) + self._unbounded

    @property
    def ood_scores(self) -> np.ndarray:
        """Out-of-domain score of each atom (N,): up to 1 is usual, above 2 the atom is outside the training domain."""
        return self.features.atom_ood_score

    @property
    def outside(self) -> bool:
        """True if an atom or a pair of atoms is outside the training domain, or for ghost levels; there are no bounds then."""
        return bool(self.reasons) or self.has_ghosts or self.calibration.outside(self.features)

    @property
    def has_ghosts(self) -> bool:
        """True if there are levels among or below the occupied ones that no DFT Hamiltonian has (`physics.ghosts`)."""
        return self.orbitals is not None and bool(self.orbitals.ghosts)

    @property
    def _unbounded(self) -> float:
        """Addition to bounds: infinite outside the training domain."""
        return np.inf if self.outside else 0.0

    @cached_property
    def expected_error(self) -> float:
        """Expected mean absolute error of all elements of H, in eV."""
        return expected_error(self.hamiltonian, self.calibration, self.features)

    @property
    def orbital_energies(self) -> np.ndarray | None:
        """Orbital energies in eV, ascending (n,): of a molecule, both spins together; of a crystal, bands at Gamma.

        None without S, or without the number of electrons.
        """
        return None if self.orbitals is None else self.orbitals.energies

    @cached_property
    def orbital_bounds(self) -> np.ndarray | None:
        """Bound of the error of each of `orbital_energies` (n,) in eV, or None."""
        if self.orbitals is None:
            return None
        spreads, kinds = self.orbitals.spreads, self.orbitals.kinds()
        bounds = [self.calibration.orbital_bounds(kind, spreads, self.confidence) for kind in ORBITAL_KINDS]
        return np.stack(bounds)[kinds, np.arange(len(kinds))] + self._unbounded

    @property
    def homo(self) -> BoundedEnergy | None:
        """Energy of the highest occupied orbital with its bound, in eV; None for crystals, and where it is not known."""
        return self._frontier("homo")

    @property
    def lumo(self) -> BoundedEnergy | None:
        """Energy of the lowest unoccupied orbital with its bound, in eV; None for crystals, and where it is not known."""
        return self._frontier("lumo")

    @property
    def gap(self) -> BoundedEnergy | None:
        """Difference of both with its bound, in eV; None for crystals, and where it is not known.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> gap = harmose.load("water-pbe-def2svp").uncertainty(molecule("H2O")).gap
            >>> round(gap.value, 1), gap.bound < 0.01
            (6.9, True)
        """
        return self._frontier("gap")

    def _frontier(self, kind: str) -> BoundedEnergy | None:
        energies = {} if self.orbitals is None else self.orbitals.frontier()
        if kind not in energies:
            return None
        value, spread = energies[kind]
        bound = self.calibration.orbital_bounds(kind, np.array(spread), self.confidence)
        return BoundedEnergy(value, float(bound) + self._unbounded)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the bounds as arrays for a `.npz` file.

        Returns:
            confidence (), block_bounds (B,) in eV, ood_scores (N,) and, where they are known, orbital_energies (n,) and
            orbital_bounds (n,) in eV.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> arrays = harmose.load("water-pbe-def2svp").uncertainty(molecule("H2O")).arrays()
            >>> arrays["block_bounds"].shape, arrays["orbital_bounds"].shape
            ((6,), (24,))
        """
        arrays = {"confidence": np.array(self.confidence), "block_bounds": self.blocks, "ood_scores": self.ood_scores}
        if self.orbital_energies is None or self.orbital_bounds is None:
            return arrays
        return arrays | {"orbital_energies": self.orbital_energies, "orbital_bounds": self.orbital_bounds}

    def summary(self) -> dict[str, Any]:
        """Return the bounds of a molecule as JSON values.

        Returns:
            confidence, outside, expected_error in eV and, where they are known and bounded, homo, lumo and gap: each a list
            of value and bound in eV.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> list(harmose.load("water-pbe-def2svp").uncertainty(molecule("H2O")).summary())
            ['confidence', 'outside', 'expected_error', 'homo', 'lumo', 'gap']
        """
        energies = {"homo": self.homo, "lumo": self.lumo, "gap": self.gap}
        bounded = {k: [x.value, x.bound] for k, x in energies.items() if x is not None and np.isfinite(x.bound)}
        return {
            "confidence": self.confidence,
            "outside": self.outside,
            "expected_error": self.expected_error,
            **bounded,
        }


def mean_errors(predicted: BlockMatrix, reference: BlockMatrix) -> np.ndarray:
    """Return the mean |dH| of each block (B,) in eV, which `Uncertainty.blocks` bounds."""
    error = absolute(predicted.values - reference.values).mean(0)
    return np.add.reduceat(error, predicted.offsets[:-1]) / np.diff(predicted.offsets)


def expected_error(h: BlockMatrix, calibration: Calibration, features: ErrorFeatures) -> float:
    """Return the expected mean absolute error of all elements of the matrix, in eV."""
    return calibration.expected_of_matrix(features)
