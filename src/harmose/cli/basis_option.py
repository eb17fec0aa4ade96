"""The option --basis: files of radial functions, for S of a prediction and for a store to keep."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harmose.core.radial import RadialBasis
from harmose.core.sample import Sample
from harmose.core.species import species_of, symbol_of
from harmose.data.store import Store
from harmose.inference.model import Model
from harmose.io.basis_sets import radial_functions
from harmose.io.radial_files import check_functions, functions_beside, pao_names
from harmose.io.sources import Runs, Source
from harmose.physics.integrals.overlap import overlap_like

BasisOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Radial functions, from which S is computed: SIESTA's .ion.nc, ABACUS's .orb or OpenMX's .pao files, or "
        "their folder. May be repeated.  [default: those that the model keeps]",
    ),
]


def with_functions(model: Model, files: Sequence[Path] | None) -> Model:
    """Return the model with the radial functions of these files; the model itself without files."""
    if not files:
        return model
    return replace(model, radial=radial_functions(model.card.basis, files, model.card.settings.get("pao")))


def with_overlap(sample: Sample, files: Sequence[Path] | None) -> Sample:
    """Return the sample with S from the radial functions of these files, if it has none."""
    if not files or sample.overlap is not None:
        return sample
    functions = radial_functions(sample.basis, files, pao_names(sample.provenance))
    return replace(sample, overlap=overlap_like(sample.hamiltonian, sample.structure, functions))


def keep_functions(path: Path, source: Source, files: Sequence[Path], console: Console) -> None:
    """Keep in a store the radial functions of these files, or else those of its source, if they are known."""
    with Store.open(path, writable=True) as store:
        radial = _from_files(store, files) if files else _of_source(store, source)
        if radial is not None:
            store.set_radial(radial)
            symbols = ", ".join(symbol_of(z) for z in radial.elements)
            console.print(f"radial functions of {symbols} are kept", markup=False, soft_wrap=True)


def _from_files(store: Store, files: Sequence[Path]) -> RadialBasis:
    first = store[store.names()[0]]
    radial = radial_functions(store.basis, files, pao_names(first.provenance))
    check_functions(radial, first)
    return radial


def _of_source(store: Store, source: Source) -> RadialBasis | None:
    """Return the functions of another store, or those that lie beside the calculations; None if an element has none."""
    if isinstance(source, Store):
        return None if source.radial is None else source.radial.like(store.basis)
    if not isinstance(source, Runs):
        return None
    functions, elements = {}, set(store.basis.elements)
    for name in store.names():
        sample = store[name]
        if set(species_of(sample.structure).tolist()) <= functions.keys():
            continue
        beside = functions_beside(source.path(name), sample)
        if beside is None:
            return None
        functions |= dict(beside.functions)
        if functions.keys() >= elements:
            return RadialBasis(store.basis, functions)
    return None
