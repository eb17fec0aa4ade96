"""Picture of `scans.py`: a panel for each scan, the error of H on a logarithmic axis, a line for each stage."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scan_structures import TRAINED, titles
from scans_report import INSIDE_ERROR, LARGEST_ERROR, Point, by_scan, predicted, stages_of

from harmose.evaluate.style import DFT, FAINT, FULL, NETWORK, REGRESSION, STAGE1, TEXT, dress, energy_unit, new_figure
from harmose.units import HARTREE

LINES: dict[str, dict[str, Any]] = {
    "prior": {"color": DFT, "linestyle": (0, (1, 1.2))},
    "pairs": {"color": NETWORK, "linestyle": (0, (4, 1.5))},
    "regression": {"color": REGRESSION, "linestyle": "-"},
    "stage1": {"color": STAGE1, "linestyle": "-"},
    "full": {"color": FULL, "linestyle": "-"},
}
"""Lines of the stages; dashes tell apart what colours may not."""
CEILING = 10 * HARTREE
"""Largest error that is drawn (eV), near the elements of H themselves; arrows mark larger ones."""
SINGLE = "single structures"
"""Panel of all scans of one structure, and of the unusual molecules."""
SMALL = {"fontsize": 7, "color": FAINT}
BEHIND_TEXT = {"color": "white", "alpha": 0.6, "pad": 0.4}


def draw(points: Sequence[Point], median: float | None) -> Figure:
    """The picture.

    Args:
        points: all structures, also those without a prediction.
        median: median error of the model's test set in the unit of the points, or None.
    """
    stages, panels = stages_of(points), panels_of(points)
    many = len(panels) > 9
    n_columns = 5 if many else min(3, len(panels))
    n_rows = -(-len(panels) // n_columns)
    width, height = (2.7, 2.3) if many else (4.0, 3.0)
    figure = new_figure(max(6.5, width * n_columns), height * n_rows + 0.8)
    cells, limits = figure.add_gridspec(n_rows, n_columns), _limits(points, median)
    for k, (scan, own) in enumerate(panels.items()):
        axes, is_left = figure.add_subplot(cells[k // n_columns, k % n_columns]), k % n_columns == 0
        _frame(axes, scan, points[0].unit, limits, is_left)
        _references(axes, scan, points[0].unit, median, is_left or not many)
        _panel(scan)(axes, predicted(own), stages)
        _note(axes, own)
    done = len(predicted(points))
    title = f"{points[0].model}: errors inside, at the edge of and beyond the training set ({done:,} structures)"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=TEXT)
    _legend(figure, cells, len(panels), stages, points)
    return figure


def panels_of(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points by panel: scans, grids last; scans of a single structure share a panel."""
    scans = by_scan(points)
    single = [scan for scan, own in scans.items() if len(own) == 1 or scan == "unusual"]
    grids = [scan for scan in scans if scan.startswith("grid")]
    out = {scan: own for scan, own in scans.items() if scan not in (*single, *grids)}
    if single:
        out[SINGLE] = [p for scan in single for p in scans[scan]]
    return out | {scan: scans[scan] for scan in grids}


def _limits(points: Sequence[Point], median: float | None) -> tuple[float, float]:
    """Limits of the logarithmic axis that all panels share: whole decades around all errors, limits and the median."""
    size = energy_unit(points[0].unit)[0]
    errors = np.array([e for p in predicted(points) for e in p.errors.values() if e > 0]) / size
    limits = [LARGEST_ERROR, *([INSIDE_ERROR] if any(p.scan == "grid inside" for p in points) else [])]
    shown = [*np.clip(errors, 1e-4, CEILING / size), *(x / size for x in limits), *([median] if median else [])]
    return 10.0 ** np.floor(np.log10(min(shown))), 10.0 ** np.ceil(np.log10(max(shown)))


def _frame(axes: Axes, scan: str, unit: str, limits: tuple[float, float], is_left: bool) -> None:
    """Titles, and the logarithmic axis of errors, which has labels in the left column."""
    title, coordinate = (scan[0].upper() + scan[1:], "") if scan == SINGLE else titles(scan)
    if scan.startswith("grid"):
        coordinate = "share of the structures, sorted by error (%)"
    dress(axes, coordinate, f"H MAE ({energy_unit(unit)[1]})" if is_left else "", title, grid="y")
    axes.set_yscale("log")
    axes.set_ylim(limits)
    low, high = np.log10(limits)
    axes.yaxis.set_major_locator(FixedLocator(10.0 ** np.arange(low, high + 0.1, 1 if high - low < 6 else 2)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}" if x < 1e5 else f"$10^{{{np.log10(x):.0f}}}$"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", labelleft=is_left)


def _references(axes: Axes, scan: str, unit: str, median: float | None, named: bool) -> None:
    """Lines at the limit of the errors and at the median of the test set; the range of the training set."""
    size = energy_unit(unit)[0]
    limit, name = (INSIDE_ERROR, "limit 20 µEh") if scan == "grid inside" else (LARGEST_ERROR, "limit 20 mEh")
    levels = [(limit / size, name)] + ([(median, "median of the test set")] if median else [])
    for level, text in levels:
        axes.axhline(level, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        if named:
            axes.annotate(text, (1, level), xycoords=axes.get_yaxis_transform(), xytext=(0, 2), ha="right", va="bottom",
                          textcoords="offset points", bbox=BEHIND_TEXT, **SMALL)  # fmt: skip
    if scan in TRAINED:
        axes.axvspan(*TRAINED[scan], color=FULL, alpha=0.07, linewidth=0, zorder=0)


def _panel(scan: str) -> Callable[[Axes, Sequence[Point], Mapping[str, str]], None]:
    """The function that draws the points of a panel."""
    if scan.startswith("grid"):
        return _quantiles
    return _singles if scan == SINGLE else _lines


def _lines(axes: Axes, own: Sequence[Point], stages: Mapping[str, str]) -> None:
    """Errors over the coordinate."""
    own = sorted(own, key=lambda p: p.x)
    x = np.array([p.x for p in own])
    for stage in stages:
        axes.plot(x, _values(own, stage), linewidth=1.5, **LINES[stage])
        _markers(axes, x, own, stage)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _singles(axes: Axes, own: Sequence[Point], stages: Mapping[str, str]) -> None:
    """Errors of structures without a coordinate, side by side."""
    x = np.arange(len(own))
    for stage in stages:
        _markers(axes, x, own, stage)
    names = [p.formula if p.scan == "unusual" else textwrap.fill(titles(p.scan)[0], 16) for p in own]
    axes.set_xticks(x, names, rotation=50, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_xlim(-0.6, len(own) - 0.4)


def _markers(axes: Axes, x: np.ndarray, own: Sequence[Point], stage: str) -> None:
    """Markers of a stage: of the whole model open where flagged; arrows and crosses at the upper edge."""
    y, top = _values(own, stage), axes.get_ylim()[1]
    flagged = np.array([p.flagged and stage == "full" for p in own], bool)
    small = 0 if stage == "full" else 1.6
    for marker, height, which in (("o", y, y <= top), ("^", top, y > top), ("x", top, np.isnan(y))):
        for kind, face in ((which & flagged, "white"), (which & ~flagged, LINES[stage]["color"])):
            if kind.any():  # matplotlib cannot lay out empty lines that are not clipped
                place = x[kind], np.broadcast_to(height, x.shape)[kind]
                look = {"color": LINES[stage]["color"], "markerfacecolor": face, "markersize": 4.4 - small, "mew": 1.1}
                axes.plot(*place, marker, linestyle="", clip_on=False, zorder=3 if small else 4, **look)


def _quantiles(axes: Axes, own: Sequence[Point], stages: Mapping[str, str]) -> None:
    """Sorted errors of each stage over the share of structures; ticks below are the flagged ones, in the order of `full`."""
    share = 100 * (np.arange(len(own)) + 0.5) / max(len(own), 1)
    for stage in stages:
        axes.plot(share, np.sort(_values(own, stage)), linewidth=1.6, **LINES[stage])  # NaN comes last
    order = sorted(own, key=lambda p: p.errors["full"])
    flagged = np.array([p.flagged for p in order], bool)
    axes.vlines(share[flagged], 0, 0.035, transform=axes.get_xaxis_transform(), color=FULL, linewidth=0.5)
    axes.set_xlim(0, 100)


def _values(own: Sequence[Point], stage: str) -> np.ndarray:
    """Errors of a stage in the unit of the points; NaN where they are not finite."""
    y = np.array([p.errors[stage] for p in own], float) / energy_unit(own[0].unit)[0] if own else np.zeros(0)
    return np.where(np.isfinite(y), y, np.nan)


def _note(axes: Axes, own: Sequence[Point]) -> None:
    """Numbers of points that no line shows, with their coordinates."""
    done, lines = predicted(own), []
    is_grid, has_x = own[0].scan.startswith("grid"), len({p.scan for p in own}) == 1
    for status in dict.fromkeys(p.status for p in own if p.status != "predicted"):
        x = [p.x for p in own if p.status == status]
        where = "" if is_grid or not has_x else f" ({min(x):g} to {max(x):g})" if len(x) > 1 else f" ({x[0]:g})"
        lines.append(f"{len(x)} {status}{where}")
    if is_grid:
        lines += [f"{sum(p.flagged for p in done) / max(len(done), 1):.0%} flagged (ticks)"]
        n_infinite = sum(not np.isfinite(p.full) for p in done)
        lines += [f"{n_infinite} of {len(done)} not finite"] if n_infinite else []
    axes.annotate("\n".join(lines), (0.03, 0.97), xycoords="axes fraction", ha="left", va="top", zorder=6,
                  bbox=BEHIND_TEXT, **SMALL)  # fmt: skip


def _legend(figure: Figure, cells: Any, n_panels: int, stages: Mapping[str, str], points: Sequence[Point]) -> None:
    """The legend, in a free cell or below."""
    out: list[Any] = [Line2D([], [], linewidth=1.8, label=title, **LINES[stage]) for stage, title in stages.items()]
    marks = [("o", "white", "flagged as outside the training domain"), ("o", FULL, "not flagged")]
    errors = np.array([e for p in predicted(points) for e in p.errors.values()])
    marks += [("^", FULL, "beyond the axis")] if (np.isfinite(errors) & (errors > CEILING)).any() else []
    marks += [("x", FULL, "not finite")] if np.isinf(errors).any() else []
    for marker, face, text in marks:
        out.append(
            Line2D([], [], color=FULL, marker=marker, markerfacecolor=face, linestyle="", markersize=5, label=text)
        )
    if any(p.scan in TRAINED for p in points):
        out.append(Patch(color=FULL, alpha=0.1, linewidth=0, label="range in the training set"))
    look = {"handles": out, "frameon": False, "fontsize": 8.5, "labelcolor": TEXT}
    n_rows, n_columns = cells.get_geometry()
    if n_panels < n_rows * n_columns:
        free = figure.add_subplot(cells[-1, n_panels % n_columns])
        free.axis("off")
        free.legend(loc="center left", **look).set_in_layout(False)
    else:
        figure.legend(loc="outside lower left", ncols=-(-len(out) // 2), **look)
