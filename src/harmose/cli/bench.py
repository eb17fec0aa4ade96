"""`harmose bench`: speed and memory, beside the alternatives that pip installs."""

from pathlib import Path
from typing import Annotated

import typer

from harmose.cli.options import terminal


def bench(
    out: Annotated[Path, typer.Option(help="Folder for bench.md, bench.json and the pictures.")] = Path(
        "harmose-bench"
    ),
    into: Annotated[
        Path | None,
        typer.Option(help="A Markdown page whose part between two comments becomes the tables and pictures."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One molecule, three repeats: whether it runs at all.")
    ] = False,
    systems: Annotated[
        list[str] | None,
        typer.Option(help="Instead of the usual ones: water-N, ethanol, butane, graphene-NxN, bilayer-M (twisted)."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="In place of the shipped ones, for all systems.")] = None,
    against: Annotated[str, typer.Option(help="`e3nn`, `e3nn,deeptb`, or `none`.")] = "e3nn",
    deeptb_python: Annotated[
        Path | None, typer.Option(help="The interpreter of an environment with DeePTB (benchmarks/deeptb.sh).")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Of torch.")] = 1,
    device: Annotated[str, typer.Option(help="`cpu`, `cuda`, or `auto`.")] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many of each.")] = 20,
    seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="No repeat begins after so long.")] = 2.0,
    kernels: Annotated[
        bool | None,
        typer.Option("--kernels/--no-kernels", help="Each product of matrices against the machine's limits."),
    ] = None,
    memory: Annotated[bool | None, typer.Option("--memory/--no-memory", help="Peaks of fresh processes.")] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Training steps compiled as well: minutes for each system.")
    ] = False,
) -> None:
    """Time training steps, predictions and their parts, loading, starting, memory; write tables and pictures.

    Everything is made here: no store is needed. Labels are the models' own predictions, since what is learned does not matter.
    """
    import torch

    from harmose.bench.report import insert, parted
    from harmose.bench.run import run
    from harmose.bench.settings import BenchSettings
    from harmose.bench.timing import Patience
    from harmose.errors import ConfigError

    if device not in ("cpu", "cuda", "auto"):
        raise ConfigError(f"--device: expected cpu, cuda or auto, got {device!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    usual = BenchSettings.quick() if quick else BenchSettings(patience=Patience(repeats, seconds))
    settings = BenchSettings(
        systems=tuple(systems) if systems else usual.systems,
        threads=threads,
        device=device,
        patience=usual.patience,
        against=() if against == "none" else tuple(against.split(",")),
        deeptb_python=deeptb_python,
        model=model,
        kernels=usual.kernels if kernels is None else kernels,
        memory=usual.memory if memory is None else memory,
        compile=compile,
        starts=usual.starts,
    )
    if into is not None:
        parted(into)  # a page that cannot take them is refused now
    console = terminal()
    found = run(settings, out, console)
    if into is not None:
        insert(found, into)
    console.print(f"{found}", markup=False, soft_wrap=True)
