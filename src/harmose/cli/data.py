"""`harmose data`: list, check, split and merge sample stores, and remove what trainings keep beside them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harmose.cli.commands import COMMANDS
from harmose.cli.options import (
    ForceOption,
    StoreArgument,
    check_output,
    examples,
    new_app,
    new_output,
    progress,
    terminal,
)
from harmose.core.sample import PriorKind, Sample
from harmose.core.species import symbol_of
from harmose.data.checks import check_each
from harmose.data.curation import merge as merge_stores
from harmose.data.curation import split as random_split
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.io.priors import replace_priors
from harmose.train.prepared_sets import cache_folder, prepared_sets, remove_prepared

COLUMNS = ("name", "formula", "atoms", "orbitals", "energy (eV)", "split", "group")

ROWS = 500
"""Rows that are laid out and printed together."""

app = new_app(COMMANDS["data"])


@app.command("ls", epilog=examples("harmose data ls water", "harmose data ls water --samples"))
def ls(
    store: StoreArgument,
    samples: Annotated[bool, typer.Option("--samples", help="Also list the samples.")] = False,
) -> None:
    """Print the contents of a store: elements, basis set, settings, splits, failures."""
    console = terminal()
    with Store.open(store) as opened:
        console.print(_summary(opened))
        if samples:
            for table in _listing(opened):
                console.print(table)
        for name, reason in opened.failures.items():
            console.print(f"failed: {name}: {reason}", style="yellow", markup=False)


def _summary(store: Store) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = {
        "store": str(store.path),
        "samples": str(len(store)),
        "failures": str(len(store.failures)),
        "elements": " ".join(symbol_of(z) for z in store.basis.elements),
        "basis": f"{store.basis.name} ({store.basis.fingerprint})",
        "spin": store.spin.value,
        **{key: str(value) for key, value in sorted(store.metadata.items()) if key != "basis"},
        "splits": ", ".join(f"{name} {len(names)}" for name, names in store.splits.items()) or "none",
        "size on disk": f"{(store.path / 'data.mdb').stat().st_size / 1e6:.1f} MB",
        "digest": store.digest[:16],
    }
    for key, value in rows.items():
        table.add_row(f"[bold]{escape(key)}", escape(value))
    return table


def _listing(store: Store) -> Iterator[Table]:
    """Yield tables of `ROWS` samples each, with columns of the same width and one header."""
    owner = {name: split for split, names in store.splits.items() for name in names}
    rows = [_row(sample, owner.get(sample.name, "")) for sample in store]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
    for start in range(0, max(len(rows), 1), ROWS):
        table = Table(box=None, show_header=start == 0, padding=(0, 2, 0, 0))
        for name, width in zip(COLUMNS, widths):
            table.add_column(name, min_width=width, no_wrap=True)
        for row in rows[start : start + ROWS]:
            table.add_row(*map(escape, row))
        yield table


def _row(sample: Sample, split: str) -> tuple[str, ...]:
    return (
        sample.name,
        sample.structure.get_chemical_formula(),
        str(len(sample.structure)),
        str(sample.hamiltonian.n_orbitals),
        "" if sample.energy is None else f"{sample.energy:.6f}",
        split,
        str(sample.provenance.get("group", "")),
    )


@app.command("check", epilog=examples("harmose data check water"))
def check(store: StoreArgument) -> None:
    """Find samples that must not be trained on. The exit code is 1 if there are any.

    These are damaged records, matrices that are not Hermitian or not finite, S that is not positive definite, H equal
    to H0, calculations that did not converge, structures that occur twice, orbital energies that do not belong to H and
    S, orbitals in a wrong order, other orbitals of an element than in earlier samples, another functional or basis set than
    the store's, and the only sample with an element.
    """
    console = terminal()
    with Store.open(store) as opened:
        checked = progress(check_each(opened), "checking", len(opened), console)
        problems = [problem for each in checked for problem in each]
        for problem in problems:
            console.print(f"{problem.sample}: {problem.text}", style="red", markup=False, soft_wrap=True)
        for name, reason in opened.failures.items():
            console.print(f"{name}: kept out of the store: {reason}", style="yellow", markup=False, soft_wrap=True)
        bad = len({problem.sample for problem in problems})
        console.print(f"{len(opened)} samples checked, {bad or 'none'} of them bad", soft_wrap=True)
    if problems:
        raise typer.Exit(1)


@app.command(
    "split",
    epilog=examples(
        "harmose data split water --train 0.8 --val 0.1 --test 0.1", "harmose data split organics --by group"
    ),
)
def split(
    store: StoreArgument,
    train: Annotated[float, typer.Option(help="Share of the training samples.")] = 0.8,
    val: Annotated[float, typer.Option(help="Share of the validation samples.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the test samples.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the random choice.")] = 0,
    by: Annotated[
        str | None, typer.Option(help="Keep samples together that have the same value of this entry, e.g. `group`.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Split a store at random into train, val and test, and record the split in the store."""
    with Store.open(store, writable=True) as opened:
        if opened.splits and not force:
            raise FormatError(f"{store}: has the splits {', '.join(opened.splits)} already; --force replaces them")
        shares = {"train": train, "val": val, "test": test}
        splits = random_split(opened, {name: share for name, share in shares.items() if share}, seed, by)
        opened.set_splits(splits)
    terminal().print(", ".join(f"{name} {len(names)}" for name, names in splits.items()))


@app.command("merge", epilog=examples("harmose data merge all water ethanol"))
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new store.")],
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores with the same settings.")],
    force: ForceOption = False,
) -> None:
    """Merge stores with the same settings into a new one, with their splits."""
    check_output(out, force)
    opened = [Store.open(path) for path in stores]
    with new_output(out, force) as hidden:
        merge_stores(opened, hidden)
    with Store.open(out) as result:
        terminal().print(f"{out}: {len(result)} samples", markup=False)


@app.command("prior", epilog=examples("harmose data prior organics cheap --kind tabulated"))
def prior(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new store.")],
    kind: Annotated[PriorKind, typer.Option(help="Kind of H0, as in `harmose label --prior`.")] = "tabulated",
    workers: Annotated[int | None, typer.Option(help="Number of processes.  [default: one per core]")] = None,
    force: ForceOption = False,
) -> None:
    """Compute another H0 for the labels of a store, into a new store."""
    check_output(out, force)
    with Store.open(store) as opened, new_output(out, force) as hidden:
        names = replace_priors(opened, hidden, kind, workers or os.cpu_count() or 1)
        n = sum(1 for _ in progress(names, "H0", len(opened), terminal()))
    terminal().print(f"{out}: {n} samples", markup=False, soft_wrap=True)


@app.command("cache", epilog=examples("harmose data cache organics", "harmose data cache organics --remove"))
def cache(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Sample store, which may be gone.")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove all of them.")] = False,
) -> None:
    """List the prepared samples that trainings keep beside a store, whose set does not fit into memory, or remove them."""
    console, folder = terminal(), cache_folder(store)
    kept = prepared_sets(folder)
    for each in kept:
        state = f"{each.n_samples} samples" if each.n_samples else "not complete: the same training goes on with it"
        console.print(f"{each.folder}: {each.n_bytes / 1e9:.2f} GB, {state}", markup=False, soft_wrap=True)
    if not kept:
        console.print(f"{folder}: no prepared samples", markup=False, soft_wrap=True)
    elif remove:
        remove_prepared(folder)
        console.print(f"{folder}: removed", markup=False, soft_wrap=True)
