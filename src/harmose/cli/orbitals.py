"""`harmose orbitals`: orbital energies of a prediction or of a stored sample."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from harmose.cli.basis_option import BasisOption, with_functions, with_overlap
from harmose.cli.inputs import one_structure
from harmose.cli.options import ElectronsOption, ReferenceOption, SourceArgument, examples, new_app, table, terminal
from harmose.cli.predictions import Predictor, find_reference, is_model
from harmose.core.sample import Sample
from harmose.errors import MatrixError
from harmose.evaluate.comparison import Comparison
from harmose.inference import checkpoint
from harmose.io.files import read
from harmose.physics.eigen import MolecularOrbitals, overlap_at_gamma, spin_orbitals
from harmose.physics.ghosts import molecular_ghosts, on_site_of, warn_of_ghosts

SHOWN_ORBITALS = 8
"""Number of orbitals on each side of the gap that are shown without --all."""

app = new_app()


@app.command(
    epilog=examples(
        "harmose orbitals runs/water new.xyz",
        "harmose orbitals runs/water new.xyz --reference water",
        "harmose orbitals water frame-0",
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
) -> None:
    """Print orbital energies and gap of a predicted or stored molecule, compared with DFT if a reference is given."""
    if is_model(source):
        atoms, name = one_structure(Path(target)), Path(target).stem
        model = with_functions(checkpoint.load(source), basis)
        dft, s = find_reference(reference, atoms, model.card.basis, name)
        sample = Predictor(model, source).sample(atoms, name, s)
    else:
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
