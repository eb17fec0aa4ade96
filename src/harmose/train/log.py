"""Log of a training: a CSV table, TensorBoard by Fabric's logger, and a progress line in the terminal.

The table is written here, since Fabric's CSVLogger deletes an earlier one, and a resumed training continues it.
"""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from harmose.units import ERROR_UNITS

METRICS = "metrics.csv"
COLUMNS: tuple[str, ...] = ("step", "phase", "seconds", "loss", "mae_train", "mae_val", "learning_rate")
"""`loss` in micro-Hartree, MAEs in eV; MAEs are empty in rows without a validation."""


class Log:
    """Writes rows of `metrics.csv`, the same numbers for TensorBoard, and the progress line. A context manager.

    A resumed run drops the rows after `step`, since it writes them again. `unit`: unit of errors on the console.
    """

    def __init__(self, folder: Path, console: Console, step: int, tensorboard: bool, unit: str = "uEh"):
        self.path, self.console, self.unit = folder / METRICS, console, unit
        rows = _rows_until(self.path, step) if step else []
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        logger = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=step or None)
        self.board = logger if tensorboard else None
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        self.live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.live.add_task("preparing", total=1.0, text="")

    def __enter__(self) -> "Log":
        self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()
        if self.board is not None:
            self.board.finalize("success")

    def show(self, description: str, fraction: float, text: str = "") -> None:
        """Update the progress line."""
        self.live.update(
            self.task, description=description, completed=min(fraction, 1.0), text=text, refresh=fraction >= 1
        )

    def error(self, energy: float) -> str:
        """Return an energy in eV as text in `unit`."""
        size = energy / ERROR_UNITS[self.unit]
        return f"{size:.2f}" if size >= 1 else f"{size:.4f}"

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row; print it, too, after a validation."""
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow({k: _plain(v) for k, v in row.items()})
        if self.board is not None:
            names = ("loss", "mae_train", "mae_val", "learning_rate")
            metrics = {f"{row['phase']}/{name}": row[name] for name in names if row.get(name) is not None}
            self.board.log_metrics(metrics, row["step"])
        if row.get("mae_val") is not None:
            errors = ", ".join(f"{n} {self.error(row[f'mae_{n}'])}" for n in ("train", "val"))
            self.say(
                f"{row['phase']:6} step {row['step']:7} {row['seconds']:7.0f} s   loss {row['loss']:9.3f}   "
                f"MAE ({self.unit}) {errors}   rate {row['learning_rate']:.1e}"
            )


class SilentLog(Log):
    """The log of all processes but the first: it writes and says nothing."""

    def __init__(self, unit: str = "uEh"):
        self.console, self.unit, self.board = Console(quiet=True), unit, None
        self.live = Progress(console=self.console, disable=True)
        self.task = self.live.add_task("")

    def write(self, row: Mapping[str, Any]) -> None:
        """Do nothing."""


def _plain(value: Any) -> Any:
    return f"{value:.8g}" if isinstance(value, float) else value


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """Return the rows up to `step`, without a last line that was cut off."""
    rows = []
    with suppress(OSError, csv.Error, UnicodeDecodeError), open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            whole = set(row) == set(COLUMNS) and None not in row.values()
            if whole and row["step"].isdigit() and int(row["step"]) <= step:
                rows.append(row)
    return rows
