"""`harmose convert`: from DFT outputs and published data sets to a store, and from a store to other formats."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from harmose.cli.basis_option import keep_functions
from harmose.cli.options import ForceOption, check_output, examples, new_app, new_output, progress, terminal
from harmose.core.sample import Sample, check_sample
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, HarmoseError, MatrixError
from harmose.io.files import open_source, write
from harmose.io.petsc import write_petsc
from harmose.io.sources import Source
from harmose.io.wannier90 import write_wannier90

Target = Literal["store", "deeph", "deeph-legacy", "wannier90", "petsc", "npz"]


app = new_app()


@app.command(
    epilog=examples(
        "harmose convert siesta-runs silicon",
        "harmose convert QH9Stable.db qh9",
        "harmose convert silicon silicon-deeph --to deeph",
    )
)
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="The folder of a calculation, a folder of such folders, a data set, or a store."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New store, folder or file.")],
    to: Annotated[Target, typer.Option("--to", help="Format to write.")] = "store",
    format: Annotated[
        str | None, typer.Option("--format", help="Format of SOURCE.  [default: detected]", metavar="FORMAT")
    ] = None,
    sample: Annotated[str | None, typer.Option(help="Convert only the sample with this name.", metavar="NAME")] = None,
    basis_of: Annotated[
        Path | None,
        typer.Option(
            help="Take the basis set, with its cutoff radii, from this store instead of the source.", metavar="STORE"
        ),
    ] = None,
    basis_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--basis",
            metavar="FILE",
            help="Radial functions for the store to keep, so that models can compute S: SIESTA's .ion.nc, ABACUS's .orb or "
            "OpenMX's .pao files, or their folder. May be repeated.  [default: those beside the calculations]",
        ),
    ] = None,
    loewdin: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="wannier90: orthogonalize H on this mesh of k-points (odd numbers).", metavar="N1 N2 N3"),
    ] = None,
    kpoint: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="petsc: H(k) and S(k) at this k-point (fractional).  [default: Gamma]", metavar="K1 K2 K3"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad sample.")] = False,
    force: ForceOption = False,
) -> None:
    """Convert DFT outputs or published data sets to a sample store, or a store to another format.

    OUT appears complete or not at all. Samples that cannot be read or must not be trained on are listed and left out.
    In formats other than a store, a single sample becomes OUT, several become folders or files in OUT.
    """
    if loewdin is not None and to != "wannier90":
        raise ConfigError(f"--loewdin: expected --to wannier90, got --to {to}")
    if kpoint is not None and to != "petsc":
        raise ConfigError(f"--kpoint: expected --to petsc, got --to {to}")
    if basis_files and to != "store":
        raise ConfigError(f"--basis: expected --to store, got --to {to}")
    check_output(out, force)
    basis = None
    if basis_of is not None:
        with Store.open(basis_of) as other:
            basis = other.basis
    console = terminal()
    opened = open_source(source, format, basis)
    names = opened.names() if sample is None else [sample]
    if not names:
        raise FormatError(f"{source}: expected samples, got none")
    survey = getattr(opened, "survey", None)
    if survey is not None:
        for _ in progress(survey(), "measuring radii", len(opened.names()), console):
            pass
    bad: dict[str, str] = {}
    others: dict[str, str] = getattr(opened, "left_out", {}) if sample is None else {}
    with new_output(out, force) as hidden:
        good = _good_samples(opened, names, bad, strict, console)
        if to == "store":
            _write_store(hidden, opened, good, bad, others, strict)
            if len(bad) < len(names):
                keep_functions(hidden, opened, basis_files or (), console)
        else:
            _write_folder(hidden, good, to, loewdin, kpoint, several=len(names) > 1)
        if len(bad) == len(names):
            name, reason = next(iter(bad.items()))
            raise FormatError(f"{source}: none of its {len(names)} samples can be converted; {name}: {reason}")
    done = len(names) - len(bad)
    bad |= others
    for name, reason in bad.items():
        console.print(f"left out: {name}: {reason}", style="yellow", markup=False, soft_wrap=True)
    left_out = f", {len(bad)} left out" if bad else ""
    console.print(f"{out}: {done} sample{'' if done == 1 else 's'}{left_out}", markup=False, soft_wrap=True)


def _good_samples(
    source: Source, names: list[str], bad: dict[str, str], strict: bool, console: Console
) -> Iterator[Sample]:
    """Yield the samples that pass the checks. The reasons of the others are added to `bad`, or raised if `strict`."""
    for name in progress(names, "converting", len(names), console):
        try:
            sample = source[name]
            check_sample(sample)
            _check_overlap(sample)
            if sample.provenance.get("converged") is False:
                raise HarmoseError(f"sample {name}: the calculation did not converge")
        except HarmoseError as error:
            if strict:
                raise
            bad[name] = str(error)
        else:
            yield sample


def _check_overlap(sample: Sample) -> None:
    """Check S of a crystal at Gamma, which truncated or wrong cells spoil; `check_sample` checks molecules."""
    if sample.overlap is None or not sample.structure.pbc.any():
        return
    try:
        np.linalg.cholesky(sample.overlap.dense())
    except np.linalg.LinAlgError:
        raise MatrixError(f"sample {sample.name}: S at Gamma is not positive definite") from None


def _write_store(
    path: Path, source: Source, samples: Iterator[Sample], bad: dict[str, str], others: dict[str, str], strict: bool
) -> None:
    first = next(samples, None)
    if first is None:
        return
    basis = source.basis if isinstance(source, Store) else first.basis
    with Store.create(path, basis, first.spin, source.metadata) as store:
        store.extend(_fitting(store, chain([first], samples), bad, strict), check=False)
        store.remember_failures(bad | others)
        if isinstance(source, Store):
            _keep_splits(source, store)


def _fitting(store: Store, samples: Iterator[Sample], bad: dict[str, str], strict: bool) -> Iterator[Sample]:
    """Yield the samples in the basis set and spin kind of the store; the others are added to `bad`, or raised if `strict`."""
    for sample in samples:
        try:
            store.check_fits(sample)
        except HarmoseError as error:
            if strict:
                raise
            bad[sample.name] = str(error)
        else:
            yield sample


def _keep_splits(source: Store, store: Store) -> None:
    store.set_splits({split: [name for name in names if name in store] for split, names in source.splits.items()})


def _write_folder(
    path: Path,
    samples: Iterator[Sample],
    to: str,
    loewdin: tuple[int, int, int] | None,
    kpoint: tuple[float, float, float] | None,
    several: bool,
) -> None:
    if several:
        path.mkdir()
    for sample in samples:
        place = path / _file_name(sample.name, to) if several else path
        if place.exists():
            raise FormatError(f"{sample.name}: expected different file names, got two samples with {place.name}")
        if loewdin is not None:
            write_wannier90(place, sample, loewdin)
        elif kpoint is not None:
            write_petsc(place, sample, kpoint)
        else:
            write(place, sample, to)


def _file_name(name: str, to: str) -> str:
    """Turn a sample's name into a file name, which cannot lead out of the folder."""
    plain = re.sub(r"[^\w.+=,-]+", "_", name).lstrip(".") or "sample"
    return f"{plain}.npz" if to == "npz" else plain
