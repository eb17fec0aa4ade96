"""`harmose orbitals`: orbital energies of a prediction or of a stored sample; frontier orbitals of many predictions."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from harmose.cli.basis_option import BasisOption, with_functions, with_overlap
from harmose.cli.options import (
    ElectronsOption,
    ReferenceOption,
    SourceArgument,
    examples,
    new_app,
    progress,
    table,
    terminal,
)
from harmose.cli.predictions import Predictor, find_reference, is_model
from harmose.core.sample import Sample
from harmose.errors import ConfigError, MatrixError
from harmose.evaluate.comparison import Comparison
from harmose.inference import checkpoint
from harmose.io.files import read
from harmose.io.structures import read_structures
from harmose.physics.eigen import MolecularOrbitals, frontier, overlap_at_gamma, spin_orbitals
from harmose.physics.ghosts import molecular_ghosts, on_site_of, warn_of_ghosts
from harmose.uncertainty.prediction import BoundedEnergy, Uncertainty

SHOWN_ORBITALS = 8
"""Number of orbitals on each side of the gap that are shown without --all."""

app = new_app()


@app.command(
    epilog=examples(
        "harmose orbitals runs/water new.xyz",
        "harmose orbitals runs/water new.xyz --reference water",
        "harmose orbitals water frame-0",
        "harmose orbitals runs/water many.xyz --csv > gaps.csv",
    )
)
def orbitals(
    source: SourceArgument,
    target: Annotated[
        str,
        typer.Argument(metavar="SAMPLE|STRUCTURE", help="Name of a sample in SOURCE, or a structure file for MODEL."),
    ],
    reference: ReferenceOption = None,
    electrons: ElectronsOption = None,
    basis: BasisOption = None,
    all_orbitals: Annotated[
        bool, typer.Option("--all", help="Show all orbitals instead of those near the gap.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="HOMO, LUMO and gap of each structure as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="HOMO, LUMO and gap of each structure as CSV.")] = False,
) -> None:
    """Print orbital energies and gap of a predicted or stored molecule, compared with DFT if a reference is given.

    Of many structures in a file: HOMO, LUMO and gap of each, with bounds of their errors.
    """
    if as_json and as_csv:
        raise ConfigError("expected one of --json and --csv, got both")
    if is_model(source):
        structures = read_structures(Path(target))
        model = with_functions(checkpoint.load(source), basis)
        if len(structures) > 1 or as_json or as_csv:
            if reference is not None or electrons is not None or all_orbitals:
                raise ConfigError(
                    f"{target}: expected one structure, and neither --json nor --csv, with --reference, --electrons or --all; "
                    f"got {len(structures)}"
                )
            if any(atoms.pbc.any() for atoms in structures):
                raise MatrixError(f"{target}: expected molecules, got a periodic structure; `bands` is for crystals")
            names = [f"{Path(target).stem}-{k}" for k in range(len(structures))]
            found = Predictor(model, source).samples(structures, names)
            _print_many(progress(found, "predicting", len(structures), terminal()), as_json, as_csv)
            return
        atoms, name = structures[0], Path(target).stem
        dft, s = find_reference(reference, atoms, model.card.basis, name)
        sample = Predictor(model, source).sample(atoms, name, s)
    else:
        if as_json or as_csv:
            raise ConfigError("--json and --csv: expected a model and structures, got a stored sample")
        sample = read(source, target)
        dft, s = find_reference(reference, sample.structure, sample.basis, sample.name)
        sample = replace(sample, overlap=s) if sample.overlap is None else sample
        sample = with_overlap(sample, basis)
    if electrons is not None:
        sample = replace(sample, n_electrons=electrons)
        dft = None if dft is None else replace(dft, n_electrons=electrons)
    else:
        sample = replace(sample, n_electrons=Comparison(sample, dft).n_electrons)
    if dft is not None and dft.spin is not sample.spin:
        raise MatrixError(f"{reference}: expected spin {sample.spin}, got {dft.spin}")
    spins = _solve(sample)
    references = [None] * len(spins) if dft is None else _solve(dft)
    titles = ("spin up", "spin down") if len(spins) > 1 else (None,)
    electrons_each = 2 if sample.spin.value == "none" else 1
    for predicted, other, title in zip(spins, references, titles):
        terminal().print(_orbital_table(predicted, other, all_orbitals, electrons_each, title))


COLUMNS = (
    "name",
    "formula",
    *(f"{title}{kind} (eV)" for title in ("HOMO", "LUMO", "gap") for kind in ("", " bound")),
    "expected H MAE (meV)",
    "note",
)
"""Columns of many predictions."""
Row = dict[str, str | float | None]


def _print_many(predictions: Iterable[tuple[Sample, Uncertainty | None]], as_json: bool, as_csv: bool) -> None:
    """Print one row for each structure: JSON and CSV as soon as it is known."""
    rows = (_row(sample, bounds) for sample, bounds in predictions)
    if as_json:
        for k, row in enumerate(rows):
            print(("[\n  " if k == 0 else ",\n  ") + json.dumps(row), end="", flush=True)
        print("\n]")
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            sys.stdout.flush()
    else:
        terminal().print(_table_of_many(rows))


def _row(sample: Sample, u: Uncertainty | None) -> Row:
    """Return HOMO, LUMO and gap in eV with bounds, where they are known; `note`: why there are none."""
    if u is None:
        values, bounds = frontier(_solve(sample)), (None, None, None)
    else:
        found = [u.homo, u.lumo, u.gap]
        values = [None if x is None else x.value for x in found]
        bounds = [None if x is None or not np.isfinite(x.bound) else x.bound for x in found]
    out: Row = {"name": sample.name, "formula": sample.structure.get_chemical_formula()}
    for title, value, bound in zip(("HOMO", "LUMO", "gap"), values, bounds, strict=True):
        out |= {f"{title} (eV)": value, f"{title} bound (eV)": bound}
    known = u is not None and not u.outside
    out["expected H MAE (meV)"] = 1e3 * u.expected_error if u is not None and known else None
    out["note"] = "" if u is None or known else "; ".join(("outside the training domain", *u.reasons[:1]))
    return out


def _table_of_many(rows: Iterator[Row]) -> Table:
    made = table("structure", "formula", "HOMO (eV)", "LUMO (eV)", "gap (eV)", "note")
    made.columns[1].justify = made.columns[-1].justify = "left"
    for column in made.columns[:-1]:
        column.no_wrap = True
    for row in rows:
        energies = (_shown(row, title) for title in ("HOMO", "LUMO", "gap"))
        made.add_row(str(row["name"]), str(row["formula"]), *energies, str(row["note"]))
    return made


def _shown(row: Row, title: str) -> str:
    value, bound = row[f"{title} (eV)"], row[f"{title} bound (eV)"]
    if not isinstance(value, float):
        return ""
    return str(BoundedEnergy(value, bound)) if isinstance(bound, float) else f"{value:.3f}"


def _solve(sample: Sample) -> tuple[MolecularOrbitals, ...]:
    if sample.n_electrons is None:
        raise MatrixError(f"sample {sample.name}: the number of electrons is not known; give --electrons")
    if sample.overlap is None:
        raise MatrixError(
            f"sample {sample.name}: expected the overlap S, from a --reference, from --basis or a basis set of PySCF or "
            "CP2K; got none"
        )
    found = spin_orbitals(sample.hamiltonian, sample.overlap, sample.n_electrons)
    if sample.is_prediction:
        overlap, atoms = overlap_at_gamma(sample.overlap, sample.spin), on_site_of(sample.overlap, sample.spin)
        warn_of_ghosts(molecular_ghosts(found, overlap, atoms))
    return found


def _orbital_table(
    predicted: MolecularOrbitals,
    dft: MolecularOrbitals | None,
    all_orbitals: bool,
    electrons_each: int,
    title: str | None,
) -> Table:
    """Return a table with one row for each orbital. An occupied orbital holds `electrons_each` electrons."""
    made = table(
        "orbital", "electrons", "energy (eV)", *([] if dft is None else ["DFT (eV)", "difference (meV)"]), title=title
    )

    def add_row(label: str, electrons: str, a: float | None, b: float | None) -> None:
        cells = [label, electrons, "" if a is None else f"{a:.6f}"]
        if dft is not None:
            cells += ["" if b is None else f"{b:.6f}", "" if a is None or b is None else f"{1e3 * (a - b):.3f}"]
        made.add_row(*cells)

    n = predicted.n_occupied
    near = range(n - SHOWN_ORBITALS, n + SHOWN_ORBITALS)
    names = {n - 1: " (HOMO)", n: " (LUMO)"}
    for k, energy in enumerate(predicted.energies.tolist()):
        if all_orbitals or k in near:
            other = None if dft is None or k >= len(dft.energies) else float(dft.energies[k])
            add_row(f"{k + 1}{names.get(k, '')}", str(electrons_each) if k < n else "0", energy, other)
    made.add_section()
    add_row("gap", "", predicted.gap, None if dft is None else dft.gap)
    return made
