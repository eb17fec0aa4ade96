"""Figures of an evaluation: elements of H and orbital energies over DFT, errors by sample, the learning curve.

Each function returns a `matplotlib.figure.Figure`. Energies are given in eV and drawn in `unit`. `titles`
(`Evaluation.titles`) holds the stages to draw, with their titles.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harmose.evaluate.evaluation import Evaluation, Prediction, last_stage
from harmose.evaluate.figure_data import FigureData, ParityPoints
from harmose.evaluate.metrics import solved_orbitals
from harmose.evaluate.style import (
    DFT,
    FAINT,
    FULL,
    GRID,
    STAGE_COLOURS,
    TEXT,
    dress,
    energy_unit,
    legend,
    log_ticks,
    new_figure,
    number,
)

MAX_ENTRIES = 1500
"""Entries of the training log that a learning curve draws."""

CHALLENGING = "#b42318"

Titles = Mapping[str, str]
Series = Mapping[str, np.ndarray]
"""Values in eV by "dft" and stage, in the same order."""


def predicted_against_dft(data: FigureData, unit: str, titles: Titles) -> Figure:
    """Predicted elements of H over those of DFT, with absolute errors beneath."""
    return _parity(data.elements, unit, "H element", titles)


def orbital_energies(data: FigureData, unit: str, titles: Titles) -> Figure | None:
    """Predicted energies of the occupied orbitals over those of DFT, errors beneath; None if there are none."""
    return _parity(data.orbital_energies, unit, "orbital energy", titles) if len(data.orbital_energies) else None


def orbital_energy_errors(data: FigureData, unit: str, titles: Titles) -> Figure | None:
    """Error of each orbital energy, counted from the gap: the mean, and the range of the middle 80 % of the samples."""
    errors = data.orbital_errors
    if not errors:
        return None
    orbitals = sorted(next(iter(errors.values())))
    size, label = energy_unit(unit)
    figure = new_figure(5.2, 4.4)
    axes = dress(figure.add_subplot(), "orbital", f"|error| ({label})", "Error of each orbital energy", grid="y")
    for k, (stage, title) in enumerate(titles.items()):
        colour = STAGE_COLOURS[stage]
        spread = [np.array(errors[stage][orbital]) / size for orbital in orbitals]
        x = np.array(orbitals) + (k - (len(titles) - 1) / 2) * 0.72 / len(titles)
        low, high = (np.array([np.percentile(e, q) for e in spread]) for q in (10, 90))
        axes.vlines(x, low, high, color=colour, alpha=0.35, linewidth=4 if len(orbitals) < 25 else 2.5)
        axes.plot(x, [e.mean() for e in spread], "o", color=colour, markersize=4.5, label=title)
    _log_scale(axes)
    axes.axvline(-0.5, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
    step = -(-len(orbitals) // 16)
    ticks = [orbital for orbital in orbitals if orbital % step == step - 1 and not (step > 1 and orbital == 1)]
    axes.set_xticks(
        ticks, [_orbital_name(orbital) for orbital in ticks], rotation=40, ha="right", rotation_mode="anchor"
    )
    for side, name in ((-1, "occupied"), (1, "empty")):
        align = {"va": "top", "ha": "left" if side > 0 else "right", "fontsize": 8, "color": FAINT}
        axes.annotate(name, (-0.5, 0.99), xycoords=axes.get_xaxis_transform(), xytext=(5 * side, 0),
                      textcoords="offset points", **align)  # fmt: skip
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=len(titles))
    return figure


def orbital_diagram(prediction: Prediction, titles: Titles) -> Figure | None:
    """Orbital energies (eV) around the gap, of DFT and of each stage side by side; None if there are none."""
    solved = solved_orbitals(prediction)
    if solved is None or solved["dft"].gap is None:
        return None
    n = solved["dft"].n_occupied
    energies = solved["dft"].energies
    # Without core orbitals and very high ones, which would press all others into one line.
    first, last = np.searchsorted(energies, [energies[n - 1] - 30, energies[n] + 15])
    window = slice(max(n - 7, int(first)), min(n + 3, int(last)))
    figure = new_figure(5.2, 4.4)
    title = f"Orbital energies of {prediction.sample.name}"
    axes = dress(figure.add_subplot(), "", "orbital energy (eV)", title, grid="y")
    columns = {"dft": "DFT", **titles}
    for k, name in enumerate(columns):
        orbitals, colour = solved[name], STAGE_COLOURS.get(name, DFT)
        for orbital, energy in enumerate(orbitals.energies[window], start=window.start):
            style = "-" if orbital < n else (0, (3, 1.5))
            axes.plot([k - 0.32, k + 0.32], [energy, energy], color=colour, linewidth=1.8, linestyle=style)
        homo, lumo = orbitals.energies[n - 1 : n + 1]
        axes.annotate("", (k, lumo), (k, homo), arrowprops={"arrowstyle": "<->", "color": FAINT, "linewidth": 0.8})
        axes.text(k + 0.05, (homo + lumo) / 2, f"{lumo - homo:.4f} eV", fontsize=8, color=TEXT, va="center")
    for k, (left, right) in enumerate(pairwise(columns)):
        # thin lines between the same orbital of neighbouring columns
        ends = [solved[name].energies[window] for name in (left, right)]
        axes.plot([k + 0.32, k + 0.68], ends, color=GRID, linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(columns)), list(columns.values()))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    return figure


def error_distribution(evaluation: Evaluation, unit: str) -> Figure:
    """Histogram of the errors e[s] of the samples, by stage."""
    size, label = energy_unit(unit)
    figure, titles = new_figure(), evaluation.titles
    axes = dress(figure.add_subplot(), f"MAE of a sample, e[s] ({label})", "samples", "Errors of the samples", grid="y")
    errors = {stage: np.array([s.errors[stage].mae for s in evaluation.samples]) / size for stage in titles}
    everything = np.maximum(np.concatenate(list(errors.values())), 1e-12)
    n_bins = int(np.clip(2 * np.sqrt(len(evaluation.samples)), 8, 30))
    edges = np.geomspace(everything.min() * 0.97, everything.max() * 1.03, n_bins + 1)
    for stage, title in titles.items():
        colour, median = STAGE_COLOURS[stage], float(np.median(errors[stage]))
        filled = stage == last_stage(titles)
        look: dict[str, Any] = {"alpha": 0.55} if filled else {"histtype": "step", "linewidth": 1.6}
        axes.hist(errors[stage], edges, color=colour, label=f"{title}, median {number(median)}", **look)
        axes.axvline(median, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    log_ticks(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    return figure


def stage_comparison(evaluation: Evaluation, unit: str) -> Figure | None:
    """e[s] of the whole model over that of the stage before, a point per sample; None for a model of one stage."""
    if evaluation.compared_stages is None:
        return None
    size, label = energy_unit(unit)
    x_title, y_title = (evaluation.titles[stage] for stage in evaluation.compared_stages)
    figure = new_figure()
    axes = dress(figure.add_subplot(), f"e[s], {x_title} ({label})", f"e[s], {y_title} ({label})", "Sample by sample")
    before, after = (
        np.array([s.errors[stage].mae for s in evaluation.samples]) / size for stage in evaluation.compared_stages
    )
    hard = np.isin([s.name for s in evaluation.samples], evaluation.challenging_samples)
    ends = np.array([min(before.min(), after.min()) * 0.9, max(before.max(), after.max()) * 1.1 or 1.0])
    axes.plot(ends, ends, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), label="no change")
    axes.fill_between(ends, ends[0], ends, color="#eef3fb", linewidth=0, zorder=0)
    axes.plot(before[~hard], after[~hard], "o", color=FULL, markersize=4, alpha=0.6, label="sample", mew=0)
    axes.plot(before[hard], after[hard], "D", color=CHALLENGING, markersize=5, label="challenging", mew=0)
    share = 100 * np.mean(after < before)
    axes.text(0.97, 0.05, f"{share:.0f} % of the samples\nhave a smaller error", transform=axes.transAxes, ha="right",
              fontsize=8, color=TEXT)  # fmt: skip
    axes.set(xlim=ends, ylim=ends)
    legend(axes, loc="upper left")
    return figure


def learning_curve(history: Sequence[Mapping[str, Any]], unit: str) -> Figure | None:
    """MAE (eV in `history`) over time or steps, with the phases of the schedule; the loss if no MAE was logged.

    Rows may lack any of step, phase, seconds, loss, mae_train, mae_val, learning_rate. None if nothing can be drawn.
    """
    x_label, x = _horizontal(history)
    columns = [c for c in ("mae_train", "mae_val") if np.isfinite(_column(history, c)).any()] or ["loss"]
    if not np.isfinite(x).any() or not np.isfinite(_column(history, columns[0])).any():
        return None
    size, label = energy_unit(unit)
    has_rate = bool(np.isfinite(_column(history, "learning_rate")).any())
    figure = new_figure(7.4, 4.2 if has_rate else 3.4)
    grid = figure.subplots(2 if has_rate else 1, 1, sharex=True, squeeze=False,
                           gridspec_kw={"height_ratios": [4, 1]} if has_rate else None)[:, 0]  # fmt: skip
    axes = dress(grid[0], "", "loss" if columns == ["loss"] else f"H MAE ({label})", "Learning curve", grid="y")
    looks = {
        "mae_train": ("training", FAINT, 1.0),
        "mae_val": ("validation", FULL, 1.8),
        "loss": ("loss", DFT, 1.2),
    }
    for name in columns:
        y = _column(history, name) / (1 if name == "loss" else size)
        title, colour, width = looks[name]
        shown = _thinned(np.isfinite(x) & np.isfinite(y))
        axes.plot(x[shown], y[shown], color=colour, linewidth=width, label=title, solid_joinstyle="round",
                  marker="o" if len(shown) < 40 else "", markersize=3)  # fmt: skip
        if name == "mae_val":
            axes.annotate(number(y[shown][-1]), (x[shown][-1], y[shown][-1]), xytext=(4, 0),
                          textcoords="offset points", fontsize=8, color=colour, va="center")  # fmt: skip
    _log_scale(axes)
    if has_rate:
        rate = dress(grid[1], "", "learning\nrate", grid="y")
        shown = _thinned(np.isfinite(x) & np.isfinite(_column(history, "learning_rate")))
        rate.plot(x[shown], _column(history, "learning_rate")[shown], color=DFT, linewidth=1)
        rate.set_ylim(bottom=0)
        rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        rate.yaxis.get_offset_text().set_fontsize(7)
    grid[-1].set_xlabel(x_label, fontsize=9, color=TEXT)
    _mark_phases(list(grid), history, x)
    legend(axes, loc="best")
    return figure


def _parity(points: ParityPoints, unit: str, quantity: str, titles: Titles) -> Figure:
    """Predicted over DFT in eV above, absolute errors in `unit` beneath, over the same axis."""
    size, label = energy_unit(unit)
    figure = new_figure(5.2, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 4]})
    dress(upper, "", f"{quantity}, predicted (eV)", f"{quantity[0].upper()}{quantity[1:]}, predicted and DFT")
    dress(lower, f"{quantity}, DFT (eV)", f"|error| ({label})")
    for stage, title in titles.items():
        colour = STAGE_COLOURS[stage]
        mean = points.mean_error(stage) / size
        upper.plot([], [], "o", color=colour, markersize=4, label=title)
        lower.axhline(mean, color=colour, linewidth=1.4, label=f"{title}, mean {number(mean)}")
    x, y, colours = _mixed_points(points.columns, titles)
    error = np.abs(y - x) / size
    area = float(np.clip(6000 / len(x), 4, 20))
    upper.scatter(x, y, s=area, c=colours, alpha=0.6, linewidths=0, rasterized=True)
    lower.scatter(x, error, s=area, c=colours, alpha=0.45, linewidths=0, rasterized=True)
    if error.any():
        lower.set_yscale("log")
        # A few very small errors must not stretch the axis.
        lower.set_ylim(max(error[error > 0].min(), error.mean() * 1e-3), error.max() * 1.5)
        log_ticks(lower.yaxis)
    _energy_axes(upper, points.columns["dft"])
    upper.plot(upper.get_xlim(), upper.get_xlim(), color=FAINT, linewidth=0.8, zorder=0)
    legend(upper, loc="upper left")
    legend(lower, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _mixed_points(series: Series, titles: Titles) -> tuple[np.ndarray, ...]:
    """DFT values, predictions and colours of the points, in random order so that no stage hides another."""
    n = len(series["dft"])
    mixed = np.random.default_rng(0).permutation(n * len(titles))
    x = np.concatenate([series["dft"] for _ in titles])
    y = np.concatenate([series[stage] for stage in titles])
    colours = np.repeat([STAGE_COLOURS[stage] for stage in titles], n)
    return x[mixed], y[mixed], colours[mixed]


def _energy_axes(axes: Axes, values: np.ndarray) -> None:
    """Both axes linear near zero and logarithmic beyond, wide enough for `values` (eV)."""
    low, high = (
        float(np.sinh(np.arcsinh(end) + margin)) for end, margin in ((values.min(), -0.3), (values.max(), 0.3))
    )
    ticks = [0.0, *(sign * x for x in (1, 3, 10, 30, 100, 300, 1000, 3000) for sign in (-1.0, 1.0))]
    axes.set(xscale="asinh", yscale="asinh", xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(sorted(x for x in ticks if low <= x <= high)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "−")))


def _log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic, unless nothing is above zero."""
    if any(np.any(np.asarray(line.get_ydata()) > 0) for line in axes.lines):
        axes.set_yscale("log")
        log_ticks(axes.yaxis)


def _orbital_name(orbital: int) -> str:
    if orbital < 0:
        return "HOMO" if orbital == -1 else f"HOMO−{-1 - orbital}"
    return "LUMO" if orbital == 0 else f"LUMO+{orbital}"


def _thinned(shown: np.ndarray) -> np.ndarray:
    """At most `MAX_ENTRIES` of the indices where `shown` is True, evenly spread, the last one included."""
    index = np.flatnonzero(shown)
    return index[np.unique(np.linspace(0, len(index) - 1, min(len(index), MAX_ENTRIES)).astype(int))]


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """A column as numbers, NaN where it is missing or empty."""
    return np.array([_float(row.get(name)) for row in history])


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _horizontal(history: Sequence[Mapping[str, Any]]) -> tuple[str, np.ndarray]:
    """Label and values of the horizontal axis: time if it was logged, else steps, else the number of the row."""
    seconds, steps = _column(history, "seconds"), _column(history, "step")
    if np.isfinite(seconds).any():
        return ("training time (min)", seconds / 60) if np.nanmax(seconds) > 90 else ("training time (s)", seconds)
    if np.isfinite(steps).any():
        return "step", steps
    return "entry", np.arange(len(history), dtype=float)


def _mark_phases(panels: Sequence[Axes], history: Sequence[Mapping[str, Any]], x: np.ndarray) -> None:
    """Draw a line where each phase of the schedule begins, and its name."""
    rows = [(str(row.get("phase") or ""), value) for row, value in zip(history, x) if np.isfinite(value)]
    for k, (phase, group) in enumerate(groupby(rows, key=lambda row: row[0])):
        start = next(group)[1]
        for axes in panels:
            if k:
                axes.axvline(start, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        panels[0].annotate(phase, (start, 1), xycoords=panels[0].get_xaxis_transform(), xytext=(4, -3), va="top",
                           textcoords="offset points", fontsize=8, color=TEXT)  # fmt: skip
