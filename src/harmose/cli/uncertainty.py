"""Commands about how far a model can be trusted: calibrate, rank."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harmose.cli.options import ForceOption, ModelArgument, StoreArgument, about, new_output, progress, terminal
from harmose.errors import FormatError

if TYPE_CHECKING:
    from harmose.uncertainty.prediction import Uncertainty

AT_ONCE = 8
"""Structures that are looked at in one pass."""


def calibrate(
    model: ModelArgument,
    store: StoreArgument,
    split: Annotated[str, typer.Option(help="Samples that the model has not seen; those of `train` it has.")] = "val",
    refit: Annotated[
        bool, typer.Option("--refit", help="Few samples: add those of training, each by a fit to the others.")
    ] = False,
) -> None:
    """Fit the bounds of a trained model's errors to held-out samples. A training does this at its end."""
    from harmose.cli.models import check_labels, split_names
    from harmose.data.store import Store
    from harmose.inference.checkpoint import load, located, save
    from harmose.train.calibrate import calibrated_on

    with Store.open(store) as opened:
        loaded = load(model)
        check_labels(loaded.card, opened)
        training = opened.splits.get("train")
        if not training:
            raise FormatError(f"{store}: expected the split train, which tells what the model has seen, got none")
        found = calibrated_on(loaded, opened, training, split_names(opened, split), refit)
    save(found, located(model))
    console, about_it = terminal(), found.card.calibration
    left_out = about_it["left_out_training_samples"]
    more = f" and {left_out} of training, left out" if left_out else ""
    text = f"{about_it['samples']} samples{more}, {about_it['groups']} of them independent"
    console.print(f"{model}: calibrated on {text}: {_highest(about_it)}", markup=False, soft_wrap=True)


def _highest(about_it: Any) -> str:
    highest = about_it["highest_level"]
    return "too few for any bound" if highest is None else f"bounds up to {100 * highest:g} %"


def rank(
    model: ModelArgument,
    structures: Annotated[
        Path, typer.Argument(metavar="STRUCTURES", help="A file that ASE reads, or a folder of them.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write them in this order, as extended xyz, for `harmose label`.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many of the most uncertain.")] = None,
    force: ForceOption = False,
) -> None:
    """Order structures by how wrong the model expects to be, worst first: what to label next."""
    import numpy as np
    from ase.io import write
    from rich.table import Table

    from harmose.cli.options import check_output
    from harmose.inference.checkpoint import load
    from harmose.io.structures import read_structures
    from harmose.units import MICRO_HARTREE

    if out is not None:
        check_output(out, force)
    found, loaded, console = read_structures(structures), load(model), terminal()
    parts = [found[k : k + AT_ONCE] for k in range(0, len(found), AT_ONCE)]
    with about(structures):
        errors = [e for part in progress(parts, "ranking", len(parts), console) for e in loaded.expected_errors(part)]
    order = np.argsort(errors)[::-1][:first].tolist()
    table = Table("structure", "formula", "expected H MAE (µEh)", title=None)
    table.columns[2].justify = "right"
    for k in order[:20]:
        table.add_row(str(k), found[k].get_chemical_formula(), f"{errors[k] / MICRO_HARTREE:.4g}")
    console.print(table)
    if len(order) > 20:
        console.print(f"and {len(order) - 20} more", soft_wrap=True)
    if out is not None:
        with new_output(out, force) as hidden:
            write(hidden, [found[k] for k in order], format="extxyz")
        console.print(f"{out}: {len(order)} structures", markup=False, soft_wrap=True)


def bounds_line(u: "Uncertainty") -> str:
    """Gap, HOMO and LUMO with their bounds, and what the error of H is expected to be."""
    from harmose.units import MICRO_HARTREE

    energies = {"gap": u.gap, "HOMO": u.homo, "LUMO": u.lumo}
    parts = [f"{name} {found} eV" for name, found in energies.items() if found is not None]
    parts.append(f"expected H MAE {u.expected_error / MICRO_HARTREE:.3g} µEh")
    stated = f" (± holds for {100 * u.level:g} %)" if len(parts) > 1 else ""
    return ", ".join(parts) + stated + ("; outside the training domain: expect more" if u.outside else "")
