"""The heat map of the paper: the MAE of each type of block, a panel for each stage, on one colour scale.

Dark is a large error; light grey is a type of block that the samples do not have. A basis set of very many shells is
shown by pairs of elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from harmose.evaluate.evaluation import BlockErrors, Evaluation
from harmose.evaluate.style import TEXT, energy_unit, log_ticks, new_figure

MAX_LABELS = 40
"""Most shells (of all elements) that are shown one by one."""

COLOUR_MAP = "magma_r"

PAGE_WIDTH = 12.5
"""Width in inches of a row of panels."""

NO_BLOCK = "#f0f2f5"


@dataclass(frozen=True, eq=False)
class _Table:
    """MAE (rows, columns) by stage, NaN where there is no such block. Each column is an (element, shell)."""

    rows: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    mae: Mapping[str, np.ndarray]


def offsite_heat_map(evaluation: Evaluation, unit: str) -> Figure | None:
    """MAE of the blocks between two atoms, (element, shell) by (element, shell); None where there are none."""
    blocks = [block for block in evaluation.blocks if not block.onsite]
    labels = _labels(blocks)
    if len(labels) > MAX_LABELS:
        labels = tuple(dict.fromkeys((element, "") for element, _ in labels))
    names = [f"{element} {shell}".strip() for element, shell in labels]
    ends = [[_index(labels, e, s) for e, s in zip(block.elements, block.shells)] for block in blocks]
    places = [{(a, b), (b, a)} for a, b in ends]
    return _figure(_table(blocks, places, tuple(names), labels, unit), evaluation, unit)


def onsite_heat_map(evaluation: Evaluation, unit: str) -> Figure | None:
    """MAE of the blocks on one atom, shell by (element, shell), one matrix for each element; None without blocks."""
    blocks = [block for block in evaluation.blocks if block.onsite]
    columns = _labels(blocks)
    rows = tuple(dict.fromkeys(shell for _, shell in columns))
    places = [
        {(rows.index(s), columns.index((element, t))), (rows.index(t), columns.index((element, s)))}
        for block in blocks
        for element, s, t in [(block.elements[0], *block.shells)]
    ]
    return _figure(_table(blocks, places, rows, columns, unit), evaluation, unit, stacked=len(columns) > 12)


def _labels(blocks: Sequence[BlockErrors]) -> tuple[tuple[str, str], ...]:
    """All (element, shell) of the blocks, C(2) as carbon: heavy elements first, shells as in the basis set."""
    pairs = dict.fromkeys(pair for block in blocks for pair in zip(block.elements, block.shells))
    return tuple(sorted(pairs, key=lambda pair: -atomic_numbers[pair[0].partition("(")[0]]))


def _index(labels: tuple[tuple[str, str], ...], element: str, shell: str) -> int:
    return labels.index((element, shell) if (element, shell) in labels else (element, ""))


def _table(blocks: Sequence[BlockErrors], places: Sequence[set[tuple[int, int]]], rows, columns, unit: str) -> _Table:
    """The MAE of each block at its places; where several blocks meet, the mean over their elements."""
    size, _ = energy_unit(unit)
    stages = list(blocks[0].mae) if blocks else []
    sums = np.zeros((len(stages) + 1, len(rows), len(columns)))
    for block, where in zip(blocks, places):
        for row, column in where:
            sums[:, row, column] += np.array([*(mae / size for mae in block.mae.values()), 1.0]) * block.n_elements
    with np.errstate(invalid="ignore"):
        return _Table(rows, columns, {stage: sums[k] / sums[-1] for k, stage in enumerate(stages)})


def _figure(table: _Table, evaluation: Evaluation, unit: str, stacked: bool = False) -> Figure | None:
    if not table.columns:
        return None
    titles = evaluation.titles
    cell = 0.34 if len(table.columns) <= 16 else 0.25 if stacked else 0.19
    width, height = max(cell * len(table.columns) + 0.8, 2.0), max(cell * len(table.rows) + 1.0, 2.2)
    n_columns = 1 if stacked else len(titles) if len(titles) * width < PAGE_WIDTH else 2
    n_rows = -(-len(titles) // n_columns)
    figure = new_figure(n_columns * width + 0.9, n_rows * height)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for empty in panels[len(titles) :]:
        empty.set_visible(False)
    norm = _norm(np.concatenate([table.mae[stage].ravel() for stage in titles]))
    for axes, (stage, title) in zip(panels, titles.items()):
        axes.imshow(table.mae[stage], cmap=COLOUR_MAP, norm=norm, interpolation="nearest", aspect="equal")
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=TEXT)
        _label(axes, table)
        if cell > 0.3:
            _write_numbers(axes, table.mae[stage], norm)
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), fraction=0.05, pad=0.02, aspect=25)
    bar.set_label(f"MAE ({energy_unit(unit)[1]})", fontsize=9, color=TEXT)
    bar.outline.set_visible(False)  # type: ignore[operator]
    log_ticks(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=8, colors=TEXT, length=3)
    return figure


def _norm(values: np.ndarray) -> LogNorm:
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return LogNorm(0.1, 1.0)
    low, high = float(positive.min()), float(positive.max())
    return LogNorm(low, max(high, low * 1.1))


def _label(axes: Axes, table: _Table) -> None:
    fontsize = 8 if len(table.columns) <= 16 else 6.5
    names = [f"{element} {shell}".strip() for element, shell in table.columns]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=fontsize, color=TEXT)
    axes.set_yticks(range(len(table.rows)), table.rows, fontsize=fontsize, color=TEXT)
    axes.tick_params(length=0)
    axes.set_facecolor(NO_BLOCK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for lines, labels in ((axes.axvline, names), (axes.axhline, table.rows)):
        elements = [label.split()[0] if " " in label else "" for label in labels]
        for k in range(1, len(elements)):
            if elements[k] != elements[k - 1]:
                lines(k - 0.5, color="white", linewidth=3)


def _write_numbers(axes: Axes, matrix: np.ndarray, norm: LogNorm) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if norm(max(value, norm.vmin)) > 0.5 else TEXT
            text = f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
