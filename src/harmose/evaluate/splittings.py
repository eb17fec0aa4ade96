"""Spin-orbit splittings of bands, and their errors (`docs/metrics.md`).

Without spin-orbit coupling and magnetization, bands 2n and 2n + 1 of a spinor Hamiltonian are equal at every k. With coupling
but without an inversion centre they part,

    splitting[k, n] = e[k, 2n + 1] - e[k, 2n]        n = 0, 1, ..., in ascending order

except where k and -k are the same point: there time reversal keeps them together. The energy zero does not enter.
"""

from dataclasses import dataclass

import numpy as np

from harmose.physics.bands import Bands
from harmose.spin import Spin

NOISE = 1e-6
"""eV; if no splitting of DFT is larger, there is nothing to compare: the crystal has an inversion centre."""


@dataclass(frozen=True)
class SplittingErrors:
    """Errors of predicted splittings in eV: `mae`, `size` (the mean splitting of DFT), and the `worst` of the `n` pairs of states."""

    mae: float
    size: float
    worst: float
    n: int

    @property
    def relative(self) -> float:
        """The mean error divided by the mean splitting."""
        return self.mae / self.size


def splittings(bands: Bands) -> np.ndarray:
    """Return the splittings of pairs of spinor bands (n_k, n_bands / 2) in eV."""
    return np.diff(_pairs(bands.energies), axis=-1)[..., 0]


def compare_splittings(predicted: Bands, reference: Bands, window: tuple[float, float]) -> SplittingErrors | None:
    """Errors of predicted splittings, over the pairs of DFT whose mean energy lies within the window.

    Args:
        predicted: bands at the k-points of `reference`.
        reference: bands of DFT with their Fermi level.
        window: lowest and highest energy in eV, relative to the Fermi level of the reference.

    Returns:
        None for bands that are not of spinors, and where DFT has no splittings.
    """
    if reference.spin is not Spin.SPINOR:
        return None
    middle = _pairs(reference.relative).mean(axis=-1)
    inside = (middle >= window[0]) & (middle <= window[1])
    dft, error = splittings(reference)[inside], np.abs(splittings(predicted) - splittings(reference))[inside]
    if dft.max(initial=0.0) <= NOISE:
        return None
    return SplittingErrors(float(error.mean()), float(dft.mean()), float(error.max()), dft.size)


def _pairs(energies: np.ndarray) -> np.ndarray:
    """(n_k, n_bands) -> (n_k, n_bands / 2, 2)."""
    return energies.reshape(len(energies), -1, 2)
