"""Commands that take long: demo, label, train; and version."""

from pathlib import Path
from typing import Annotated

import typer

from harmose.cli.options import terminal


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the data, the model and the report.")] = Path("harmose-demo"),
) -> None:
    """Real DFT, training of both stages, tables, a prediction and a report, in minutes on two cores."""
    from harmose.demo import run

    run(out, terminal())


def label(
    structures: Annotated[
        Path, typer.Argument(metavar="STRUCTURES", help="A file that ASE reads, or a folder of them.")
    ],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store to begin or to continue.")],
    functional: Annotated[str, typer.Option(help="PySCF's name; B3LYP is `b3lypg` (VWN3) or `b3lyp5` (VWN5).")] = "pbe",
    basis: Annotated[str, typer.Option(help="PySCF's name of a basis set.")] = "def2-svp",
    grid_level: Annotated[int, typer.Option(help="PySCF's grid, 0 to 9.")] = 3,
    convergence: Annotated[float, typer.Option(help="Change of the energy in Hartree.")] = 1e-9,
    max_cycle: Annotated[int, typer.Option(help="SCF cycles before a structure counts as failed.")] = 100,
    density_fit: Annotated[bool, typer.Option("--density-fit", help="Density fitting.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine.  [default: one per core]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to use instead.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what PySCF cannot take, instead of stopping.")
    ] = False,
) -> None:
    """Run DFT (PySCF) on structures and store the Hamiltonians.

    May be stopped at any time: run again, it goes on with what is missing. Structures that fail are listed and kept
    out.
    """
    from harmose.errors import LabellingError
    from harmose.io.structures import read_structures

    found = read_structures(structures)
    from harmose.labelling import PySCFSettings
    from harmose.labelling import label as run

    settings = PySCFSettings(
        functional=functional,
        basis=basis,
        grid_level=grid_level,
        convergence=convergence,
        max_cycle=max_cycle,
        density_fit=density_fit,
    )
    console = terminal()
    summary = run(found, store, settings, workers, scheduler, console, retry_failed, skip_bad)
    if summary.failed and not summary.finished + summary.reused:
        raise LabellingError(f"{structures}: none of its {len(summary.failed)} structures could be labelled")
    done = f"{summary.finished} labelled, {summary.reused} were there before, {len(summary.failed)} failed"
    console.print(f"{store}: {done}", markup=False, soft_wrap=True)


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Instead of the file's.")] = None,
) -> None:
    """Train both stages; run again with the same `out`, it goes on where it stopped."""
    import time

    begin = time.monotonic()  # a time limit counts from here: importing PyTorch takes seconds
    from harmose.config import load_config

    chosen = load_config(config, overrides or [])
    from harmose.train.engine import train as run

    console = terminal()
    out = run(chosen, console, begin)
    console.print(f"model: {out}", markup=False, soft_wrap=True)


def version() -> None:
    """Versions of harmose and of what decides its numbers and speed."""
    import platform
    from importlib import metadata

    import harmose

    packages = ("torch", "numpy", "scipy", "pyscf", "e3nn", "ase", "lmdb", "safetensors", "vesin", "lightning-fabric")
    rows = {"harmose": harmose.__version__, "python": platform.python_version(), "platform": platform.machine()}
    for package in packages:
        try:
            rows[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            rows[package] = "not installed"
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
