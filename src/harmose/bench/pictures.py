"""Figures of a benchmark: time, edges per second and memory over the number of atoms."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harmose.evaluate.style import DFT, FAINT, FULL, REGRESSION, STAGE1, dress, legend, log_ticks, new_figure

Content = Mapping[str, Any]

CRYSTAL_NAMES = ("graphene", "bilayer")
"""Systems whose points are joined by a line, with a slope."""
BLOCK_STEPS = ("graph", "frames", "stage1", "stage2", "regression", "blocks")
"""Steps of a prediction without the Fermi level."""
MARKERS = {"water": "s", "ethanol": "D", "butane": "D"}
MARKER_TITLES = {"s": "water, one and batches", "D": "organic molecules", "o": "graphene, twisted bilayers"}


def times(content: Content) -> Figure | None:
    """Time of a prediction, of training steps, and of the training steps of other libraries."""
    series = [
        ("prediction, H", FULL, _points(content, _blocks_seconds)),
        ("training step, stage 1", STAGE1, _points(content, _seconds("step stage1"))),
        ("training step, both stages", DFT, _points(content, _seconds("step joint"))),
        *(
            (f"training step, {by}", color, _points(content, _seconds("step stage1", by)))
            for by, color in (("e3nn", FAINT), ("DeePTB", REGRESSION))
        ),
    ]
    return _drawn(series, "time, ms", "Time against size", 1e3)


def speeds(content: Content) -> Figure | None:
    """Directed edges per second."""
    series = [
        ("prediction, H", FULL, _points(content, _speed("blocks"))),
        ("network alone", DFT, _points(content, _speed("network"))),
        ("training step, stage 1", STAGE1, _points(content, _speed("step stage1"))),
        ("training step, e3nn", FAINT, _points(content, _speed("step stage1", "e3nn"))),
    ]
    return _drawn(series, "directed edges per second", "Speed against size", 1.0, slopes=False)


def memory(content: Content) -> Figure | None:
    """Peak memory of a process, including about 400 MB of PyTorch and the model."""
    if not content["memory"]:
        return None
    series = []
    for work, title, color in (("predict", "prediction", FULL), ("train", "training, both stages", STAGE1)):
        peaks = {m["system"]: (m["atoms"], m["peak"]) for m in content["memory"] if m["work"] == work}
        series.append((title, color, peaks))
    return _drawn(series, "peak of a process, MB", "Memory against size", 1.0, slopes=False)


PICTURES: dict[str, tuple[str, Callable[[Content], Figure | None]]] = {
    "time": ("Time against atoms", times),
    "speed": ("Edges per second against atoms", speeds),
    "memory": ("Memory against atoms", memory),
}
"""By file name: alternative text, and the function that draws the figure."""

Points = dict[str, tuple[int, float]]
"""Number of atoms and a value, by system."""


def _rows(content: Content, system: str, by: str) -> dict[str, float]:
    rows = [r for r in content["rows"] if r["system"] == system and r["by"] == by]
    out = {r["work"]: r["timing"]["cpu"]["median"] for r in rows}
    if rows:
        out["edges"] = rows[0]["edges"]
    return out


def _seconds(work: str, by: str = "harmose") -> Callable[[Content, str], float | None]:
    return lambda content, system: _rows(content, system, by).get(work)


def _blocks_seconds(content: Content, system: str) -> float | None:
    """Time of all steps of a prediction except the Fermi level, which only some crystals have."""
    rows = _rows(content, system, "harmose")
    parts = [rows[p] for p in (*BLOCK_STEPS, "in parts") if p in rows]
    return sum(parts) if parts else None


def _speed(work: str, by: str = "harmose") -> Callable[[Content, str], float | None]:
    def value(content: Content, system: str) -> float | None:
        rows = _rows(content, system, by)
        if work == "blocks":
            seconds = _blocks_seconds(content, system)
        elif work == "network":
            seconds = rows.get("stage1", 0.0) + rows.get("stage2", 0.0)
        else:
            seconds = rows.get(work)
        return rows["edges"] / seconds if seconds else None

    return value


def _points(content: Content, value: Callable[[Content, str], float | None]) -> Points:
    out = {}
    for row in content["rows"]:
        y = value(content, row["system"])
        if y is not None:
            out[row["system"]] = (row["atoms"], y)
    return out


def _drawn(
    series: Sequence[tuple[str, str, Points]], y: str, title: str, unit: float, slopes: bool = True
) -> Figure | None:
    series = [s for s in series if s[2]]
    if not series:
        return None
    figure = new_figure(6.2, 4.8)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    for label, color, points in series:
        _draw(axes, label, color, points, unit, slopes)
    dress(axes, "atoms", y, title)
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = limits
        (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(low / 1.15, high * 1.15)
        log_ticks(axis)
    used = {MARKERS.get(name.split("-")[0], "o") for _, _, points in series for name in points}
    for marker, label in MARKER_TITLES.items():
        if marker in used:
            axes.plot([], [], color=FAINT, marker=marker, markersize=4.5, linestyle="none", label=label)
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return figure


def _draw(axes: Axes, label: str, color: str, points: Points, unit: float, slopes: bool) -> None:
    crystals = sorted(p for name, p in points.items() if name.startswith(CRYSTAL_NAMES))
    if len(crystals) > 1:
        atoms, values = np.array(crystals).T
        if slopes:
            exponent = np.polyfit(np.log(atoms), np.log(values), 1)[0]
            label = f"{label} ∝ atoms$^{{{exponent:.2f}}}$"
        axes.plot(atoms, unit * values, color=color, linewidth=1.4, marker="o", markersize=4.5, label=label)
        label = "_"
    for name, (n, value) in points.items():
        if len(crystals) < 2 or not name.startswith(CRYSTAL_NAMES):
            marker = MARKERS.get(name.split("-")[0], "o")
            axes.plot([n], [unit * value], color=color, marker=marker, markersize=4.5, linestyle="none", label=label)
            label = "_"
