"""How every figure looks: one palette, units in the labels, no global state of matplotlib."""

import base64
import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harmose.errors import ConfigError
from harmose.units import ERROR_UNITS

STAGE1, FULL, DFT = "#d9822b", "#2563c9", "#1f2933"
"""Orange, blue and ink: apart for every kind of colour vision, and in grey."""

GRID, TEXT, FAINT = "#e6e9ee", "#1f2933", "#7b8794"

STAGES = (("stage1", "stage 1", STAGE1), ("full", "full model", FULL))
"""Field, title and colour of both stages, in the order of drawing."""

UNIT_LABELS = {"uEh": "µEh", "meV": "meV", "eV": "eV", "Ha": "Eh"}


def energy_unit(unit: str) -> tuple[float, str]:
    """Size in eV and label of a unit of `--unit`; `ConfigError` for another."""
    if unit not in ERROR_UNITS:
        raise ConfigError(f"unit: expected one of {', '.join(ERROR_UNITS)}, got {unit!r}")
    return ERROR_UNITS[unit], UNIT_LABELS.get(unit, unit)


def new_figure(width: float = 5.2, height: float = 4.0) -> Figure:
    """An empty figure (inches) that lays itself out."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def dress(axes: Axes, x: str = "", y: str = "", title: str = "", grid: str | None = "both") -> Axes:
    """Labels, a light grid, and no more lines than needed."""
    axes.set_xlabel(x, color=TEXT, fontsize=9)
    axes.set_ylabel(y, color=TEXT, fontsize=9)
    axes.set_title(title, loc="left", color=TEXT, fontsize=10, fontweight="bold")
    axes.tick_params(colors=TEXT, labelsize=8, length=3, width=0.6)
    axes.tick_params(which="minor", length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=FAINT, linewidth=0.6)
    if grid:
        axes.grid(True, axis=grid, color=GRID, linewidth=0.7)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
    return axes


def legend(axes: Axes, **options) -> None:
    """A legend without a frame, its markers as opaque as a reader needs."""
    box = axes.legend(**{"frameon": False, "fontsize": 8, "labelcolor": TEXT, **options})
    for handle in box.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def number(x: float) -> str:
    """Three digits, without exponent where the number is of human size."""
    if x == 0 or not 1e-3 <= abs(x) < 1e6:
        return f"{x:.2g}"
    return f"{x:,.{max(0, 2 - int(np.floor(np.log10(abs(x)))))}f}"


def log_ticks(axis: Axis) -> None:
    """Plain numbers along a logarithmic axis (limits already set), as many as its length takes."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    steps = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.5 else (1,)
    every = max(1, round(decades / 8))
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1, every)
    ticks = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
    if len(ticks) < 3:  # so little of a decade is as good as linear
        ticks = [x for x in MaxNLocator(4).tick_values(low, high) if low <= x <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axis.set_minor_locator(NullLocator())


def svg(figure: Figure) -> str:
    """The figure as an SVG element; text as outlines, so that it looks the same everywhere."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def data_uri(figure: Figure) -> str:
    """The figure as an address that an `<img>` can show without any other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure).encode()).decode()
