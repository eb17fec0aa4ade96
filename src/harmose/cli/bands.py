"""`harmose bands`: bands of a prediction or of a DFT sample, or of one over the other."""

from collections.abc import Mapping
from typing import Annotated, Literal

import typer
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
from harmose.errors import ConfigError
from harmose.evaluate.band_metrics import GHOST_DISTANCE, BandErrors, compare_bands, fermi_shift
from harmose.evaluate.band_plots import band_structure, check_window
from harmose.evaluate.band_tables import bands_csv
from harmose.physics.bands import Bands, Gap
from harmose.physics.bands import bands as compute_bands
from harmose.physics.kpath import kpath
from harmose.physics.states import parse_mesh

BAND_DENSITY = 40.0
"""Number of k-points per 1/angstrom of a path that is drawn."""

app = new_app()


@app.command(
    epilog=examples(
        "harmose bands graphene pristine_1x1 --path GMKG --window -20 10 --out bands.png",
        "harmose bands runs/graphene new.cif --reference graphene --out bands.png",
    )
)
def bands(
    source: SourceArgument,
    target: TargetArgument = None,
    reference: ReferenceOption = None,
    path: Annotated[
        str | None,
        typer.Option(
            metavar="GMKG", help="Special points of the path; a comma for a jump.  [default: the lattice's path]"
        ),
    ] = None,
    window: WindowOption = (-10.0, 5.0),
    points: Annotated[int | None, typer.Option(help="Number of k-points.  [default: 40 per 1/angstrom]")] = None,
    mesh: Annotated[
        str | None, typer.Option(metavar="15x15x1", help="k-points for the Fermi level.  [default: from the cell]")
    ] = None,
    electrons: ElectronsOption = None,
    basis: BasisOption = None,
    align: Annotated[
        Literal["occupied", "fermi"],
        typer.Option(help="Align the prediction with the reference by the occupied bands or by the Fermi levels."),
    ] = "occupied",
    around_fermi: Annotated[
        int | None,
        typer.Option(help="Compute only this many states at each k-point, nearest the Fermi level. For large cells."),
    ] = None,
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Print and draw bands along a path, with Fermi level and gap; with errors and ghost states if a reference is
    given.

    docs/metrics.md defines the errors.
    """
    if around_fermi is not None and reference is not None:
        raise ConfigError(
            "--around-fermi: expected no --reference, whose bands are compared one by one from the lowest"
        )
    files = output_files(out, force)
    size = None if mesh is None else parse_mesh(mesh)
    console = terminal()
    comparison = read_or_predict(source, target, reference, console, basis)
    structure, errors = comparison.sample.structure, None
    with error_prefix(comparison.sample.name):
        along = kpath(structure, path, points, BAND_DENSITY if points is None else None)
        with console.status(f"{len(along.kpoints)} k-points, {comparison.sample.hamiltonian.n_orbitals} orbitals"):
            series = {
                name: compute_bands(
                    sample.hamiltonian,
                    sample.overlap,
                    along,
                    structure,
                    mesh=size,
                    nearest=around_fermi,
                    predicted=sample.is_prediction,
                    **comparison.filling(sample, size, electrons),
                )
                for name, sample in comparison.samples.items()
            }
        first = next(iter(series.values()))
        check_window(first.by_spin - first.required_fermi_level, window)
        if len(series) == 2:
            dft, predicted = series.values()
            shift = fermi_shift(predicted, dft) if align == "fermi" else None
            errors = compare_bands(predicted, dft, window, shift=shift)
    console.print(_table(series))
    notes = [f"bands of {comparison.sample.name}"]
    if errors is not None:
        notes.append(_summary(errors, window))
        console.print(notes[-1], soft_wrap=True)
        series[comparison.name] = errors.aligned
    ghosts = None if errors is None else errors.ghosts
    write_files(
        files, force, lambda: band_structure(series, window, comparison.title, ghosts), bands_csv(series, notes)
    )


def _summary(errors: BandErrors, window: tuple[float, float]) -> str:
    error = f"mean absolute error {1e3 * (errors.mae or 0.0):.3f} meV of {errors.n_states} states"
    ghosts = f"{errors.ghost_states or 'no'} ghost state{'' if errors.ghost_states == 1 else 's'}"
    return (
        f"{window[0]:g} to {window[1]:g} eV from the Fermi level: {error}; {ghosts} (without a DFT state within "
        f"{GHOST_DISTANCE:g} eV); the prediction moved by {errors.shift:+.6f} eV{_splittings(errors)}"
    )


def _splittings(errors: BandErrors) -> str:
    split = errors.splittings
    if split is None:
        return ""
    return (
        f"; spin-orbit splittings: mean absolute error {1e3 * split.mae:.3f} meV, {100 * split.relative:.2f} % of their mean, "
        f"{1e3 * split.size:.1f} meV; largest error {1e3 * split.worst:.3f} meV"
    )


def _table(series: Mapping[str, Bands]) -> Table:
    made = table("", *series)
    gaps = [None if bands.fermi_level is None else bands.gap for bands in series.values()]
    made.add_row("Fermi level (eV)", *(energy_text(bands.fermi_level) for bands in series.values()))
    made.add_row("gap on the path (eV)", *map(_gap_text, gaps))
    made.add_row("smallest direct gap (eV)", *("" if gap is None else f"{gap.direct:.4f}" for gap in gaps))
    return made


def _gap_text(gap: Gap | None) -> str:
    if gap is None:
        return ""
    if gap.is_metal:
        return "0 (metal)"
    return f"{gap.indirect:.4f} ({'direct' if gap.is_direct else 'indirect'})"
