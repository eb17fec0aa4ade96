"""`harmose train`: train a model."""

from pathlib import Path
from typing import Annotated

import typer

from harmose.cli.options import terminal


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the file.")
    ] = None,
) -> None:
    """Train a model. The same command continues a training that was stopped.

    If the share of both phases is 0, the model is the regression alone.
    """
    import time

    begin = time.monotonic()  # before PyTorch is imported, which takes seconds of the time limit
    from harmose.train.config import load_config

    settings = load_config(config, overrides or [])
    from harmose.train.engine import train as run

    console = terminal()
    out = run(settings, console, begin)
    console.print(f"model: {out}", markup=False, soft_wrap=True)
