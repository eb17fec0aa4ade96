"""`harmose train`: train a model."""

from pathlib import Path
from typing import Annotated

import typer

from harmose.cli.options import examples, new_app, terminal
from harmose.train.config import load_config
from harmose.train.engine import train as run_training
from harmose.train.placement import is_first_process

app = new_app()


@app.command(
    epilog=examples(
        "harmose train configs/water.yaml data=water out=runs/water time_limit=20min",
        "harmose train configs/organics.yaml data=thf out=runs/thf init=organics-b3lyp-def2svp",
        "harmose train configs/water.yaml data=water out=runs/water time_limit=20min devices=2",
    )
)
def train(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the file.")
    ] = None,
) -> None:
    """Train a model. The same command continues a training that was stopped.

    If the share of every phase is 0, the model is the regression alone. With init=MODEL the training starts from a model. With
    devices=N the command starts itself N times, once for each GPU, or on the CPU; torchrun and srun may start it as well.
    """
    console = terminal()
    begin: float = context.obj  # before PyTorch was imported, which takes seconds of the time limit
    out = run_training(load_config(config, overrides or []), console, begin)
    if is_first_process():
        console.print(f"model: {out}", markup=False, soft_wrap=True)
