"""`harmose predict`: Hamiltonians of new structures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from ase import Atoms

from harmose.cli.basis_option import BasisOption, with_functions
from harmose.cli.options import (
    ForceOption,
    ModelArgument,
    StructureArgument,
    check_output,
    examples,
    new_app,
    new_output,
    progress,
    terminal,
)
from harmose.cli.predictions import Predictor, parse_memory, parse_partition
from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import new_store
from harmose.errors import ConfigError, FormatError
from harmose.inference import checkpoint
from harmose.io.files import Overlaps
from harmose.io.npz import write_npz
from harmose.io.radial_files import ALL as ENDINGS
from harmose.io.structures import read_structures
from harmose.uncertainty.prediction import Uncertainty
from harmose.units import MICRO_HARTREE

LARGE_STRUCTURES = "Large structures"
"""Heading of the options of predictions in parts."""

app = new_app()


@app.command(epilog=examples("harmose predict runs/water new.xyz --out new.npz"))
def predict(
    model: ModelArgument,
    structure: StructureArgument,
    out: Annotated[Path, typer.Option(help="A new .npz file (one structure), or a new store under any other name.")],
    overlap: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Take S from this store, .npz file or DFT folder, with or without H, which must have the same "
            "structures.  "
            "[default: computed with --basis, with the functions that the model keeps, and for basis sets of PySCF and "
            "CP2K; else no S]",
        ),
    ] = None,
    basis: BasisOption = None,
    stage: Annotated[
        Literal["regression", "stage1", "full"],
        typer.Option(help="Part of the model to use: regression, + stage 1 (faster), or all."),
    ] = "full",
    energy_zero: Annotated[
        Literal["labels", "fermi_of_prediction"] | None,
        typer.Option(
            help="Energy zero of H. `labels` skips the Fermi level, slow for large cells.  [default: the model's]"
        ),
    ] = None,
    partition: Annotated[
        Any,
        typer.Option(
            metavar="auto|off|N",
            parser=parse_partition,
            help="Predict N pairs of atoms at a time: the same H in less memory. auto: only for large structures.",
            rich_help_panel=LARGE_STRUCTURES,
        ),
    ] = "auto",
    memory: Annotated[
        Any,
        typer.Option(
            metavar="12GB",
            parser=parse_memory,
            help="Upper bound on memory when predicting in parts.  [default: most of the free memory]",
            rich_help_panel=LARGE_STRUCTURES,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler whose workers share the parts.", rich_help_panel=LARGE_STRUCTURES
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Predict the Hamiltonian of one structure, or of many into a store.

    Adds S where it can be computed, and prints gap, HOMO and LUMO with bounds of their errors. A .npz file holds the
    bounds of all blocks and orbital energies. Structures that are predicted in parts have no bounds.
    """
    check_output(out, force)
    if overlap is not None and overlap.name.endswith(ENDINGS):
        raise ConfigError(
            f"--overlap {overlap}: expected matrices, got radial functions, from which S is computed with --basis"
        )
    structures = read_structures(structure)
    if out.suffix == ".npz" and len(structures) != 1:
        raise FormatError(
            f"{structure}: expected one structure for a .npz, got {len(structures)}; name a store instead"
        )
    console = terminal()
    loaded = with_functions(checkpoint.load(model), basis)
    predictor = Predictor(loaded, model, partition, memory, scheduler, stage, energy_zero, out.parent, console)

    overlaps = None if overlap is None else Overlaps(overlap)

    names = [f"{structure.stem}-{k}" for k in range(len(structures))]
    found = None if overlaps is None else _Overlaps(overlaps, structures, names, loaded.card.basis)

    def samples() -> Iterator[Sample]:
        pairs = predictor.samples(structures, names, found)
        for predicted, bounds in progress(pairs, "predicting", len(structures), console):
            if bounds is not None:
                console.print(f"{predicted.name}: {bounds_line(bounds)}", markup=False, soft_wrap=True)
            yield predicted if bounds is None else _with_bounds(predicted, bounds)

    with new_output(out, force) as hidden:
        if out.suffix == ".npz":
            ((predicted, bounds),) = predictor.samples(structures, names, found)
            write_npz(hidden, predicted, {} if bounds is None else bounds.arrays())
            if bounds is not None:
                console.print(bounds_line(bounds), markup=False, soft_wrap=True)
        else:
            card = predictor.model.card
            settings = {**card.settings, "kind": "prediction", "model": model}
            with new_store(hidden, card.basis, card.spin, settings) as store:
                store.extend(samples(), check=False)
    console.print(f"{out}: {len(structures)} predicted", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class _Overlaps(Sequence[BlockMatrix]):
    """S of each structure from --overlap, searched when it is asked for."""

    source: Overlaps
    structures: Sequence[Atoms]
    names: Sequence[str]
    basis: BasisSet

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, k: int) -> BlockMatrix:
        return self.source.find(self.structures[k], self.basis, self.names[k])


def _with_bounds(sample: Sample, bounds: Uncertainty) -> Sample:
    return replace(sample, provenance={**sample.provenance, "uncertainty": bounds.summary()})


def bounds_line(u: Uncertainty) -> str:
    """Return gap, HOMO and LUMO with their bounds, and the expected error of H, in one line.

    Outside the training domain, where neither is known, that instead; and which summands of the model were not used.
    """
    energies = {"gap": u.gap, "HOMO": u.homo, "LUMO": u.lumo}
    parts = [f"{name} {energy} eV" for name, energy in energies.items() if energy is not None]
    if not u.outside:
        parts.append(f"expected H MAE {u.expected_error / MICRO_HARTREE:.3g} µEh")
    stated = f" (± with {100 * u.confidence:g} % confidence)" if len(parts) > 1 and not u.outside else ""
    outside = ["outside the training domain: larger errors, no bounds"] if u.outside else []
    return "; ".join([*([", ".join(parts) + stated] if parts else []), *outside, *u.unused])
