"""`harmose demo`: a small example of everything."""

from pathlib import Path
from typing import Annotated

import typer

from harmose.cli.options import examples, new_app, terminal
from harmose.demo import run

app = new_app()


@app.command(epilog=examples("harmose demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the data, the model and the report.")] = Path("harmose-demo"),
) -> None:
    """Run DFT, train both stages, print tables, predict, and write a report: minutes on two cores."""
    run(out, terminal())
