"""Options and output files that `harmose bands` and `harmose dos` share."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from harmose.cli.options import check_output, new_output, terminal
from harmose.errors import ConfigError

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")

WindowOption = Annotated[
    tuple[float, float],
    typer.Option(metavar="LOW HIGH", help="Lowest and highest energy in eV, relative to the Fermi level."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="A figure (.png, .pdf, .svg), with its numbers beside it as .csv; or only a .csv file."),
]


def output_files(out: Path | None, force: bool) -> tuple[Path, ...]:
    """Return the files that --out names; raise before any work is done if one cannot be written."""
    if out is None:
        return ()
    suffix = out.suffix.lower()
    if suffix not in (*PICTURE_SUFFIXES, ".csv"):
        raise ConfigError(f"--out: expected a file {', '.join(PICTURE_SUFFIXES)} or .csv, got {str(out)!r}")
    files = (out,) if suffix == ".csv" else (out, out.with_suffix(".csv"))
    for file in files:
        check_output(file, force)
    return files


def write_files(files: Sequence[Path], force: bool, draw: Callable[[], Figure], csv: str) -> None:
    """Write a figure, which `draw` returns, and its numbers: all files or none."""
    with ExitStack() as stack:
        for file in files:
            hidden = stack.enter_context(new_output(file, force))
            if file.suffix == ".csv":
                hidden.write_text(csv, encoding="utf-8")
            else:
                draw().savefig(hidden, dpi=200)
    for file in files:
        terminal().print(f"{file}", markup=False, soft_wrap=True)


def energy_text(energy: float | None) -> str:
    """Return an energy in eV as text for a table; empty if it is None."""
    return "" if energy is None else f"{energy:.6f}"
