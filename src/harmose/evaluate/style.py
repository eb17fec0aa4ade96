"""Style of all figures: one palette, units in the labels, no global state of matplotlib."""

import base64
import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harmose.errors import ConfigError
from harmose.evaluate.evaluation import NETWORK_ALONE
from harmose.units import ERROR_UNITS

REGRESSION, STAGE1, FULL, NETWORK, DFT = "#8b949e", "#d9822b", "#2563c9", "#2f9e6e", "#1f2933"
"""Grey, orange, blue, green and ink: readers with any kind of colour vision can tell them apart."""

STAGE_COLOURS = {"regression": REGRESSION, "stage1": STAGE1, "full": FULL, NETWORK_ALONE: NETWORK}

GRID, TEXT, FAINT = "#e6e9ee", "#1f2933", "#7b8794"

UNIT_LABELS = {"uEh": "µEh", "meV": "meV", "eV": "eV", "Ha": "Eh"}


def energy_unit(unit: str) -> tuple[float, str]:
    """Size in eV and label of one of `ERROR_UNITS`; `ConfigError` for any other name."""
    if unit not in ERROR_UNITS:
        raise ConfigError(f"unit: expected one of {', '.join(ERROR_UNITS)}, got {unit!r}")
    return ERROR_UNITS[unit], UNIT_LABELS.get(unit, unit)


def new_figure(width: float = 5.2, height: float = 4.0) -> Figure:
    """An empty figure (width and height in inches) with automatic layout."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def dress(axes: Axes, x: str = "", y: str = "", title: str = "", grid: str | None = "both") -> Axes:
    """Set labels and a light grid, and remove the upper and right lines."""
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
    """A legend without a frame, with opaque markers."""
    box = axes.legend(**{"frameon": False, "fontsize": 8, "labelcolor": TEXT, **options})
    for handle in box.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def number(x: float) -> str:
    """Format a number with three digits, without exponent from 0.001 to 1,000,000."""
    if x == 0 or not 1e-3 <= abs(x) < 1e6:
        return f"{x:.2g}"
    return f"{x:,.{max(0, 2 - int(np.floor(np.log10(abs(x)))))}f}"


def log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, as many as fit; its limits must be set."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    steps = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.5 else (1,)
    every = max(1, round(decades / 8))
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1, every)
    ticks = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
    if len(ticks) < 3:  # a small part of a decade is nearly linear
        ticks = [x for x in MaxNLocator(4).tick_values(low, high) if low <= x <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axis.set_minor_locator(NullLocator())


def svg(figure: Figure) -> str:
    """The figure as an SVG element, with text as outlines, which need no fonts."""
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
    """The figure as a `data:` address for the `src` of an `<img>`."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure).encode()).decode()
