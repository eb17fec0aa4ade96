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


MOLECULES, CRYSTALS = "PySCF (molecules)", "CP2K (crystals)"
"""Headings of the options that only one code has."""


ENGINE = ("structures", "store", "code", "workers", "scheduler", "retry_failed", "skip_bad")
"""Parameters of `label` that are not settings of a code; the others have the names of its settings' fields."""


def label(
    context: typer.Context,
    structures: Annotated[
        Path, typer.Argument(metavar="STRUCTURES", help="A file that ASE reads, or a folder of them.")
    ],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store to begin or to continue.")],
    code: Annotated[str, typer.Option(help="`pyscf` for molecules, `cp2k` for crystals.")] = "pyscf",
    functional: Annotated[
        str | None, typer.Option(help="B3LYP is `b3lypg` (VWN3) or `b3lyp5` (VWN5).  [default: pbe]")
    ] = None,
    basis: Annotated[
        str | None, typer.Option(help="The code's name of it.  [default: def2-svp; CP2K: DZVP-MOLOPT-SR-GTH]")
    ] = None,
    max_cycle: Annotated[
        int | None, typer.Option(help="SCF cycles before a structure counts as failed.  [default: 100]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine.  [default: one per core]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to use instead.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what the code cannot take, instead of stopping.")
    ] = False,
    grid_level: Annotated[
        int | None, typer.Option(help="PySCF's grid, 0 to 9.  [default: 3]", rich_help_panel=MOLECULES)
    ] = None,
    convergence: Annotated[
        float | None,
        typer.Option(help="Change of the energy in Hartree.  [default: 1e-9]", rich_help_panel=MOLECULES),
    ] = None,
    spin: Annotated[
        str | None,
        typer.Option(
            help="none, collinear (unpaired electrons: `spin` of each structure) or spinor (spin-orbit potentials of the "
            "basis, such as crenbl).  [default: none]",
            rich_help_panel=MOLECULES,
        ),
    ] = None,
    density_fit: Annotated[
        bool | None, typer.Option("--density-fit", help="Density fitting.", rich_help_panel=MOLECULES)
    ] = None,
    kmesh: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="N N N", help="k-points along each reciprocal vector.", rich_help_panel=CRYSTALS),
    ] = None,
    k_spacing: Annotated[
        float | None,
        typer.Option(help="Without --kmesh: their distance in 1/angstrom.  [default: 0.25]", rich_help_panel=CRYSTALS),
    ] = None,
    potential: Annotated[
        str | None,
        typer.Option(help="Pseudopotentials.  [default: GTH of the functional]", rich_help_panel=CRYSTALS),
    ] = None,
    cutoff: Annotated[
        float | None, typer.Option(help="Plane waves, in Rydberg.  [default: 320]", rich_help_panel=CRYSTALS)
    ] = None,
    rel_cutoff: Annotated[
        float | None, typer.Option(help="Of the grid levels, in Rydberg.  [default: 40]", rich_help_panel=CRYSTALS)
    ] = None,
    smearing: Annotated[
        float | None, typer.Option(help="Electronic temperature in K.  [default: 300]", rich_help_panel=CRYSTALS)
    ] = None,
    eps_default: Annotated[
        float | None, typer.Option(help="Precision of integrals.  [default: 1e-10]", rich_help_panel=CRYSTALS)
    ] = None,
    eps_scf: Annotated[
        float | None, typer.Option(help="Convergence of the density.  [default: 1e-6]", rich_help_panel=CRYSTALS)
    ] = None,
    pair_cutoff: Annotated[
        float | None,
        typer.Option(help="Drop blocks of atoms further apart, in angstrom.  [default: 9]", rich_help_panel=CRYSTALS),
    ] = None,
    max_dropped: Annotated[
        float | None,
        typer.Option(help="Largest element of H that it may drop, in eV.  [default: 1e-3]", rich_help_panel=CRYSTALS),
    ] = None,
) -> None:
    """Run DFT (PySCF, CP2K) on structures and store the Hamiltonians.

    May be stopped at any time: run again, it goes on with what is missing. Structures that fail are listed and kept
    out.
    """
    from harmose.errors import LabellingError
    from harmose.io.structures import read_structures

    found = read_structures(structures)
    from harmose.label import settings_for
    from harmose.label.label import label as run

    given = {name: value for name, value in context.params.items() if value is not None and name not in ENGINE}
    settings = settings_for(code, given)
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
    from harmose.train.config import load_config

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
