"""An evaluation for people: a table in the terminal, and one HTML file that needs nothing else.

The page holds its pictures and its style; it loads nothing from anywhere and runs no script.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harmose.core.basis import BasisSet
from harmose.core.files import write_file
from harmose.errors import FormatError
from harmose.evaluate import band_plots, heat_map, plots
from harmose.evaluate import uncertainty_plots as trust_plots
from harmose.evaluate.coverage import TITLES
from harmose.evaluate.evaluation import METRICS, BlockErrors, Coverage, EvaluatedSample, Evaluation, Metric
from harmose.evaluate.metrics import Prediction
from harmose.evaluate.page import CSS
from harmose.evaluate.style import data_uri, energy_unit, number

History = Sequence[Mapping[str, Any]] | str | Path
"""Rows of the training log, or the CSV file that holds them."""

CARD_FIELDS = ("name", "elements", "basis", "functional", "spin", "needs_prior", "n_parameters", "settings")


@dataclass(frozen=True)
class Row:
    """One line of the table of metrics, as text."""

    metric: Metric
    title: str
    stage1: str
    full: str
    reduction: str


def terminal_table(evaluation: Evaluation, unit: str = "uEh") -> Group:
    """The metrics of both stages with the reduction in per cent, and where the model is worst, for `rich.print`.

    Raises `ConfigError` for a unit that `--unit` does not know.
    """
    two = evaluation.has_second_stage
    table = Table(title=f"{evaluation.n_samples} samples", title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("metric")
    for column in ("stage 1", "full model", "reduction") if two else ("model",):
        table.add_column(column, justify="right")
    for row in table_rows(evaluation, unit):
        style = "red" if _is_worse(row.reduction) else "green"
        table.add_row(row.title, *((row.stage1, row.full, Text(row.reduction, style)) if two else (row.full,)))
    names = ", ".join(evaluation.challenging_samples[:3])
    more = len(evaluation.challenging_samples) - 3
    worst = f"challenging samples: {names}" + (f" and {more} more" if more > 0 else "")
    notes = [f"challenging block: {evaluation.challenging_block}", worst]
    if evaluation.coverage is not None:
        notes.append(coverage_line(evaluation.coverage))
    return Group(table, Text("\n".join(notes), style="dim"))


def coverage_line(coverage: Coverage) -> str:
    """How often errors stay within the stated bounds, in words."""
    shares = ", ".join(f"{TITLES[name]} {100 * coverage.at_level(name):.1f} %" for name in coverage.shares)
    outside = f"; {coverage.n_outside} of {coverage.n_samples} samples outside the training domain"
    return f"within the stated {100 * coverage.level:g} % bounds: {shares}" + (outside if coverage.n_outside else "")


def table_rows(evaluation: Evaluation, unit: str) -> list[Row]:
    """The metrics that apply to this test set, with their units."""
    size, label = energy_unit(unit)
    rows = []
    for metric in METRICS:
        before, after = (getattr(stage, metric.name) for stage in (evaluation.stage1, evaluation.full))
        if before is None and after is None:
            continue
        title = f"{metric.title} ({label})" if metric.is_energy else metric.title
        decimals = _decimals(value for value in (before, after) if value is not None)
        stage1, full = (_value(metric, value, size, decimals) for value in (before, after))
        rows.append(Row(metric, title, stage1, full, _percent(evaluation.reduction(metric.name))))
    return rows


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    predictions: Sequence[Prediction],
    history: History | None = None,
    card: Any = None,
    unit: str = "uEh",
    title: str = "Evaluation",
) -> Path:
    """Write the self-contained HTML page `path` and return it; the file appears whole or not at all.

    `predictions` are those of the evaluation. `history` has columns step, phase, seconds, loss, mae_train, mae_val (eV),
    learning_rate, or some of them. `card` is a model card: a mapping, or an object with some of the names in
    `CARD_FIELDS`. Raises `ConfigError` for an unknown unit, `FormatError` when a file cannot be read or written.
    """
    sections = [
        _summary(evaluation, unit),
        _metrics_section(evaluation, unit),
        _learning_section(history, unit),
        _accuracy_section(evaluation, predictions, unit),
        _block_section(evaluation, unit),
        _sample_section(evaluation, unit),
        _trust_section(evaluation, predictions, unit),
        _card_section(card),
    ]
    # language and viewport for screen readers and telephones; the policy keeps the page from loading anything
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{CSS}</style></head>
<body><header><h1>{escape(title)}</h1><p>{_subtitle(evaluation, card)}</p></header>
<main>{"".join(sections)}</main></body></html>
"""
    path = Path(path)
    write_file(path, page)
    return path


def read_history(history: History) -> Sequence[Mapping[str, Any]]:
    """Rows of a training log, from memory or from a CSV file; `FormatError` when the file cannot be read."""
    if not isinstance(history, str | Path):
        return history
    try:
        with open(history, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{history}: expected a training log in CSV, got {error}") from None


def _summary(evaluation: Evaluation, unit: str) -> str:
    """The four numbers that a reader wants first."""
    tiles = []
    for row in table_rows(evaluation, unit):
        if row.metric.name not in ("mae", "orbital_energy", "wavefunction", "bands", "ghost_states", "rotation_error"):
            continue
        name, _, in_unit = row.title.partition(" (")
        change = f"stage 1: {row.stage1}" if evaluation.has_second_stage else ""
        if change and row.reduction:
            change += f" · {_coloured(row.reduction)}"
        long = " long" if len(row.full) > 11 else ""
        tiles.append(
            f'<div class="tile"><div class="name">{escape(name)}</div><div class="value{long}">{row.full}'
            f'<span class="unit">{in_unit.rstrip(")")}</span></div><div class="change">{change}</div></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _metrics_section(evaluation: Evaluation, unit: str) -> str:
    two = evaluation.has_second_stage
    head = ["metric", "stage 1", "full model", "reduction"] if two else ["metric", "model"]
    body = []
    for row in table_rows(evaluation, unit):
        name = f'{escape(row.title)}<span class="definition">{escape(row.metric.definition)}</span>'
        cells = [row.stage1, f"<b>{row.full}</b>", _coloured(row.reduction)] if two else [f"<b>{row.full}</b>"]
        body.append([name, *cells])
    note = f"Challenging block: <b>{escape(evaluation.challenging_block)}</b>. "
    note += "Challenging samples: " + ", ".join(f"<b>{escape(n)}</b>" for n in evaluation.challenging_samples[:5])
    note += " …" if len(evaluation.challenging_samples) > 5 else "."
    if not two:
        note += " The model has one stage."
    return _section("Metrics", _table(head, body) + f"<p>{note}</p>")


def _learning_section(history: History | None, unit: str) -> str:
    rows = read_history(history) if history is not None else []
    figure = plots.learning_curve(rows, unit) if rows else None
    return _section("Training", _image(figure, "learning curve")) if figure else ""


def _accuracy_section(evaluation: Evaluation, predictions: Sequence[Prediction], unit: str) -> str:
    if not predictions:
        return ""
    two = evaluation.has_second_stage
    figures = [
        (plots.predicted_against_dft(predictions, unit, two), "elements of H, predicted over DFT, with errors"),
        (plots.orbital_energies(predictions, unit, two), "occupied orbital energies, predicted over DFT, with errors"),
        (plots.level_errors(predictions, unit, two), "error of each level; bars hold the middle 80 % of the samples"),
    ]
    typical = _typical(evaluation, predictions)
    figures.append((plots.level_diagram(typical, two), "levels around the gap"))
    figures.append((band_plots.predicted_bands(typical), "bands of the prediction over DFT"))
    used = f" Drawn from the first {plots.MAX_SAMPLES} samples." if len(predictions) > plots.MAX_SAMPLES else ""
    note = "Axes in eV are linear near zero and logarithmic beyond ±1 eV. Error of each level: points are means, bars hold "
    note += f"the middle 80 % of the samples. Levels: the sample of median error, with its gap; dashed are empty.{used}"
    if typical.sample.structure.pbc.any():
        note = "Elements in eV are linear near zero and logarithmic beyond ±1 eV. Bands: the sample of median error, from DFT's "
        note += f"Fermi level, after aligning; predicted states without a partner in DFT are marked.{used}"
    return _section("Prediction and DFT", _gallery(figures) + f"<p>{note}</p>")


def _typical(evaluation: Evaluation, predictions: Sequence[Prediction]) -> Prediction:
    """The prediction of median error."""
    by_error = sorted(evaluation.samples, key=lambda sample: sample.full.mae)
    name = by_error[len(by_error) // 2].name
    return next((p for p in predictions if p.sample.name == name), predictions[0])


def _block_section(evaluation: Evaluation, unit: str) -> str:
    onsite, offsite = (draw(evaluation, unit) for draw in (heat_map.onsite_heat_map, heat_map.offsite_heat_map))
    pictures = "".join(
        f"<h3>{name}</h3>{_image(figure, f'MAE of each type of {name} block', 'wide')}"
        for name, figure in (("On one atom", onsite), ("Between two atoms", offsite))
        if figure is not None
    )
    by_error = sorted(evaluation.blocks, key=lambda block: -block.full)
    table = _details(f"All {len(by_error)} types of block", _block_table(evaluation, by_error, unit))
    note = "<p>MAE of each pair of shells; dark is worse, grey does not occur. Both stages share one logarithmic scale.</p>"
    return _section("Errors by block", note + pictures + table)


def _sample_section(evaluation: Evaluation, unit: str) -> str:
    figures: list[tuple[Figure | None, str]] = [(plots.error_distribution(evaluation, unit), "errors of the samples")]
    if evaluation.has_second_stage:
        figures.append((plots.stage_comparison(evaluation, unit), "error of each sample by both stages"))
    by_error = sorted(evaluation.samples, key=lambda sample: -sample.full.mae)[:20]
    table = _details(f"The {len(by_error)} worst samples", _sample_table(evaluation, by_error, unit))
    return _section("Errors by sample", _gallery(figures) + table)


def _trust_section(evaluation: Evaluation, predictions: Sequence[Prediction], unit: str) -> str:
    """Stated against observed coverage, and bounds against errors."""
    coverage = evaluation.coverage
    if coverage is None:
        return ""
    head = ["within its bound", "compared", *(f"{100 * level:g} %" for level in coverage.levels)]
    rows = [
        [escape(TITLES[name]), f"{coverage.counts[name]:,}", *(f"{100 * share:.1f} %" for share in shares)]
        for name, shares in coverage.shares.items()
    ]
    figures = [
        (trust_plots.reliability(coverage), "observed coverage over stated level"),
        (trust_plots.bounds_and_errors(predictions, unit), "errors of blocks over their bounds"),
    ]
    note = (
        "Shares of the errors that stay within the bound of the level, each sample counting alike; predictions state "
    )
    note += f"{100 * coverage.level:g} %. {coverage.n_outside} of {coverage.n_samples} samples are outside the training domain."
    return _section("Stated uncertainty", _table(head, rows) + _gallery(figures) + f"<p>{note}</p>")


def _card_section(card: Any) -> str:
    rows = [[escape(name), escape(value)] for name, value in _card_rows(card)]
    return _section("Model", f'<div class="card">{_table(["", ""], rows)}</div>') if rows else ""


def _block_table(evaluation: Evaluation, blocks: Sequence[BlockErrors], unit: str) -> str:
    size, label = energy_unit(unit)
    two = evaluation.has_second_stage
    head = ["block", "elements", *(["stage 1"] if two else []), f"MAE ({label})"]
    rows = [
        [escape(b.label), f"{b.n_elements:,}", *([number(b.stage1 / size)] if two else []), number(b.full / size)]
        for b in blocks
    ]
    return _table(head, rows)


def _sample_table(evaluation: Evaluation, samples: Sequence[EvaluatedSample], unit: str) -> str:
    size, label = energy_unit(unit)
    two = evaluation.has_second_stage
    energies = {"orbital_energy": "occupied levels", "bands": "bands"}
    numbers = {"wavefunction": "wavefunction", "ghost_states": "ghost states"}
    known = {name: text for name, text in (energies | numbers).items() if getattr(evaluation.full, name) is not None}
    head = ["sample", "formula", *(["e[s], stage 1"] if two else []), f"e[s] ({label})", *known.values()]
    decimals = {"wavefunction": _decimals(s.full.wavefunction or 0.0 for s in samples), "ghost_states": 0}
    rows = []
    for s in samples:
        before = [number(s.stage1.mae / size)] if two else []
        cells = []
        for name in known:
            value = getattr(s.full, name)
            text = "" if value is None else number(value / size) if name in energies else f"{value:.{decimals[name]}f}"
            cells.append(text)
        rows.append([escape(s.name), escape(s.formula), *before, number(s.full.mae / size), *cells])
    return _table(head, rows)


def _subtitle(evaluation: Evaluation, card: Any) -> str:
    formulas = list(dict.fromkeys(sample.formula for sample in evaluation.samples))
    shown = ", ".join(formulas[:6]) + (f" and {len(formulas) - 6} more" if len(formulas) > 6 else "")
    known = dict(_card_rows(card))
    model = " / ".join(known[name] for name in ("functional", "basis") if name in known)
    parts = [f"{evaluation.n_samples:,} samples of {shown}", f"{evaluation.n_elements:,} matrix elements", model]
    return escape(" · ".join(part for part in parts if part))


def _card_rows(card: Any) -> list[tuple[str, str]]:
    """The readable fields of a model card."""
    if card is None:
        return []
    values = card if isinstance(card, Mapping) else {name: getattr(card, name, None) for name in CARD_FIELDS}
    return [(str(name).replace("_", " "), _plain(name, value)) for name, value in values.items() if value is not None]


def _plain(name: str, value: Any) -> str:
    if isinstance(value, BasisSet):
        return value.name
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        known = name == "elements" and all(isinstance(z, int) and 0 < z < len(chemical_symbols) for z in value)
        return ", ".join(chemical_symbols[z] if known else str(z) for z in value)
    return str(value)


def _value(metric: Metric, value: float | None, size: float, decimals: int) -> str:
    if value is None:
        return "–"
    if metric.is_energy:
        return number(value / size)
    if metric.name == "ghost_states":
        return f"{value:.0f}"
    return f"{value:.{decimals}f}" if metric.name == "wavefunction" else f"{value:.1e}"


def _decimals(similarities: Iterable[float]) -> int:
    """Enough for all the nines of the best and two digits after them; six to twelve."""
    distance = max(1 - max(similarities), 1e-11)
    return max(6, 1 - int(np.floor(np.log10(distance)))) if distance < 1 else 6


def _percent(reduction: float | None) -> str:
    """A reduction in per cent; a worse error with a minus sign, or as a factor when it is many times as large."""
    if reduction is None:
        return ""
    return f"× {1 - reduction / 100:,.0f}" if reduction < -1000 else f"{reduction:.1f} %".replace("-", "−")


def _is_worse(reduction: str) -> bool:
    return reduction.startswith(("−", "×"))


def _coloured(reduction: str) -> str:
    return f'<span class="{"worse" if _is_worse(reduction) else "better"}">{reduction}</span>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML already."""
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _gallery(figures: Sequence[tuple[Figure | None, str]]) -> str:
    images = "".join(_image(figure, caption) for figure, caption in figures if figure is not None)
    return f'<div class="gallery">{images}</div>'


def _image(figure: Figure, caption: str, kind: str = "") -> str:
    width = round(96 * figure.get_figwidth())
    return (f'<div class="scroll"><img class="{kind}" width="{width}" alt="{escape(caption)}" '
            f'src="{data_uri(figure)}"></div>')  # fmt: skip
