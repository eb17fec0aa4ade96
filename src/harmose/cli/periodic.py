"""`harmose bands` and `harmose dos`: of a prediction or of a DFT sample alike, and of one over the other."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harmose.cli.options import ForceOption, about, check_output, new_output, terminal
from harmose.cli.pairs import Pair, fermi_level, samples_of
from harmose.errors import ConfigError, MatrixError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harmose.core.sample import Sample
    from harmose.evaluate.band_metrics import BandErrors
    from harmose.physics.bands import Bands, Gap
    from harmose.physics.dos import DensityOfStates

PICTURES = (".png", ".pdf", ".svg")
LARGE = 6000
"""Orbitals above which all levels take minutes and more: density of states by kernel polynomials."""
BAND_DENSITY = 40.0
"""K-points per 1/angstrom of a path that is drawn."""

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE|MODEL", help="A store, a .npz, the folder of a DFT calculation; or a model.")
]
TargetArgument = Annotated[
    str | None,
    typer.Argument(metavar="SAMPLE|STRUCTURE", help="A sample's name in SOURCE, or a structure file for MODEL."),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(metavar="SOURCE", help="DFT to compare with: anything that holds the same structure."),
]
WindowOption = Annotated[
    tuple[float, float], typer.Option(metavar="LOW HIGH", help="Energies in eV from the Fermi level.")
]
MeshOption = Annotated[
    str | None, typer.Option(metavar="15x15x1", help="k-points for the Fermi level.  [default: by the cell]")
]
ElectronsOption = Annotated[
    float | None, typer.Option(help="ChargeFeatures per cell that the calculation treats, where they are not known.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="A picture (.png, .pdf, .svg), with its numbers beside it as .csv; or a .csv alone."),
]


def bands(
    source: SourceArgument,
    target: TargetArgument = None,
    reference: ReferenceOption = None,
    path: Annotated[
        str | None, typer.Option(metavar="GMKG", help="Special points, a comma for a jump.  [default: the lattice's]")
    ] = None,
    window: WindowOption = (-10.0, 5.0),
    points: Annotated[int | None, typer.Option(help="k-points along the path.  [default: 40 per 1/angstrom]")] = None,
    mesh: MeshOption = None,
    electrons: ElectronsOption = None,
    align: Annotated[
        str, typer.Option(help="Prediction and reference by their `occupied` bands or their `fermi` levels.")
    ] = "occupied",
    around_fermi: Annotated[
        int | None,
        typer.Option(help="Only so many states at each k-point, those nearest the Fermi level: for large cells."),
    ] = None,
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Bands along a path, Fermi level and gap; with a reference their errors and ghost states (docs/metrics.md)."""
    from harmose.evaluate.band_plots import band_structure, check_window
    from harmose.evaluate.band_tables import bands_csv
    from harmose.physics.kpath import kpath
    from harmose.physics.states import parse_mesh

    if align not in ("occupied", "fermi"):
        raise ConfigError(f"--align: expected occupied or fermi, got {align!r}")
    if around_fermi is not None and reference is not None:
        raise ConfigError(
            "--around-fermi: expected no --reference, whose bands are compared one by one from the lowest"
        )
    files = _outputs(out, force)
    size = None if mesh is None else parse_mesh(mesh)
    console = terminal()
    pair = samples_of(source, target, reference)
    with about(pair.sample.name):
        along = kpath(pair.sample.structure, path, points, BAND_DENSITY if points is None else None)
        with console.status(f"{len(along.kpoints)} k-points, {pair.sample.hamiltonian.n_orbitals} orbitals"):
            series = {
                name: _bands(sample, pair, along, size, electrons, around_fermi) for name, sample in pair.named.items()
            }
        first = next(iter(series.values()))
        check_window(first.by_spin - first.known_fermi_level, window)
        compared = _compared(series, window, align) if len(series) == 2 else None
    if compared is not None:
        series[pair.name] = compared.aligned
    console.print(_band_table(series, compared))
    if compared is not None:
        console.print(_comparison(compared, window), soft_wrap=True)
    notes = [f"bands of {pair.sample.name}", *([] if compared is None else [_comparison(compared, window)])]
    ghosts = None if compared is None else compared.ghosts
    _write(files, force, lambda: band_structure(series, window, pair.title, ghosts), bands_csv(series, notes))


def dos(
    source: SourceArgument,
    target: TargetArgument = None,
    reference: ReferenceOption = None,
    by: Annotated[str | None, typer.Option(help="Divide it by `element`, `atom`, `shell` or `l`.")] = None,
    window: WindowOption = (-10.0, 5.0),
    width: Annotated[float, typer.Option(help="Standard deviation of each level's Gaussian in eV.")] = 0.2,
    tetrahedra: Annotated[bool, typer.Option("--tetrahedra", help="Linear tetrahedra instead of Gaussians.")] = False,
    mesh: Annotated[str | None, typer.Option(metavar="15x15x1", help="k-points.  [default: by the cell]")] = None,
    points: Annotated[int | None, typer.Option(help="Number of energies.  [default: 1001, or by --width]")] = None,
    electrons: ElectronsOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"`dense`, or `kpm`: kernel polynomials, at Gamma, in linear time.  [default: kpm above {LARGE} orbitals]"
        ),
    ] = None,
    moments: Annotated[int | None, typer.Option(help="kpm: number of polynomials.  [default: by --width]")] = None,
    vectors: Annotated[int, typer.Option(help="kpm: number of random vectors.")] = 16,
    seed: Annotated[int, typer.Option(help="kpm: of the random vectors.")] = 0,
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Density of states, also projected on elements, atoms or shells; states per eV and cell, without spin of two electrons."""
    from harmose.evaluate.band_plots import density_of_states
    from harmose.evaluate.band_tables import dos_csv
    from harmose.physics.states import parse_mesh

    files = _outputs(out, force)
    size = None if mesh is None else parse_mesh(mesh)
    console = terminal()
    pair = samples_of(source, target, reference)
    shape = None if tetrahedra else width
    n_orbitals = pair.sample.hamiltonian.n_orbitals
    polynomials = _is_kpm(method, n_orbitals, {"--by": by, "--tetrahedra": tetrahedra or None, "--mesh": mesh})
    if polynomials and method is None:
        console.print(f"{n_orbitals} orbitals: kernel polynomials at Gamma (--method dense solves for all levels)")
    with about(pair.sample.name), console.status(f"{n_orbitals} orbitals"):
        if polynomials:
            series = {
                name: _kpm(sample, pair, electrons, window, width, points, moments, vectors, seed, console.print)
                for name, sample in pair.named.items()
            }
        else:
            series = {
                name: _dos(sample, pair, size, electrons, window, shape, by, points)
                for name, sample in pair.named.items()
            }
        if not any(density.total.any() for density in series.values()):
            raise ConfigError(f"window: there are no states from {window[0]:g} to {window[1]:g} eV")
    console.print(_dos_table(series))
    notes = [
        f"density of states of {pair.sample.name}",
        "states per eV and cell; without spin each holds two electrons",
    ]
    _write(files, force, lambda: density_of_states(series, pair.title), dos_csv(series, notes))


def _bands(
    sample: "Sample", pair: Pair, along: Any, mesh: Any, electrons: float | None, nearest: int | None
) -> "Bands":
    from harmose.physics.bands import bands as solved

    level = fermi_level(sample, pair, mesh, electrons)
    h, s = sample.hamiltonian, sample.overlap
    return solved(h, s, along, pair.sample.structure, mesh=mesh, nearest=nearest, **level)  # type: ignore[arg-type]


def _dos(
    sample: "Sample",
    pair: Pair,
    mesh: Any,
    electrons: float | None,
    window: tuple[float, float],
    width: float | None,
    by: str | None,
    points: int | None,
) -> "DensityOfStates":
    from harmose.physics.dos import dos as solved

    level = fermi_level(sample, pair, mesh, electrons)
    if level.get("n_electrons", 0) is None:
        raise MatrixError("neither the Fermi level nor the number of electrons is known; give --electrons")
    h, s = sample.hamiltonian, sample.overlap
    return solved(h, s, pair.sample.structure, mesh, window=window, width=width, by=by, points=points, **level)  # type: ignore[arg-type]


def _is_kpm(method: str | None, n_orbitals: int, dense_only: Mapping[str, Any]) -> bool:
    """Whether to use kernel polynomials; `ConfigError` for a method that is none, or has not got an option."""
    if method not in (None, "dense", "kpm"):
        raise ConfigError(f"--method: expected dense or kpm, got {method!r}")
    asked = [name for name, value in dense_only.items() if value is not None]
    if method == "kpm" and asked:
        raise ConfigError(f"{asked[0]}: expected --method dense, got kpm")
    return method == "kpm" or (method is None and not asked and n_orbitals > LARGE)


def _kpm(
    sample: "Sample",
    pair: Pair,
    electrons: float | None,
    window: tuple[float, float],
    width: float,
    points: int | None,
    moments: int | None,
    vectors: int,
    seed: int,
    say: Any,
) -> "DensityOfStates":
    from harmose.physics.sparse.kpm import kpm

    level = fermi_level(sample, pair, None, electrons)
    structure = pair.sample.structure
    found = kpm(
        sample.hamiltonian,
        sample.overlap,
        structure,
        window,
        width,
        n_moments=moments,
        n_vectors=vectors,
        seed=seed,
        **level,  # type: ignore[arg-type]
    )
    density, error = found.dos(window, points or 1001)
    mean = float(density.total.mean())
    relative = float(error.mean()) / mean if mean else 0.0
    total, expected = sum(m.found[0] for m in found.moments), sum(m.n_states for m in found.moments)
    uncertain = "" if found.fermi_error is None else f"; Fermi level within {found.fermi_error:.3f} eV"
    say(
        f"{found.moments[0].values.shape[1]} moments, {vectors} vectors: standard error {100 * relative:.1f} % of the density; "
        f"{total:.1f} states of {expected}{uncertain}",
        soft_wrap=True,
    )
    return density


def _compared(series: "Mapping[str, Bands]", window: tuple[float, float], align: str) -> "BandErrors":
    from harmose.evaluate.band_metrics import compare_bands, fermi_shift

    dft, predicted = series.values()
    shift = fermi_shift(predicted, dft) if align == "fermi" else None
    return compare_bands(predicted, dft, window, shift=shift)


def _comparison(found: "BandErrors", window: tuple[float, float]) -> str:
    from harmose.evaluate.band_metrics import TOLERANCE

    error = f"mean absolute error {1e3 * (found.mae or 0.0):.3f} meV of {found.n_states} states"
    ghosts = f"{found.ghost_states or 'no'} ghost state{'' if found.ghost_states == 1 else 's'}"
    return (
        f"{window[0]:g} to {window[1]:g} eV from the Fermi level: {error}; {ghosts} (without a DFT state within "
        f"{TOLERANCE:g} eV); the prediction moved by {found.shift:+.6f} eV"
    )


def _band_table(series: "Mapping[str, Bands]", compared: "BandErrors | None"):
    from rich.table import Table

    table = Table("", *series)
    for column in table.columns[1:]:
        column.justify = "right"
    unshifted = dict.fromkeys(series, 0.0)
    if compared is not None:
        unshifted[list(series)[-1]] = compared.shift
    levels = {name: bands.fermi_level for name, bands in series.items()}
    gaps = {name: None if bands.fermi_level is None else bands.gap for name, bands in series.items()}
    table.add_row("Fermi level (eV)", *(_number(level, -unshifted[name]) for name, level in levels.items()))
    table.add_row("gap on the path (eV)", *(_gap_text(gap) for gap in gaps.values()))
    table.add_row("smallest direct gap (eV)", *("" if gap is None else f"{gap.direct:.4f}" for gap in gaps.values()))
    return table


def _number(level: float | None, by: float) -> str:
    return "" if level is None else f"{level + by:.6f}"


def _gap_text(gap: "Gap | None") -> str:
    if gap is None:
        return ""
    if gap.is_metal:
        return "0 (metal)"
    return f"{gap.indirect:.4f} ({'direct' if gap.is_direct else 'indirect'})"


def _dos_table(series: "Mapping[str, DensityOfStates]"):
    import numpy as np
    from rich.table import Table

    table = Table("", *series)
    for column in table.columns[1:]:
        column.justify = "right"
    rows: dict[str, list[str]] = {"Fermi level (eV)": [], "at the Fermi level (1/eV)": []}
    for density in series.values():
        rows["Fermi level (eV)"].append(_number(density.fermi_level, 0.0))
        total = np.atleast_2d(density.total).sum(axis=0)
        inside = density.relative[0] <= 0 <= density.relative[-1]
        at = float(np.interp(0.0, density.relative, total))
        rows["at the Fermi level (1/eV)"].append(f"{at:.4f}" if inside else "")
        for label, part in {"states in the window": density.total, **density.projections}.items():
            held = float(np.trapezoid(np.atleast_2d(part).sum(axis=0), density.energies))
            rows.setdefault(label, []).append(f"{held:.4f}")
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _outputs(out: Path | None, force: bool) -> tuple[Path, ...]:
    """The files to write, refused before any work is done for them."""
    if out is None:
        return ()
    suffix = out.suffix.lower()
    if suffix not in (*PICTURES, ".csv"):
        raise ConfigError(f"--out: expected a file {', '.join(PICTURES)} or .csv, got {str(out)!r}")
    files = (out,) if suffix == ".csv" else (out, out.with_suffix(".csv"))
    for file in files:
        check_output(file, force)
    return files


def _write(files: Sequence[Path], force: bool, figure: Any, table: str) -> None:
    """All files or none."""
    with ExitStack() as stack:
        for file in files:
            hidden = stack.enter_context(new_output(file, force))
            if file.suffix == ".csv":
                hidden.write_text(table, encoding="utf-8")
            else:
                drawn: Figure = figure()
                drawn.savefig(hidden, dpi=200)
    for file in files:
        terminal().print(f"{file}", markup=False, soft_wrap=True)
