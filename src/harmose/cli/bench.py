"""`harmose bench`: speed and memory on this machine."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from harmose.bench.run import run
from harmose.bench.settings import BenchmarkLimits, BenchSettings
from harmose.cli.options import examples, new_app, terminal

app = new_app()


@app.command(epilog=examples("harmose bench --quick", "harmose bench --out bench", "harmose bench --systems bilayer-9"))
def bench(
    out: Annotated[Path, typer.Option(help="Folder for bench.md, bench.json and the figures.")] = Path("harmose-bench"),
    quick: Annotated[
        bool, typer.Option("--quick", help="One molecule and three repeats, to see that it works.")
    ] = False,
    systems: Annotated[
        list[str] | None,
        typer.Option(
            help="Systems: water-N, ethanol, butane, graphene-NxN, bilayer-M (twisted).  [default: nine of them]"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model for all systems.  [default: shipped models]")] = None,
    against: Annotated[
        Literal["none", "e3nn"], typer.Option(help="Also time stage 1 written with e3nn, which must be installed.")
    ] = "none",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Number of threads of PyTorch.")] = 1,
    device: Annotated[
        Literal["cpu", "cuda", "auto"], typer.Option(help="Device; auto: a GPU if there is one.")
    ] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, max=100_000, help="Most repeats of each measurement.")] = 20,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Time after which a measurement is not repeated again.")
    ] = 2.0,
    memory: Annotated[
        bool | None, typer.Option("--memory/--no-memory", help="Measure peak memory in new processes.")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Also time compiled training steps: minutes for each system.")
    ] = False,
) -> None:
    """Time training steps, predictions and their parts, loading and start-up; measure memory; write tables and figures.

    No store is needed. Labels are predictions of the models, since times do not depend on what is learned.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    default = BenchSettings.quick() if quick else BenchSettings(limits=BenchmarkLimits(repeats, seconds))
    settings = BenchSettings(
        systems=tuple(systems) if systems else default.systems,
        threads=threads,
        device=device,
        limits=default.limits,
        against=() if against == "none" else (against,),
        model=model,
        memory=default.memory if memory is None else memory,
        compile=compile,
        starts=default.starts,
    )
    console = terminal()
    console.print(f"{run(settings, out, console)}", markup=False, soft_wrap=True)
