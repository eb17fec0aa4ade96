"""Figures of crystals: bands along a path, and densities of states; of one Hamiltonian, or of a prediction over DFT.

Energies are relative to the Fermi level. Each function returns a `matplotlib.figure.Figure`.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harmose.errors import ConfigError
from harmose.evaluate.band_metrics import WINDOW, bands_along, compare_bands, reference_bands
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.style import DFT, FAINT, FULL, GRID, TEXT, dress, legend, new_figure
from harmose.physics.bands import Bands
from harmose.physics.dos import DensityOfStates

PROJECTION_COLOURS = ("#d9822b", "#2a8f6b", "#7c5cc4", "#b42318", "#0e8ca8", "#8a6d1f", "#c2478f")
"""As many as a reader can tell apart, without the colours of DFT and prediction."""

GHOST = "#b42318"

LOOKS = ({"color": DFT, "linewidth": 1.3}, {"color": FULL, "linewidth": 1.3, "linestyle": (0, (3.5, 1.8))})
"""DFT solid and beneath, the prediction dashed and above, so that both are visible where they agree."""


def band_structure(
    series: Mapping[str, Bands],
    window: tuple[float, float],
    title: str = "",
    ghosts: np.ndarray | None = None,
) -> Figure:
    """Bands of one or two Hamiltonians by name, the reference first; `window` in eV.

    Energies are relative to the Fermi level of the first (to 0 if it has none): align the second before. Each spin has
    a panel. `ghosts` (n_spins, n_k, n_bands) is True for states of the last Hamiltonian to mark. Raises `ConfigError`
    if the first has no band in the window.
    """
    first = next(iter(series.values()))
    zero = first.fermi_level or 0.0
    check_window(first.by_spin - zero, window)
    spins = ("spin up", "spin down") if len(first.by_spin) == 2 else ("",)
    figure = new_figure(5.6 if len(spins) == 1 else 9.0, 4.6)
    panels = figure.subplots(1, len(spins), sharey=True, squeeze=False)[0]
    for spin, (axes, name) in enumerate(zip(panels, spins)):
        y_label = _energy_label(first.fermi_level) if spin == 0 else ""
        dress(axes, "", y_label, " · ".join(filter(None, [title, name])), None)
        for (label, bands), look in zip(series.items(), _looks(len(series))):
            lines = axes.plot(bands.x, bands.by_spin[spin] - zero, **look)
            lines[0].set_label(label)
        if ghosts is not None and ghosts[spin].any():
            last = list(series.values())[-1]
            k, n = np.nonzero(ghosts[spin])
            axes.plot(last.x[k], last.by_spin[spin][k, n] - zero, "o", color=GHOST, markersize=3.5, mew=0,
                      label="without a DFT state")  # fmt: skip
        _path_axis(axes, first)
        if first.fermi_level is not None:
            axes.axhline(0, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.set_ylim(window)
    if len(series) > 1 or (ghosts is not None and ghosts.any()):
        legend(panels[0], loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)
    return figure


def predicted_bands(prediction: Prediction, window: tuple[float, float] = WINDOW) -> Figure | None:
    """Bands of the whole model over those of DFT, aligned, with ghost states; None where bands cannot be compared."""
    dft = reference_bands(prediction.sample)
    if dft is None:
        return None
    errors = compare_bands(bands_along(prediction.full, prediction.sample.overlap, dft), dft, window)
    if errors.mae is None:
        return None
    series = {"DFT": dft, "prediction": errors.aligned}
    return band_structure(series, window, f"Bands of {prediction.sample.name}", errors.ghosts)


def density_of_states(series: Mapping[str, DensityOfStates], title: str = "") -> Figure:
    """Densities of states of one or two Hamiltonians by name, the reference first, relative to their own Fermi levels.

    Projections of the last one are drawn beneath its total. The density of spin down is drawn downward.
    """
    figure = new_figure(6.4, 3.8)
    last = list(series.values())[-1]
    axes = dress(figure.add_subplot(), _energy_label(last.fermi_level), "states per eV and cell", title, "y")
    for (label, colour), density in zip(_strongest(last).items(), _projections(last)):
        for sign, part in zip((1, -1), density):
            axes.fill_between(last.relative, 0, sign * part, color=colour, alpha=0.22, linewidth=0)
            axes.plot(last.relative, sign * part, color=colour, linewidth=1.0, label=label if sign > 0 else None)
    single = {"color": DFT, "linewidth": 1.3} if last.projections else None
    for (label, density), look in zip(series.items(), _looks(len(series), single)):
        for sign, part in zip((1, -1), np.atleast_2d(density.total)):
            axes.plot(density.relative, sign * part, label=label if sign > 0 else None, **look)
    if last.fermi_level is not None:
        axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xlim(last.relative[0], last.relative[-1])
    if np.ndim(last.total) == 2:
        axes.axhline(0, color=FAINT, linewidth=0.6)
        for y, name, side in ((0.97, "spin up", "top"), (0.03, "spin down", "bottom")):
            axes.text(0.01, y, name, transform=axes.transAxes, fontsize=8, color=TEXT, va=side)
    else:
        axes.set_ylim(bottom=0)
    if len(series) > 1 or last.projections:
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5)
    return figure


def check_window(energies: np.ndarray, window: tuple[float, float]) -> None:
    """Raise `ConfigError` unless `window` is (low, high) in eV and contains one of `energies`."""
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(f"window: expected two energies in eV, the lower first, got {low:g} and {high:g}")
    if not ((energies >= low) & (energies <= high)).any():
        bands = f"they lie from {energies.min():.2f} to {energies.max():.2f}"
        raise ConfigError(f"window: there is no band from {low:g} to {high:g} eV; {bands}")


def _looks(n: int, single: Mapping | None = None) -> tuple[Mapping, ...]:
    return LOOKS if n > 1 else (single or {"color": FULL, "linewidth": 1.3},)


def _energy_label(fermi_level: float | None) -> str:
    return "energy (eV)" if fermi_level is None else "energy − Fermi level (eV)"


def _path_axis(axes: Axes, bands: Bands) -> None:
    """Draw letters and lines at the special points."""
    axes.set_xlim(bands.x[0], bands.x[-1] if bands.x[-1] > bands.x[0] else bands.x[0] + 1)
    if not len(bands.ticks):
        axes.set_xlabel("k", color=TEXT, fontsize=9)
        return
    axes.set_xticks(bands.ticks, [_pretty(label) for label in bands.labels], fontsize=10)
    for tick in bands.ticks[1:-1]:
        axes.axvline(tick, color=GRID, linewidth=0.9, zorder=0)


def _pretty(label: str) -> str:
    """Label of a special point with a Greek Gamma and subscripts: "Γ" for "G", "M₁" for "M1"."""
    return label.replace("G", "Γ").translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _strongest(density: DensityOfStates) -> dict[str, str]:
    """Labels and colours of the projections to draw: the strongest, and one for all others."""
    names = _drawn(density)
    labels = [*names, "others"] if len(names) < len(density.projections) else names
    return dict(zip(labels, PROJECTION_COLOURS))


def _projections(density: DensityOfStates) -> list[np.ndarray]:
    """Projections in the order of `_strongest`, each (n_spins, n_energies)."""
    names = _drawn(density)
    rest = [np.atleast_2d(p) for name, p in density.projections.items() if name not in names]
    drawn = [np.atleast_2d(density.projections[name]) for name in names]
    return [*drawn, np.sum(rest, axis=0)] if rest else drawn


def _drawn(density: DensityOfStates) -> list[str]:
    """Names of all projections, or of the strongest if there are more than colours."""
    parts = density.projections
    if len(parts) <= len(PROJECTION_COLOURS):
        return list(parts)
    return sorted(parts, key=lambda name: -np.abs(parts[name]).sum())[: len(PROJECTION_COLOURS) - 1]
