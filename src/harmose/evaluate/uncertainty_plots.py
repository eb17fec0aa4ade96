"""Figures of error bounds: observed coverage over stated confidence, and errors over bounds."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harmose.evaluate.coverage import TITLES
from harmose.evaluate.evaluation import Coverage
from harmose.evaluate.figure_data import FigureData
from harmose.evaluate.style import DFT, FAINT, FULL, NETWORK, STAGE1, dress, energy_unit, legend, log_ticks, new_figure

COLOURS = {
    "blocks": FULL,
    "occupied": STAGE1,
    "homo": NETWORK,
    "lumo": "#b0549c",
    "gap": DFT,
    "gamma": STAGE1,
}
"""Empty orbitals are left out of the figure; the table has them."""


def reliability(coverage: Coverage) -> Figure:
    """Observed share over stated confidence. Above the diagonal, bounds are wider than necessary."""
    figure = new_figure(5.2, 4.4)
    axes = dress(figure.add_subplot(), "stated confidence", "observed share", "Coverage")
    low = min([0.45, *(min(shares) for name, shares in coverage.shares.items() if name in COLOURS)]) - 0.03
    axes.plot([low, 1], [low, 1], color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
    for name, shares in coverage.shares.items():
        if name in COLOURS:
            style = {"color": COLOURS[name], "label": TITLES[name], "markersize": 4.5, "linewidth": 1.4}
            axes.plot(coverage.confidences, shares, "o-", **style)
    axes.set(xlim=(0.47, 1.01), ylim=(max(low, 0), 1.01))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    legend(axes, loc="lower right")
    return figure


def bounds_and_errors(data: FigureData, unit: str) -> Figure | None:
    """Errors of blocks over their stated bounds, on logarithmic axes; None without bounds."""
    if not len(data.bounds):
        return None
    size, label = energy_unit(unit)
    bound, error = (data.bounds.columns[name] / size for name in ("bound", "error"))
    figure = new_figure(5.2, 4.4)
    axes = dress(figure.add_subplot(), f"stated bound ({label})", f"error ({label})", "Blocks of H")
    axes.set(xscale="log", yscale="log")
    axes.plot(bound, error, "o", color=FULL, markersize=2.5, alpha=0.35, mew=0, label="blocks")
    ends = np.array([bound.min() / 1.5, bound.max() * 1.5])
    axes.plot(ends, ends, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label="error = bound")
    top = max(float(error.max()) * 1.5, ends[1])
    axes.set(xlim=ends, ylim=(max(float(np.quantile(error, 0.01)) / 1.5, top / 1e7), top))
    for axis in (axes.xaxis, axes.yaxis):
        log_ticks(axis)
    legend(axes, loc="lower right")
    return figure
