"""What a training tells: a CSV table, TensorBoard, and a live line in the terminal."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from harmose.units import ERROR_UNITS

METRICS = "metrics.csv"
COLUMNS: tuple[str, ...] = ("step", "phase", "seconds", "loss", "mae_train", "mae_val", "learning_rate")
"""`loss` in micro-Hartree, MAEs in eV; an MAE is there where it was measured."""


class Log:
    """Rows of `metrics.csv`, the same numbers for TensorBoard, and the progress line. A context manager.

    A resumed run drops the rows after `step`, which it will write again. `unit` is that of errors on the console.
    """

    def __init__(self, folder: Path, console: Console, step: int, tensorboard: bool, unit: str = "uEh"):
        self.path, self.console, self.unit = folder / METRICS, console, unit
        rows = _rows_until(self.path, step) if step else []
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self.board = _board(folder, step) if tensorboard else None
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        self.live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.live.add_task("preparing", total=1.0, text="")

    def __enter__(self) -> "Log":
        self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()
        if self.board is not None:
            self.board.close()

    def show(self, description: str, fraction: float, text: str = "") -> None:
        """The live line."""
        self.live.update(
            self.task, description=description, completed=min(fraction, 1.0), text=text, refresh=fraction >= 1
        )

    def error(self, energy: float) -> str:
        """An energy in eV as a number of `unit`."""
        size = energy / ERROR_UNITS[self.unit]
        return f"{size:.2f}" if size >= 1 else f"{size:.4f}"

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """A row of the table; also a line in the terminal when an MAE was measured."""
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow({k: _plain(v) for k, v in row.items()})
        if self.board is not None:
            for name in ("loss", "mae_train", "mae_val", "learning_rate"):
                if row.get(name) is not None:
                    self.board.add_scalar(f"{row['phase']}/{name}", row[name], row["step"])
        if row.get("mae_val") is not None:
            errors = ", ".join(f"{n} {self.error(row[f'mae_{n}'])}" for n in ("train", "val"))
            self.say(
                f"{row['phase']:6} step {row['step']:7} {row['seconds']:7.0f} s   loss {row['loss']:9.3f}   "
                f"MAE ({self.unit}) {errors}   rate {row['learning_rate']:.1e}"
            )


def _plain(value: Any) -> Any:
    return f"{value:.8g}" if isinstance(value, float) else value


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The rows up to `step`; a line that was cut off is left out."""
    rows = []
    with suppress(OSError, csv.Error, UnicodeDecodeError), open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            whole = set(row) == set(COLUMNS) and None not in row.values()
            if whole and row["step"].isdigit() and int(row["step"]) <= step:
                rows.append(row)
    return rows


def _board(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)
