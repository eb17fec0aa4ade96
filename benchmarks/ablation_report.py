"""Tables (Markdown) and figures of `ablation.py`: mean and spread over the seeds of each metric, and its reduction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harmose.evaluate.evaluation import METRICS, Evaluation
from harmose.evaluate.style import DFT, FAINT, FULL, STAGE1, dress, energy_unit, new_figure, number, png

COLUMNS = {
    "mae": "H MAE",
    "mae_elements": "all elements",
    "mae_challenging_samples": "challenging samples",
    "worst": "worst sample",
    "mae_challenging_block": "challenging block",
    "orbital_energy": "occupied energies",
    "homo": "HOMO",
    "lumo": "LUMO",
    "gap": "gap",
    "wavefunction": "1 - wavefunction similarity",
    "spin_orbit": "spin-orbit shifts",
    "spin_orbit_relative": "spin-orbit, relative",
    "bands": "bands",
    "ghost_states": "ghost states",
    "rotation_error": "rotation error",
    "rotation_error_relative": "rotation error, relative",
}
ENERGIES = frozenset(m.name for m in METRICS if m.is_energy)
NOT_DRAWN = ("mae_elements", "worst", "spin_orbit_relative", "rotation_error")
"""Metrics without a panel in the figure."""
LOGARITHMIC_RATIO = 30.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True)
class Run:
    """One training of one variant with its evaluation; tables show the metrics of the whole model."""

    variant: str
    seed: int
    evaluation: Evaluation
    n_parameters: int


Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Metric -> variant -> seed -> value, in the unit of the table."""


def values(runs: Sequence[Run], reference: str, unit: str) -> dict[str, dict[str, dict[int, float]]]:
    """All metrics that apply; the reference of the same seed decides which samples and blocks are challenging."""
    size, out = energy_unit(unit)[0], {}
    references = {run.seed: run.evaluation for run in runs if run.variant == reference}
    for run in runs:
        challenging = _challenging(run.evaluation, references.get(run.seed))
        for name in COLUMNS:
            value = challenging[name] if name in challenging else getattr(run.evaluation.full, name)
            if value is not None:
                value = 1 - value if name == "wavefunction" else value / size if name in ENERGIES else value
                out.setdefault(name, {}).setdefault(run.variant, {})[run.seed] = value
    return {name: out[name] for name in COLUMNS if name in out}


def _challenging(evaluation: Evaluation, reference: Evaluation | None) -> dict[str, float | None]:
    """Errors on the 5 % of the samples, and of the type of block, where the reference is worst."""
    if reference is None:
        return {"mae_challenging_samples": None, "mae_challenging_block": None}
    n = -(-len(reference.samples) // 20)
    worst = {s.name for s in sorted(reference.samples, key=lambda s: -s.full.mae)[:n]}
    block = max(reference.blocks, key=lambda b: b.full).label
    return {
        "mae_challenging_samples": float(np.mean([s.full.mae for s in evaluation.samples if s.name in worst])),
        "mae_challenging_block": next(b.full for b in evaluation.blocks if b.label == block),
    }


def reductions(table: Values, reference: str) -> dict[str, dict[str, dict[int, float]]]:
    """Reductions of each error relative to the reference of the same seed, in per cent.

    Rotation errors and ghost states, which may be zero, are left out.
    """
    out: dict[str, dict[str, dict[int, float]]] = {}
    for name, variants in table.items():
        before = variants.get(reference, {})
        for variant, seeds in variants.items() if not name.startswith(("rotation", "ghost")) else ():
            gained = {k: 100 * (1 - x / before[k]) for k, x in seeds.items() if before.get(k, 0) > 0}
            out.setdefault(name, {})[variant] = gained
    return out


def write_report(
    out: Path,
    sets: Mapping[str, tuple[str, bool]],
    variants: Mapping[str, str],
    reference: str,
    time_limit: str,
    runs: Mapping[str, Sequence[Run]],
) -> None:
    """`ablation.md`, and `ablation-SET.png` for each set; `sets` are titles and whether they are crystals."""
    explained = (
        f"Each training had {time_limit} of processor time for its network, besides the regression, which all "
        "runs of a set share. Mean over the seeds, ± their standard deviation. "
        f"Reductions in per cent are relative to `{variants[reference]}` of the same seed, whose worst samples and "
        "type of block are the challenging ones.\n"
    )
    parts = ["# Ablation\n", explained]
    for name, (title, periodic) in sets.items():
        if runs[name]:
            unit = "meV" if periodic else "uEh"
            table = values(runs[name], reference, unit)
            parts += _section(title, unit, table, variants, reference, runs[name])
            parts.append(f"![{title}](ablation-{name}.png)\n")
            figure = draw(title, unit, table, variants, reference, runs[name])
            (out / f"ablation-{name}.png").write_bytes(png(figure))
    (out / "ablation.md").write_text("\n".join(parts), encoding="utf-8")


def _section(
    title: str, unit: str, table: Values, variants: Mapping[str, str], reference: str, runs: Sequence[Run]
) -> list[str]:
    n_samples, label = runs[0].evaluation.n_samples, energy_unit(unit)[1]
    about = {v: [r for r in runs if r.variant == v] for v in variants}
    sizes = {v: f"{members[0].n_parameters:,} | {len(members)}" for v, members in about.items() if members}
    gained = reductions(table, reference)
    head = [f"## {title}\n", f"{n_samples} samples evaluated; energies in {label}.\n"]
    both = (("error", table, lambda x: number(abs(x)) if x else "0"), ("reduction, %", gained, lambda x: f"{x:.0f}"))
    for corner, content, text in both:
        columns = [COLUMNS[name] for name in content]
        head.append(f"| {corner} | parameters | seeds | {' | '.join(columns)} |")
        head.append("| --- | ---: | ---: |" + " ---: |" * len(columns))
        for variant in sizes:
            cells = [_cell(list(content[name].get(variant, {}).values()), text) for name in content]
            head.append(f"| {variants[variant]} | {sizes[variant]} | {' | '.join(cells)} |")
        head.append("")
    return head


def _cell(x: Sequence[float], text: Callable[[float], str]) -> str:
    if not x:
        return ""
    spread = f" ± {np.std(x, ddof=1):.2g}" if len(x) > 1 else ""
    return text(float(np.mean(x))) + spread


def draw(
    title: str, unit: str, table: Values, variants: Mapping[str, str], reference: str, runs: Sequence[Run]
) -> Figure:
    """A panel for each metric: bars of the mean, a line for the spread, a point for each seed."""
    shown = [name for name in table if name not in NOT_DRAWN]
    present = [v for v in variants if any(run.variant == v for run in runs)]
    n_columns = min(4, len(shown))
    n_rows = -(-len(shown) // n_columns)
    figure = new_figure(2.9 + 2.5 * n_columns, n_rows * (0.9 + 0.27 * len(present)))
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for k, axes in enumerate(grid.ravel()):
        if k >= len(shown):
            axes.set_visible(False)
            continue
        _panel(axes, shown[k], table[shown[k]], present, reference, unit)
        names = [variants[v] for v in present] if k % n_columns == 0 else [""] * len(present)
        axes.set_yticks(range(len(present)), names)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=DFT)
    return figure


def _panel(
    axes: Axes, name: str, table: Mapping[str, Mapping[int, float]], variants: Sequence[str], reference: str, unit: str
) -> None:
    label = f"{COLUMNS[name]} ({energy_unit(unit)[1]})" if name in ENERGIES else COLUMNS[name]
    dress(axes, "", "", label, grid="x")
    axes.title.set_fontsize(8.5)
    everything = [x for seeds in table.values() for x in seeds.values()]
    logarithmic = min(everything) > 0 and max(everything) > LOGARITHMIC_RATIO * min(everything)
    for row, variant in enumerate(variants):
        x = list(table.get(variant, {}).values())
        if not x:
            continue
        mean, spread = float(np.mean(x)), float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
        colour = STAGE1 if variant.startswith("stage1") else FULL
        axes.barh(row, mean, 0.62, color=colour, alpha=0.9 if variant == reference else 0.6)
        axes.errorbar(mean, row, xerr=spread or None, color=DFT, linewidth=1, capsize=2.5)
        axes.plot(x, [row] * len(x), "o", color=DFT, markersize=2.2, alpha=0.7, mew=0)
        axes.annotate(number(mean) if mean else "0", (max([*x, mean + spread]), row), (5, 0), va="center",
                      textcoords="offset points", fontsize=7, color=DFT)  # fmt: skip
    if reference in table:
        axes.axvline(float(np.mean(list(table[reference].values()))), color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(len(variants) - 0.4, -0.6)
    top = max(everything) or 1.0
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(min(everything) / 3, top * 10 ** (0.3 * np.log10(top / min(everything))))
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.3 * top)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
