"""An evaluation for readers: a table for the terminal, and an HTML page in a single file (`report.html.j2`)."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jinja2 import Environment, StrictUndefined
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harmose.core.basis import BasisSet
from harmose.core.files import write_file
from harmose.errors import FormatError
from harmose.evaluate import band_plots, heat_map, plots, uncertainty_plots
from harmose.evaluate.coverage import TITLES
from harmose.evaluate.evaluation import METRICS, Coverage, Errors, Evaluation, Metric, Prediction, last_stage
from harmose.evaluate.figure_data import MAX_SAMPLES, FigureData
from harmose.evaluate.style import data_uri, energy_unit, number

History = Sequence[Mapping[str, Any]] | str | Path
"""Rows of the training log, or the CSV file that holds them."""

CARD_FIELDS = ("name", "elements", "basis", "functional", "spin", "needs_prior", "n_parameters", "settings")
"""Fields of a model card that a report shows."""

TILES = ("mae", "orbital_energy", "wavefunction", "bands", "ghost_states", "rotation_error")
"""Metrics at the top of a report."""

SAMPLE_COLUMNS = {
    "orbital_energy": "occupied orbital energies",
    "bands": "bands",
    "wavefunction": "wavefunction",
    "ghost_states": "ghost states",
}
"""Columns of the table of samples besides e[s]."""


@dataclass(frozen=True)
class Row:
    """One line of the table of metrics, as text: `cells` by stage, `reduction` in per cent or as a factor."""

    metric: Metric
    unit: str
    cells: Mapping[str, str]
    reduction: str

    @property
    def name(self) -> str:
        return self.metric.title

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def is_worse(self) -> bool:
        """True if the last stage makes the error larger."""
        return self.reduction.startswith(("−", "×"))


def terminal_table(evaluation: Evaluation, unit: str = "uEh") -> Group:
    """Table of the metrics of each stage for `rich.print`, with the challenging samples and the coverage of bounds
    below.

    Raises `ConfigError` for a unit that is not in `ERROR_UNITS`.
    """
    title = f"{evaluation.n_samples} samples, energies in {energy_unit(unit)[1]}"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("metric")
    compared = evaluation.compared_stages
    for column in (*evaluation.titles.values(), *([_reduction_title(evaluation)] if compared else [])):
        table.add_column(column, justify="right")
    for row in table_rows(evaluation, unit):
        reduction = [Text(row.reduction, "red" if row.is_worse else "green")] if compared else []
        table.add_row(row.name, *row.cells.values(), *reduction)
    names = ", ".join(evaluation.challenging_samples[:3])
    more = len(evaluation.challenging_samples) - 3
    worst = f"challenging samples: {names}" + (f" and {more} more" if more > 0 else "")
    notes = [f"challenging block: {evaluation.challenging_block}", worst]
    if evaluation.coverage is not None:
        notes.append(coverage_line(evaluation.coverage))
    return Group(table, Text("\n".join(notes), style="dim"))


def coverage_line(coverage: Coverage) -> str:
    """Describe in one line how often errors stay within the stated bounds."""
    shares = ", ".join(f"{TITLES[name]} {100 * coverage.stated(name):.1f} %" for name in coverage.shares)
    outside = f"{coverage.n_outside} of {coverage.n_samples} samples outside the training domain"
    if not shares:
        return f"no bounds: {outside}"
    stated = f"errors within the bounds of {100 * coverage.confidence:g} % confidence"
    return f"{stated}: {shares}" + (f"; {outside}" if coverage.n_outside else "")


def table_rows(evaluation: Evaluation, unit: str) -> list[Row]:
    """The metrics that apply to this test set, as text in `unit`."""
    size, label = energy_unit(unit)
    rows = []
    for metric in METRICS:
        values = {stage: getattr(evaluation.stages[stage], metric.name) for stage in evaluation.titles}
        present = [value for value in values.values() if value is not None]
        if not present:
            continue
        decimals = _decimals(present)
        cells = {stage: _value(metric, value, size, decimals) for stage, value in values.items()}
        reduction = _percent(evaluation.reduction(metric.name))
        rows.append(Row(metric, label if metric.is_energy else "", cells, reduction))
    return rows


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    data: FigureData,
    typical: Prediction | None = None,
    history: History | None = None,
    card: Any = None,
    unit: str = "uEh",
    title: str = "Evaluation",
) -> Path:
    """Write the HTML page `path` and return it; the file appears complete or not at all.

    Args:
        path: file to write; its folder is made if it is missing.
        evaluation: result of `evaluate(data.watch(predictions))`.
        data: what was gathered from the predictions of this evaluation, for the figures.
        typical: the prediction of the sample `typical_name(evaluation)`, for its orbital energies or bands.
        history: training log: columns step, phase, seconds, loss, mae_train, mae_val (eV), learning_rate, or some.
        card: model card: a mapping, or an object with some of the attributes `CARD_FIELDS`.
        unit: one of `ERROR_UNITS`.
        title: heading of the page.

    Raises:
        ConfigError: unknown unit.
        FormatError: a file cannot be read or written.
    """
    page = _template().render(_content(evaluation, data, typical, history, card, unit, title))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, page)
    return path


def read_history(history: History) -> Sequence[Mapping[str, Any]]:
    """Rows of a training log, from memory or from a CSV file; `FormatError` if the file cannot be read."""
    if not isinstance(history, str | Path):
        return history
    try:
        with open(history, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{history}: expected a training log in CSV, got {error}") from None


def _template():
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, data_uri=data_uri)
    text = resources.files("harmose.evaluate").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def _content(
    evaluation: Evaluation,
    data: FigureData,
    typical: Prediction | None,
    history: History | None,
    card: Any,
    unit: str,
    title: str,
) -> dict[str, Any]:
    """Values of the template."""
    size, label = energy_unit(unit)
    titles, compared = evaluation.titles, evaluation.compared_stages
    worst = sorted(evaluation.samples, key=lambda sample: -sample.full.mae)[:20]
    columns = {name: text for name, text in SAMPLE_COLUMNS.items() if getattr(evaluation.full, name) is not None}
    decimals = _decimals(sample.full.wavefunction or 0.0 for sample in worst)
    by_name = {metric.name: metric for metric in METRICS}

    def cell(name: str, errors: Errors) -> str:
        value = getattr(errors, name)
        return "" if value is None else _value(by_name[name], value, size, decimals)

    log = read_history(history) if history is not None else []
    return {
        "title": title,
        "subtitle": _subtitle(evaluation, card),
        "evaluation": evaluation,
        "unit": label,
        "size": size,
        "titles": titles,
        "whole": compared[1] if compared else last_stage(titles),
        "before": compared[0] if compared else None,
        "reduction_title": _reduction_title(evaluation) if compared else "",
        "rows": table_rows(evaluation, unit),
        "tiles": TILES,
        "learning": plots.learning_curve(log, unit) if log else None,
        "accuracy": _accuracy_figures(evaluation.titles, data, typical, unit) if data.n_samples else [],
        "periodic": data.periodic,
        "drawn": MAX_SAMPLES if data.n_samples > MAX_SAMPLES else 0,
        "blocks": {
            "On one atom": heat_map.onsite_heat_map(evaluation, unit),
            "Between two atoms": heat_map.offsite_heat_map(evaluation, unit),
        },
        "sample_figures": [
            (plots.error_distribution(evaluation, unit), "errors of the samples"),
            (plots.stage_comparison(evaluation, unit), "error of each sample by two stages"),
        ],
        "worst": worst,
        "sample_columns": columns,
        "cell": cell,
        "quantities": TITLES,
        "uncertainty": _uncertainty_figures(evaluation, data, unit),
        "card": _card_rows(card),
    }


def _reduction_title(evaluation: Evaluation) -> str:
    assert evaluation.compared_stages is not None
    return f"reduction by {evaluation.titles[evaluation.compared_stages[1]].removeprefix('+ ')}"


def _accuracy_figures(
    titles: Mapping[str, str], data: FigureData, typical: Prediction | None, unit: str
) -> list[tuple[Any, str]]:
    figures = [
        (plots.predicted_against_dft(data, unit, titles), "elements of H, predicted over DFT, with errors"),
        (plots.orbital_energies(data, unit, titles), "occupied orbital energies over DFT, with errors"),
        (plots.orbital_energy_errors(data, unit, titles), "error of each orbital energy"),
    ]
    if typical is None:
        return figures
    return [
        *figures,
        (plots.orbital_diagram(typical, titles), "orbital energies around the gap"),
        (band_plots.predicted_bands(typical), "bands of the prediction over DFT"),
    ]


def _uncertainty_figures(evaluation: Evaluation, data: FigureData, unit: str) -> list[tuple[Any, str]]:
    if evaluation.coverage is None or not evaluation.coverage.shares:
        return []
    return [
        (uncertainty_plots.reliability(evaluation.coverage), "observed coverage over stated confidence"),
        (uncertainty_plots.bounds_and_errors(data, unit), "errors of blocks over their bounds"),
    ]


def typical_name(evaluation: Evaluation) -> str:
    """Name of the sample of median error."""
    by_error = sorted(evaluation.samples, key=lambda sample: sample.full.mae)
    return by_error[len(by_error) // 2].name


def _subtitle(evaluation: Evaluation, card: Any) -> str:
    formulas = list(dict.fromkeys(sample.formula for sample in evaluation.samples))
    shown = ", ".join(formulas[:6]) + (f" and {len(formulas) - 6} more" if len(formulas) > 6 else "")
    fields = dict(_card_rows(card))
    model = " / ".join(fields[name] for name in ("functional", "basis") if name in fields)
    parts = [f"{evaluation.n_samples:,} samples of {shown}", f"{evaluation.n_elements:,} matrix elements", model]
    return " · ".join(part for part in parts if part)


def _card_rows(card: Any) -> list[tuple[str, str]]:
    """Names and values of the fields of a model card, as text."""
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
        are_numbers = name == "elements" and all(isinstance(z, int) and 0 < z < len(chemical_symbols) for z in value)
        return ", ".join(chemical_symbols[z] if are_numbers else str(z) for z in value)
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
    """Decimals that show two digits after the nines of the best similarity: six to twelve."""
    distance = max(1 - max(similarities), 1e-11)
    return max(6, 1 - int(np.floor(np.log10(distance)))) if distance < 1 else 6


def _percent(reduction: float | None) -> str:
    """A reduction in per cent: negative if the error grows, a factor if it becomes more than ten times as large."""
    if reduction is None:
        return ""
    if reduction < -1000:
        return f"× {1 - reduction / 100:,.0f}"
    return f"{reduction:.1f} %".replace("-0.0", "0.0").replace("-", "−")
