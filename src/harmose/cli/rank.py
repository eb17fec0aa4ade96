"""`harmose rank`: which structures to label next."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase.io import write

from harmose.cli.options import (
    ForceOption,
    ModelArgument,
    StructuresArgument,
    check_output,
    error_prefix,
    examples,
    new_app,
    new_output,
    progress,
    table,
    terminal,
)
from harmose.inference import checkpoint
from harmose.io.structures import read_structures
from harmose.units import MICRO_HARTREE

STRUCTURES_PER_PASS = 8

LISTED_STRUCTURES = 20
"""Most structures that are printed."""

app = new_app()


@app.command(epilog=examples("harmose rank runs/water pool.xyz --first 100 --out next.xyz"))
def rank(
    model: ModelArgument,
    structures: StructuresArgument,
    out: Annotated[
        Path | None, typer.Option(help="Write the structures in this order, as extended xyz, for `harmose label`.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Keep only this many of the most uncertain.")] = None,
    force: ForceOption = False,
) -> None:
    """Order structures by the error that the model expects, largest first: candidates for the next labels."""
    if out is not None:
        check_output(out, force)
    atoms, loaded, console = read_structures(structures), checkpoint.load(model), terminal()
    batches = [atoms[k : k + STRUCTURES_PER_PASS] for k in range(0, len(atoms), STRUCTURES_PER_PASS)]
    with error_prefix(structures):
        ranked = progress(batches, "ranking", len(batches), console)
        errors = [error for batch in ranked for error in loaded.expected_errors(batch)]
    order = np.argsort(errors)[::-1][:first].tolist()
    made = table("structure", "formula", "expected H MAE (µEh)")
    made.columns[1].justify = "left"
    for k in order[:LISTED_STRUCTURES]:
        made.add_row(str(k), atoms[k].get_chemical_formula(), f"{errors[k] / MICRO_HARTREE:.4g}")
    console.print(made)
    if len(order) > LISTED_STRUCTURES:
        console.print(f"and {len(order) - LISTED_STRUCTURES} more", soft_wrap=True)
    if out is not None:
        with new_output(out, force) as hidden:
            write(hidden, [atoms[k] for k in order], format="extxyz")
        console.print(f"{out}: {len(order)} structures", markup=False, soft_wrap=True)
