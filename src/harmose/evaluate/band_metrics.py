"""Errors of predicted bands, and predicted states that DFT does not have (`docs/metrics.md`).

1. Aligning. H and H + c S have the same states, so the predicted bands are first moved by c: the median of E_DFT - E
   over the states that are occupied in DFT, band by band in ascending order. A spurious band beneath all others would
   pair every band with a wrong one. The lowest 0, 1, 2 or 3 predicted bands are therefore left out, whichever leaves the
   smallest errors.
2. Ghost states: predicted states, within the window or below the lowest of DFT, that have no DFT state of the same
   k-point (and spin) within the tolerance. Partners are paired one to one in ascending order, as many as possible.
3. Error: |E - E_DFT| over the DFT states within the window, band by band in ascending order, after leaving out as many
   ghosts below the lowest DFT state of a k-point as makes its error smallest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import HarmoseError, MatrixError
from harmose.evaluate.splittings import SplittingErrors, compare_splittings
from harmose.physics.bands import Bands, bands
from harmose.physics.kmesh import mesh_size
from harmose.physics.kpath import kpath
from harmose.physics.states import check_overlap, energies_at, mesh_fermi_level

WINDOW = (-10.0, 5.0)
"""Energies in eV relative to the Fermi level of DFT."""

GHOST_DISTANCE = 0.2
"""eV; a predicted state farther than this from any DFT state is a ghost. Ten times the error of a useful model."""

MOST_SPURIOUS = 3
"""Most spurious bands beneath all others that aligning leaves out."""


@dataclass(frozen=True, eq=False)
class BandErrors:
    """Errors of predicted bands: `mae` in eV over the `n_states` DFT states within the window, None if there are none.

    `aligned` are the predicted bands after `shift` (eV) was added. `ghosts` (n_spins, n_k, n_bands) is True for each
    predicted state that is a ghost. `splittings` is None without spin-orbit splittings. `gap` is the absolute error of
    the gap on the path in eV, None where DFT has none.
    """

    mae: float | None
    n_states: int
    shift: float
    aligned: Bands
    ghosts: np.ndarray
    splittings: SplittingErrors | None = None
    gap: float | None = None

    @property
    def ghost_states(self) -> int:
        """Number of ghost states over all k-points of the path."""
        return int(self.ghosts.sum())


def compare_bands(
    predicted: Bands,
    reference: Bands,
    window: tuple[float, float] = WINDOW,
    tolerance: float = GHOST_DISTANCE,
    shift: float | None = None,
) -> BandErrors:
    """Errors of predicted bands.

    Args:
        predicted: bands at the k-points of `reference`.
        reference: bands of DFT with their Fermi level.
        window: lowest and highest energy in eV, relative to the Fermi level of the reference.
        tolerance: largest distance in eV of a predicted state from its DFT state; beyond it is a ghost.
        shift: energy in eV to add to the predicted bands. Default: `occupied_shift`.

    Raises:
        MatrixError: the bands differ in shape or k-points, or the reference has no Fermi level.
    """
    _check_same(predicted, reference)
    shift = occupied_shift(predicted, reference, max(window[1], 0.0)) if shift is None else shift
    aligned = predicted.shifted(shift)
    energies, dft = aligned.by_spin, reference.by_spin
    low, high = (reference.required_fermi_level + end for end in window)
    ghosts = _ghosts(energies, dft, low, high, tolerance)
    inside = (dft >= low) & (dft <= high)
    n_states = int(inside.sum())
    error = _least_errors(energies, dft, inside, (energies < dft[..., :1] - tolerance).sum(axis=-1))
    mae = float(error / n_states) if n_states else None
    splittings = compare_splittings(aligned, reference, window)
    return BandErrors(mae, n_states, shift, aligned, ghosts, splittings, _gap_error(energies, reference))


def occupied_shift(predicted: Bands, reference: Bands, highest: float = WINDOW[1]) -> float:
    """Energy (eV) to add to the predicted bands: the median of E_DFT - E over the states that are occupied in DFT.

    One more of the lowest predicted bands is left out only if that halves the mean error of the states up to `highest`
    (eV) above the Fermi level.
    """
    energies, dft, level = predicted.by_spin, reference.by_spin, reference.required_fermi_level
    n = dft.shape[-1]
    occupied, low = dft <= level, dft <= level + highest
    if not occupied.any():
        raise MatrixError("bands: expected occupied states to align by, got a Fermi level below all bands")
    least, shift = np.inf, 0.0
    for left_out in range(min(MOST_SPURIOUS, n - 1) + 1):
        # The highest bands, which have no partner left, are paired with the last one.
        difference = dft - energies[..., np.minimum(np.arange(n) + left_out, n - 1)]
        middle = float(np.median(difference[occupied]))
        error = float(np.abs(difference - middle)[low].mean())
        if left_out == 0 or error < least / 2:
            least, shift = error, middle
    return shift


def fermi_shift(predicted: Bands, reference: Bands) -> float:
    """Energy (eV) to add to the predicted bands so that both Fermi levels agree."""
    return reference.required_fermi_level - predicted.required_fermi_level


def reference_bands(sample: Sample, path: str | None = None) -> Bands | None:
    """DFT bands of a crystal with S and a Fermi level or a number of electrons; None for other samples."""
    if sample.overlap is None or not sample.structure.pbc.any():
        return None
    level = sample.fermi_level
    if level is None and sample.n_electrons is not None:
        mesh = mesh_size(sample.structure)
        level = mesh_fermi_level(sample.hamiltonian, sample.overlap, mesh, sample.n_electrons)
    if level is None:
        return None
    along = kpath(sample.structure, path)
    return bands(sample.hamiltonian, sample.overlap, along, sample.structure, fermi_level=level)


def bands_along(h: BlockMatrix, s: BlockMatrix | None, reference: Bands) -> Bands:
    """Bands of another H at the k-points of `reference`, without a Fermi level."""
    energies = energies_at(h, check_overlap(s, "bands"), reference.kpoints)
    return replace(reference, energies=energies, spin=h.spin, fermi_level=None)


def sample_band_errors(sample: Sample, predictions: Mapping[str, BlockMatrix]) -> dict[str, BandErrors]:
    """`compare_bands` of each prediction with the bands of DFT, all with the sample's S; empty without bands of DFT.

    Raises `MatrixError` that names the sample.
    """
    try:
        dft = reference_bands(sample)
        if dft is None:
            return {}
        return {name: compare_bands(bands_along(h, sample.overlap, dft), dft) for name, h in predictions.items()}
    except HarmoseError as error:
        raise MatrixError(f"sample {sample.name}: {error}") from None


def _check_same(predicted: Bands, reference: Bands) -> None:
    if predicted.energies.shape != reference.energies.shape:
        raise MatrixError(
            f"bands: expected energies of shape {reference.energies.shape}, got {predicted.energies.shape}"
        )
    if not np.allclose(predicted.kpoints, reference.kpoints, atol=1e-9):
        raise MatrixError("bands: expected both at the same k-points, got others")


def _gap_error(energies: np.ndarray, reference: Bands) -> float | None:
    """Return |gap - gap of DFT| between the bands that are occupied and empty in DFT; None for a metal."""
    gap, dft = reference.gap, reference.by_spin
    if gap is None or gap.is_metal:
        return None
    occupied = dft <= (gap.highest_occupied + gap.lowest_empty) / 2
    return float(abs(energies[~occupied].min() - energies[occupied].max() - gap.indirect))


def _ghosts(energies: np.ndarray, dft: np.ndarray, low: float, high: float, tolerance: float) -> np.ndarray:
    """True for predicted states without a partner, within [low, high] or below the lowest DFT state."""
    single = _unpaired(energies.reshape(-1, energies.shape[-1]), dft.reshape(-1, dft.shape[-1]), tolerance)
    below = energies < dft[..., :1]
    return single.reshape(energies.shape) & ((energies <= high) & (energies >= low) | below)


def _unpaired(energies: np.ndarray, dft: np.ndarray, tolerance: float) -> np.ndarray:
    """True for values of `energies` (m, n) without a partner in `dft` (m, n) within the tolerance, one to one.

    Both are in ascending order. Each value takes the lowest partner that is left; for points on a line no rule makes
    more pairs. All rows advance together.
    """
    n = energies.shape[1]
    rows = np.arange(len(energies))
    unpaired = np.zeros(energies.shape, dtype=bool)
    a, b = np.zeros(len(energies), dtype=int), np.zeros(len(energies), dtype=int)
    while (going := (a < n) & (b < n)).any():
        r, i, j = rows[going], a[going], b[going]
        difference = energies[r, i] - dft[r, j]
        unpaired[r, i] = difference < -tolerance  # the lowest partner left is too high already
        a[going] += difference <= tolerance
        b[going] += difference >= -tolerance
    return unpaired | (np.arange(n) >= a[:, None])


def _least_errors(energies: np.ndarray, dft: np.ndarray, inside: np.ndarray, n_below: np.ndarray) -> float:
    """Least sum of |E - E_DFT| over the states `inside`, leaving out 0 to `n_below` lowest states of each k-point."""
    n = energies.shape[-1]
    least = np.full(energies.shape[:-1], np.inf)
    for left_out in range(int(n_below.max(initial=0)) + 1):
        # The highest bands, which have no partner left, are paired with the last one.
        pairs = energies[..., np.minimum(np.arange(n) + left_out, n - 1)]
        error = np.where(inside, np.abs(pairs - dft), 0.0).sum(axis=-1)
        least = np.where(left_out <= n_below, np.minimum(least, error), least)
    return float(least.sum())
