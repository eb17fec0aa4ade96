"""`harmose dos`: density of states of a prediction or of a DFT sample, or of one over the other."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from harmose.cli.basis_option import BasisOption
from harmose.cli.figures import OutOption, WindowOption, energy_text, output_files, write_files
from harmose.cli.options import (
    ElectronsOption,
    ForceOption,
    ReferenceOption,
    SourceArgument,
    TargetArgument,
    error_prefix,
    examples,
    new_app,
    table,
    terminal,
)
from harmose.cli.predictions import read_or_predict
from harmose.core.sample import Sample
from harmose.errors import ConfigError, MatrixError
from harmose.evaluate.band_plots import density_of_states
from harmose.evaluate.band_tables import dos_csv
from harmose.evaluate.comparison import Comparison
from harmose.physics.density_of_states import DensityOfStates
from harmose.physics.dos import DENSE_ORBITALS, POINTS, DosSettings, uses_kpm
from harmose.physics.dos import dos as compute_dos
from harmose.physics.sparse.kpm import KpmSettings, kpm
from harmose.physics.states import parse_mesh

KPM = "Kernel polynomial method (--method kpm)"
"""Heading of the options of one method."""

app = new_app()


@app.command(
    epilog=examples(
        "harmose dos graphene pristine_1x1 --by l --window -20 10 --out dos.png",
        "harmose dos runs/graphene new.cif --reference graphene --out dos.png",
    )
)
def dos(
    source: SourceArgument,
    target: TargetArgument = None,
    reference: ReferenceOption = None,
    by: Annotated[
        Literal["element", "atom", "shell", "l"] | None,
        typer.Option(help="Also project the density of states on these."),
    ] = None,
    window: WindowOption = (-10.0, 5.0),
    width: Annotated[float, typer.Option(help="Standard deviation in eV of the Gaussian of each state.")] = 0.2,
    tetrahedra: Annotated[bool, typer.Option("--tetrahedra", help="Linear tetrahedra instead of Gaussians.")] = False,
    mesh: Annotated[str | None, typer.Option(metavar="15x15x1", help="k-points.  [default: from the cell]")] = None,
    points: Annotated[int | None, typer.Option(help="Number of energies.  [default: 1001, or from --width]")] = None,
    electrons: ElectronsOption = None,
    basis: BasisOption = None,
    method: Annotated[
        Literal["dense", "kpm"] | None,
        typer.Option(
            help="`dense`: all states. `kpm`: kernel polynomials at Gamma, in linear time.  "
            f"[default: kpm above {DENSE_ORBITALS} orbitals]"
        ),
    ] = None,
    moments: Annotated[
        int | None, typer.Option(help="Number of polynomials.  [default: from --width]", rich_help_panel=KPM)
    ] = None,
    vectors: Annotated[int, typer.Option(help="Number of random vectors.", rich_help_panel=KPM)] = 16,
    seed: Annotated[int, typer.Option(help="Random seed for the stochastic trace.", rich_help_panel=KPM)] = 0,
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Print and draw the density of states, in states per eV and cell.

    Both spins are counted if the calculation is spin-polarized; otherwise each state holds two electrons.
    """
    files = output_files(out, force)
    dense_only = {"--by": by is not None, "--tetrahedra": tetrahedra, "--mesh": mesh is not None}
    if method == "kpm" and any(dense_only.values()):
        raise ConfigError(f"{max(dense_only, key=dense_only.__getitem__)}: expected --method dense, got kpm")
    kpm_settings = KpmSettings(moments, vectors, seed)
    size = None if mesh is None else parse_mesh(mesh)
    console = terminal()
    comparison = read_or_predict(source, target, reference, console, basis)
    n_orbitals = comparison.sample.hamiltonian.n_orbitals
    with error_prefix(comparison.sample.name):
        broadening = None if tetrahedra else width
        settings = DosSettings(window, broadening, by, points, method=method or "auto", kpm=kpm_settings)
    polynomials = uses_kpm(n_orbitals, size, settings)
    if polynomials and method is None:
        console.print(f"{n_orbitals} orbitals: kernel polynomials at Gamma (--method dense computes all states)")

    def compute(sample: Sample) -> DensityOfStates:
        if polynomials:
            return _kpm(sample, comparison, electrons, window, width, settings, console)
        filling = comparison.filling(sample, size, electrons)
        if filling.get("n_electrons", 0) is None:
            raise MatrixError("neither the Fermi level nor the number of electrons is known; give --electrons")
        h, s, structure = sample.hamiltonian, sample.overlap, comparison.sample.structure
        return compute_dos(h, s, structure, size, settings=settings, predicted=sample.is_prediction, **filling)

    with error_prefix(comparison.sample.name), console.status(f"{n_orbitals} orbitals"):
        series = {name: compute(sample) for name, sample in comparison.samples.items()}
        if not any(density.total.any() for density in series.values()):
            raise ConfigError(f"window: there are no states from {window[0]:g} to {window[1]:g} eV")
    console.print(_table(series))
    notes = [
        f"density of states of {comparison.sample.name}",
        "states per eV and cell; without spin each holds two electrons",
    ]
    write_files(files, force, lambda: density_of_states(series, comparison.title), dos_csv(series, notes))


def _kpm(
    sample: Sample,
    comparison: Comparison,
    electrons: float | None,
    window: tuple[float, float],
    width: float,
    settings: DosSettings,
    console: Console,
) -> DensityOfStates:
    """Return the density of states by kernel polynomials, and print its statistical error."""
    structure, filling = comparison.sample.structure, comparison.filling(sample, None, electrons)
    polynomials = kpm(sample.hamiltonian, sample.overlap, structure, window, width, settings=settings.kpm, **filling)
    density, error = polynomials.dos(window, settings.points or POINTS)
    mean = float(density.total.mean())
    relative = float(error.mean()) / mean if mean else 0.0
    counted = sum(m.counted_states[0] for m in polynomials.moments)
    expected = sum(m.n_states for m in polynomials.moments)
    uncertain = "" if polynomials.fermi_error is None else f"; Fermi level within {polynomials.fermi_error:.3f} eV"
    console.print(
        f"{polynomials.moments[0].values.shape[1]} moments, {settings.kpm.n_vectors} vectors: standard error "
        f"{100 * relative:.1f} % of the density; {counted:.1f} states of {expected}{uncertain}",
        soft_wrap=True,
    )
    return density


def _table(series: Mapping[str, DensityOfStates]) -> Table:
    rows: dict[str, list[str]] = {"Fermi level (eV)": [], "at the Fermi level (1/eV)": []}
    for density in series.values():
        rows["Fermi level (eV)"].append(energy_text(density.fermi_level))
        total = np.atleast_2d(density.total).sum(axis=0)
        inside = density.relative[0] <= 0 <= density.relative[-1]
        at_fermi_level = float(np.interp(0.0, density.relative, total))
        rows["at the Fermi level (1/eV)"].append(f"{at_fermi_level:.4f}" if inside else "")
        for label, part in {"states in the window": density.total, **density.projections}.items():
            n_states = float(np.trapezoid(np.atleast_2d(part).sum(axis=0), density.energies))
            rows.setdefault(label, []).append(f"{n_states:.4f}")
    made = table("", *series)
    for label, cells in rows.items():
        made.add_row(label, *cells)
    return made
