"""`harmose label`: DFT of many structures."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from harmose.cli.options import StructuresArgument, examples, new_app, terminal
from harmose.core.sample import PriorKind
from harmose.errors import LabellingError
from harmose.io.structures import read_structures
from harmose.label import settings_for
from harmose.label.label import label as run_labelling

RUN, MOLECULES, CRYSTALS = "Run", "PySCF (molecules)", "CP2K (crystals)"
"""Headings of the options."""

NOT_SETTINGS = ("structures", "store", "code", "workers", "scheduler", "retry_failed", "skip_bad")
"""Parameters of `label` that are not settings of a DFT code; the others have the names of the settings' fields."""

app = new_app()


@app.command(
    epilog=examples(
        "harmose label water.xyz water --functional pbe --basis def2-svp --workers 2",
        "harmose label graphene.xyz graphene --code cp2k --kmesh 3 3 1",
    )
)
def label(
    context: typer.Context,
    structures: StructuresArgument,
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Store to create or to continue.")],
    code: Annotated[
        Literal["pyscf", "cp2k"], typer.Option(help="DFT code: pyscf for molecules, cp2k for crystals.")
    ] = "pyscf",
    functional: Annotated[
        str | None, typer.Option(help="Functional. B3LYP is b3lypg (VWN3) or b3lyp5 (VWN5).  [default: pbe]")
    ] = None,
    basis: Annotated[
        str | None, typer.Option(help="Basis set of the code.  [default: def2-svp; CP2K: DZVP-MOLOPT-SR-GTH]")
    ] = None,
    max_cycle: Annotated[int | None, typer.Option(help="Maximum number of SCF cycles.  [default: 100]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Number of processes on this machine.  [default: one per core]", rich_help_panel=RUN),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler to use instead of this machine.", rich_help_panel=RUN),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Repeat structures that failed before.", rich_help_panel=RUN)
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out structures that the code cannot calculate, instead of stopping.",
            rich_help_panel=RUN,
        ),
    ] = False,
    grid_level: Annotated[
        int | None, typer.Option(help="Integration grid, 0 to 9.  [default: 3]", rich_help_panel=MOLECULES)
    ] = None,
    convergence: Annotated[
        float | None,
        typer.Option(help="Largest change of the energy in Hartree.  [default: 1e-9]", rich_help_panel=MOLECULES),
    ] = None,
    spin: Annotated[
        Literal["none", "collinear", "spinor"] | None,
        typer.Option(
            help="collinear: unrestricted; `spin` of a structure is its number of unpaired electrons. spinor: spin-orbit "
            "potentials of the basis set, such as crenbl.  [default: none]",
            rich_help_panel=MOLECULES,
        ),
    ] = None,
    density_fit: Annotated[
        bool | None, typer.Option("--density-fit", help="Use density fitting.", rich_help_panel=MOLECULES)
    ] = None,
    prior: Annotated[
        PriorKind | None,
        typer.Option(
            help="H0, which a model may learn H - H0 from. exact: Fock matrix of PySCF's guess minao; spherical: that of spherical "
            "atoms, which a prediction computes in a sixth of the time; tabulated: nearly the same from tables of pairs of atoms, a "
            "tenth of that.  [default: exact]",
            rich_help_panel=MOLECULES,
        ),
    ] = None,
    kmesh: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="N N N", help="Number of k-points along each reciprocal vector.", rich_help_panel=CRYSTALS
        ),
    ] = None,
    k_spacing: Annotated[
        float | None,
        typer.Option(
            help="Distance of k-points in 1/angstrom, without --kmesh.  [default: 0.25]", rich_help_panel=CRYSTALS
        ),
    ] = None,
    potential: Annotated[
        str | None,
        typer.Option(help="Pseudopotentials.  [default: GTH of the functional]", rich_help_panel=CRYSTALS),
    ] = None,
    cutoff: Annotated[
        float | None, typer.Option(help="Plane-wave cutoff in Rydberg.  [default: 320]", rich_help_panel=CRYSTALS)
    ] = None,
    rel_cutoff: Annotated[
        float | None,
        typer.Option(help="Relative cutoff (REL_CUTOFF) in Rydberg.  [default: 40]", rich_help_panel=CRYSTALS),
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
        typer.Option(help="Drop blocks of atoms farther apart, in angstrom.  [default: 9]", rich_help_panel=CRYSTALS),
    ] = None,
    max_dropped: Annotated[
        float | None,
        typer.Option(
            help="Largest element of H, in eV, that --pair-cutoff may drop.  [default: 1e-3]", rich_help_panel=CRYSTALS
        ),
    ] = None,
) -> None:
    """Run DFT (PySCF, CP2K) on structures and store the Hamiltonians.

    The same command continues a run that was stopped. Structures that fail are listed and left out.
    """
    atoms = read_structures(structures)
    options = {k: value for k, value in context.params.items() if value is not None and k not in NOT_SETTINGS}
    settings, console = settings_for(code, options), terminal()
    summary = run_labelling(atoms, store, settings, workers, scheduler, console, retry_failed, skip_bad)
    if summary.failed and not summary.finished + summary.reused:
        raise LabellingError(f"{structures}: none of its {len(summary.failed)} structures could be labelled")
    counts = f"{summary.finished} labelled, {summary.reused} were there before, {len(summary.failed)} failed"
    console.print(f"{store}: {counts}", markup=False, soft_wrap=True)
