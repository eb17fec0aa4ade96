"""`harmose scf`: PySCF started from its own guesses and from a prediction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table

from harmose.cli.inputs import one_structure
from harmose.cli.options import ModelArgument, StructureArgument, error_prefix, examples, new_app, table, terminal
from harmose.errors import ConfigError, LabellingError
from harmose.inference import checkpoint
from harmose.scf.initial_guess import GUESSES, ScfRun, compare_guesses, model_settings

app = new_app()


@app.command(
    epilog=examples("harmose scf runs/water new.xyz", "harmose scf runs/water new.xyz --guesses all --no-diis")
)
def scf(
    model: ModelArgument,
    structure: StructureArgument,
    guesses: Annotated[
        str,
        typer.Option(
            help="Guesses of PySCF to compare with, separated by commas (minao, atom, huckel, ..., 1e), or all."
        ),
    ] = "minao",
    no_diis: Annotated[bool, typer.Option("--no-diis", help="Use damped iteration instead of DIIS.")] = False,
    damping: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="With --no-diis: weight of the previous F. 0 diverges for most molecules."),
    ] = 0.5,
    convergence: Annotated[float, typer.Option(help="Largest change of the energy in Hartree.")] = 1e-9,
    max_cycle: Annotated[int, typer.Option(min=1, help="Maximum number of SCF cycles.")] = 100,
) -> None:
    """Converge PySCF from its own guesses and from the prediction, and print the cycles and the time that the prediction saves.

    Processor time is that of the SCF, and of the prediction where it starts from it.
    """
    names = _names(guesses)
    atoms = one_structure(structure)
    loaded = checkpoint.load(model)
    with error_prefix(atoms.info["source"]):
        settings = replace(model_settings(loaded), convergence=convergence, max_cycle=max_cycle)
        runs = compare_guesses(loaded, atoms, names, settings, damping if no_diis else None)
        if not any(run.converged for run in runs):
            raise LabellingError(f"not converged from any guess in {max_cycle} cycles")
    console = terminal()
    console.print(_table(runs))
    console.print(_summary(runs))


def _names(guesses: str) -> list[str]:
    names = list(GUESSES) if guesses == "all" else [name.strip() for name in guesses.split(",") if name.strip()]
    for name in names:
        if name not in GUESSES:
            raise ConfigError(f"--guesses: expected names among {', '.join(GUESSES)}, got {name!r}")
    return ["minao", *(name for name in names if name != "minao")]


def _table(runs: Sequence[ScfRun]) -> Table:
    prediction, *others = runs
    made = table("guess", "SCF cycles", "processor time (s)", "energy (Ha)")
    for run in (*others, prediction):
        cycles = str(run.cycles) if run.converged else f"not in {run.cycles}"
        name = f"{run.guess} (refused: minao)" if run.refused else run.guess
        made.add_row(name, cycles, f"{run.seconds:.2f}", f"{run.energy:.10f}" if run.converged else "")
    return made


def _summary(runs: Sequence[ScfRun]) -> str:
    prediction, minao = runs[:2]
    if not (prediction.converged and minao.converged):
        return ""
    saved, energies = minao.cycles - prediction.cycles, [run.energy for run in runs if run.converged]
    time = minao.seconds - prediction.seconds
    worth = f"{time:.2f} s of {minao.seconds:.2f} saved" if time > 0 else f"no time saved: {-time:.2f} s more"
    return f"{saved} cycles saved, {worth}; the energies differ by {max(energies) - min(energies):.1e} Ha"
