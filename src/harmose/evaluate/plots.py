"""Figures of an evaluation: elements of H and orbital energies against DFT, errors by sample, the learning curve.

Each function returns a `matplotlib.figure.Figure`; energies come in eV and are shown in the unit asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harmose.core.blocks import BlockMatrix
from harmose.evaluate.evaluation import Evaluation
from harmose.evaluate.metrics import Prediction, solved_orbitals
from harmose.evaluate.style import (
    DFT,
    FAINT,
    GRID,
    STAGES,
    TEXT,
    dress,
    energy_unit,
    legend,
    log_ticks,
    new_figure,
    number,
)
from harmose.physics.eigen import MolecularOrbitals

MAX_POINTS = 12_000
"""More points than this hide each other; a random selection is drawn."""

MAX_SAMPLES = 200
"""Figures that need every matrix take the first so many samples."""

Series = Mapping[str, np.ndarray]
"""By "dft", "stage1", "full": values that belong together, in eV."""


def predicted_against_dft(predictions: Sequence[Prediction], unit: str, two_stages: bool = True) -> Figure:
    """Elements of H, predicted over DFT, and their absolute errors beneath; the first `MAX_SAMPLES` samples."""
    used = predictions[:MAX_SAMPLES]
    matrices = {
        "dft": [p.sample.hamiltonian for p in used],
        "stage1": [p.stage1 for p in used],
        "full": [p.full for p in used],
    }
    series = {name: np.concatenate([_elements(h) for h in operators]) for name, operators in matrices.items()}
    return _parity(series, unit, "H element", two_stages)


def orbital_energies(predictions: Sequence[Prediction], unit: str, two_stages: bool = True) -> Figure | None:
    """Energies of the occupied orbitals over DFT, errors beneath; None where there are none to compare."""
    levels = {"dft": [], "stage1": [], "full": []}
    for solved in _solved(predictions):
        for name, orbitals in solved.items():
            levels[name].append(orbitals.energies[: solved["dft"].n_occupied])
    series = {name: np.concatenate(parts) for name, parts in levels.items() if parts}
    return _parity(series, unit, "orbital energy", two_stages) if series and len(series["dft"]) else None


def level_errors(predictions: Sequence[Prediction], unit: str, two_stages: bool = True) -> Figure | None:
    """Error of each level, counted from the frontier: the mean, and the range of the middle 80 % of the samples."""
    errors: dict[str, dict[int, list[float]]] = {"stage1": {}, "full": {}}
    for solved in _solved(predictions):
        n = solved["dft"].n_occupied
        for stage, table in errors.items():
            difference = np.abs(solved[stage].energies - solved["dft"].energies)[: n + 4]
            for level, error in enumerate(difference.tolist(), start=-n):
                table.setdefault(level, []).append(error)
    if not errors["full"]:
        return None
    size, label = energy_unit(unit)
    figure = new_figure(5.2, 4.4)
    axes = dress(figure.add_subplot(), "level", f"|error| ({label})", "Error of each level", grid="y")
    levels = sorted(errors["full"])
    for k, (stage, title, colour) in enumerate(_shown(two_stages)):
        spread = [np.array(errors[stage][level]) / size for level in levels]
        x = np.array(levels) + (0.0 if not two_stages else (k - 0.5) * 0.36)
        low, high = (np.array([np.percentile(e, q) for e in spread]) for q in (10, 90))
        axes.vlines(x, low, high, color=colour, alpha=0.35, linewidth=4 if len(levels) < 25 else 2.5)
        axes.plot(x, [e.mean() for e in spread], "o", color=colour, markersize=4.5, label=title)
    _log_scale(axes)
    axes.axvline(-0.5, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
    step = -(-len(levels) // 16)
    ticks = [level for level in levels if level % step == step - 1 and not (step > 1 and level == 1)]
    axes.set_xticks(ticks, [_level_name(level) for level in ticks], rotation=40, ha="right", rotation_mode="anchor")
    for side, name in ((-1, "occupied"), (1, "empty")):
        axes.annotate(name, (-0.5, 0.99), xycoords=axes.get_xaxis_transform(), xytext=(5 * side, 0), va="top",
                      textcoords="offset points", ha="left" if side > 0 else "right", fontsize=8, color=FAINT)  # fmt: skip
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2)
    return figure


def level_diagram(prediction: Prediction, two_stages: bool = True) -> Figure | None:
    """Levels around the gap, in eV, of DFT and of the prediction side by side; None where there are none to compare."""
    solved = solved_orbitals(prediction)
    if solved is None or solved["dft"].gap is None:
        return None
    n = solved["dft"].n_occupied
    energies = solved["dft"].energies
    # neither core nor very high levels: they would press all others into one line
    first, last = np.searchsorted(energies, [energies[n - 1] - 30, energies[n] + 15])
    window = slice(max(n - 7, int(first)), min(n + 3, int(last)))
    figure = new_figure(5.2, 4.4)
    axes = dress(figure.add_subplot(), "", "orbital energy (eV)", f"Levels of {prediction.sample.name}", grid="y")
    columns = (("dft", "DFT", DFT), *_shown(two_stages))
    for k, (name, _, colour) in enumerate(columns):
        orbitals = solved[name]
        for level, energy in enumerate(orbitals.energies[window], start=window.start):
            style = "-" if level < n else (0, (3, 1.5))
            axes.plot([k - 0.32, k + 0.32], [energy, energy], color=colour, linewidth=1.8, linestyle=style)
        homo, lumo = orbitals.energies[n - 1 : n + 1]
        axes.annotate("", (k, lumo), (k, homo), arrowprops={"arrowstyle": "<->", "color": FAINT, "linewidth": 0.8})
        axes.text(k + 0.05, (homo + lumo) / 2, f"{lumo - homo:.4f} eV", fontsize=8, color=TEXT, va="center")
    for before, after in pairwise(range(len(columns))):
        # thin lines from each level to the same level of the next column
        levels = [solved[columns[k][0]].energies[window] for k in (before, after)]
        axes.plot([before + 0.32, after - 0.32], levels, color=GRID, linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(columns)), [title for _, title, _ in columns])
    axes.set_xlim(-0.5, len(columns) - 0.5)
    return figure


def error_distribution(evaluation: Evaluation, unit: str) -> Figure:
    """How many samples have which error e[s], by stage."""
    size, label = energy_unit(unit)
    figure = new_figure()
    axes = dress(figure.add_subplot(), f"MAE of a sample, e[s] ({label})", "samples", "Errors of the samples", grid="y")
    shown = _shown(evaluation.has_second_stage)
    errors = {stage: np.array([getattr(s, stage).mae for s in evaluation.samples]) / size for stage, *_ in shown}
    everything = np.maximum(np.concatenate(list(errors.values())), 1e-12)
    n_bins = int(np.clip(2 * np.sqrt(len(evaluation.samples)), 8, 30))
    edges = np.geomspace(everything.min() * 0.97, everything.max() * 1.03, n_bins + 1)
    for stage, title, colour in shown:
        median = float(np.median(errors[stage]))
        look: dict[str, Any] = {"alpha": 0.55} if stage == "full" else {"histtype": "step", "linewidth": 1.6}
        axes.hist(errors[stage], edges, color=colour, label=f"{title}, median {number(median)}", **look)
        axes.axvline(median, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    log_ticks(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    return figure


def stage_comparison(evaluation: Evaluation, unit: str) -> Figure:
    """e[s] of the full model over that of stage 1, a point per sample; the challenging samples stand out."""
    size, label = energy_unit(unit)
    figure = new_figure()
    axes = dress(
        figure.add_subplot(), f"e[s], stage 1 ({label})", f"e[s], full model ({label})", "Sample by sample", grid="both"
    )
    before, after = (np.array([getattr(s, stage).mae for s in evaluation.samples]) / size for stage, *_ in STAGES)
    hard = np.isin([s.name for s in evaluation.samples], evaluation.challenging_samples)
    ends = np.array([min(before.min(), after.min()) * 0.9, max(before.max(), after.max()) * 1.1 or 1.0])
    axes.plot(ends, ends, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), label="no change")
    axes.fill_between(ends, ends[0], ends, color="#eef3fb", linewidth=0, zorder=0)
    axes.plot(before[~hard], after[~hard], "o", color=STAGES[1][2], markersize=4, alpha=0.6, label="sample", mew=0)
    axes.plot(before[hard], after[hard], "D", color="#b42318", markersize=5, label="challenging", mew=0)
    share = 100 * np.mean(after < before)
    axes.text(0.97, 0.05, f"{share:.0f} % of the samples\nbetter with stage 2", transform=axes.transAxes, ha="right",
              fontsize=8, color=TEXT)  # fmt: skip
    axes.set(xlim=ends, ylim=ends)
    legend(axes, loc="upper left")
    return figure


def learning_curve(history: Sequence[Mapping[str, Any]], unit: str) -> Figure | None:
    """MAE (eV in `history`) against time or steps, with the phases of the schedule; the loss where no MAE was logged.

    Rows may lack any of step, phase, seconds, loss, mae_train, mae_val, learning_rate. None when nothing can be drawn.
    """
    x_label, x = _clock(history)
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
        "mae_val": ("validation", STAGES[1][2], 1.8),
        "loss": ("loss", DFT, 1.2),
    }
    for name in columns:
        y = _column(history, name) / (1 if name == "loss" else size)
        title, colour, width = looks[name]
        known = _some(np.isfinite(x) & np.isfinite(y))
        axes.plot(x[known], y[known], color=colour, linewidth=width, label=title, solid_joinstyle="round",
                  marker="o" if len(known) < 40 else "", markersize=3)  # fmt: skip
        if name == "mae_val":
            axes.annotate(number(y[known][-1]), (x[known][-1], y[known][-1]), xytext=(4, 0),
                          textcoords="offset points", fontsize=8, color=colour, va="center")  # fmt: skip
    _log_scale(axes)
    if has_rate:
        rate = dress(grid[1], "", "learning\nrate", grid="y")
        known = _some(np.isfinite(x) & np.isfinite(_column(history, "learning_rate")))
        rate.plot(x[known], _column(history, "learning_rate")[known], color=DFT, linewidth=1)
        rate.set_ylim(bottom=0)
        rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        rate.yaxis.get_offset_text().set_fontsize(7)
    grid[-1].set_xlabel(x_label, fontsize=9, color=TEXT)
    _mark_phases(list(grid), history, x)
    legend(axes, loc="upper right")
    return figure


def _parity(series: Series, unit: str, what: str, two_stages: bool) -> Figure:
    """Predicted over DFT in eV above, absolute errors in `unit` beneath, over the same axis."""
    size, label = energy_unit(unit)
    dft, shown = series["dft"], _shown(two_stages)
    figure = new_figure(5.2, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 4]})
    dress(upper, "", f"{what}, predicted (eV)", f"{what[0].upper()}{what[1:]}, predicted and DFT")
    dress(lower, f"{what}, DFT (eV)", f"|error| ({label})")
    for stage, title, colour in shown:
        mean = float(np.abs(series[stage] - dft).mean()) / size
        upper.plot([], [], "o", color=colour, markersize=4, label=title)
        lower.axhline(mean, color=colour, linewidth=1.4, label=f"{title}, mean {number(mean)}")
    x, y, colours = _mixed_points(series, shown)
    error = np.abs(y - x) / size
    area = float(np.clip(6000 / len(x), 4, 20))
    upper.scatter(x, y, s=area, c=colours, alpha=0.6, linewidths=0, rasterized=True)
    lower.scatter(x, error, s=area, c=colours, alpha=0.45, linewidths=0, rasterized=True)
    if error.any():
        lower.set_yscale("log")
        # lucky points must not stretch the axis
        lower.set_ylim(max(error[error > 0].min(), error.mean() * 1e-3), error.max() * 1.5)
        log_ticks(lower.yaxis)
    _energy_axes(upper, dft)
    upper.plot(upper.get_xlim(), upper.get_xlim(), color=FAINT, linewidth=0.8, zorder=0)
    legend(upper, loc="upper left")
    legend(lower, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _mixed_points(series: Series, shown: tuple[tuple[str, str, str], ...]) -> tuple[np.ndarray, ...]:
    """DFT values, predictions and colours of a selection of points, in random order so that no stage hides the other."""
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(series["dft"]))[:MAX_POINTS]
    mixed = generator.permutation(len(chosen) * len(shown))
    x = np.concatenate([series["dft"][chosen] for _ in shown])
    y = np.concatenate([series[stage][chosen] for stage, *_ in shown])
    colours = np.repeat([colour for *_, colour in shown], len(chosen))
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


def _elements(operator: BlockMatrix) -> np.ndarray:
    """All elements of the whole matrix, spinors as real and imaginary parts."""
    values = np.repeat(operator.values, np.where(operator.is_onsite, 1, 2), axis=1).ravel()
    return values.view(np.float64) if np.iscomplexobj(values) else values


def _solved(predictions: Sequence[Prediction]) -> Iterator[dict[str, MolecularOrbitals]]:
    for prediction in predictions[:MAX_SAMPLES]:
        solved = solved_orbitals(prediction)
        if solved is not None:
            yield solved


def _shown(two_stages: bool) -> tuple[tuple[str, str, str], ...]:
    return STAGES if two_stages else STAGES[1:]


def _log_scale(axes: Axes) -> None:
    """A logarithmic y axis, if there is anything above zero to show on one."""
    if any(np.any(np.asarray(line.get_ydata()) > 0) for line in axes.lines):
        axes.set_yscale("log")
        log_ticks(axes.yaxis)


def _level_name(level: int) -> str:
    if level < 0:
        return "HOMO" if level == -1 else f"HOMO−{-1 - level}"
    return "LUMO" if level == 0 else f"LUMO+{level}"


def _some(known: np.ndarray) -> np.ndarray:
    """At most 1,500 of the indices where `known` holds, evenly spread, the last one included."""
    index = np.flatnonzero(known)
    return index[np.unique(np.linspace(0, len(index) - 1, min(len(index), 1500)).astype(int))]


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """A column as numbers, NaN where it is missing or empty."""
    return np.array([_float(row.get(name)) for row in history])


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _clock(history: Sequence[Mapping[str, Any]]) -> tuple[str, np.ndarray]:
    """The horizontal axis: minutes when they were logged, else steps, else the rows' number."""
    seconds, steps = _column(history, "seconds"), _column(history, "step")
    if np.isfinite(seconds).any():
        return ("training time (min)", seconds / 60) if np.nanmax(seconds) > 90 else ("training time (s)", seconds)
    if np.isfinite(steps).any():
        return "step", steps
    return "entry", np.arange(len(history), dtype=float)


def _mark_phases(panels: Sequence[Axes], history: Sequence[Mapping[str, Any]], x: np.ndarray) -> None:
    """A line where a phase of the schedule begins, and its name."""
    rows = [(str(row.get("phase") or ""), value) for row, value in zip(history, x) if np.isfinite(value)]
    for k, (phase, group) in enumerate(groupby(rows, key=lambda row: row[0])):
        start = next(group)[1]
        for axes in panels:
            if k:
                axes.axvline(start, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        panels[0].annotate(phase, (start, 1), xycoords=panels[0].get_xaxis_transform(), xytext=(4, -3), va="top",
                           textcoords="offset points", fontsize=8, color=TEXT)  # fmt: skip
