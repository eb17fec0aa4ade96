"""Commands that use a model: evaluate, predict, orbitals."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harmose.cli.options import (
    ForceOption,
    ModelArgument,
    StoreArgument,
    StructureArgument,
    about,
    check_output,
    new_output,
    one_structure,
    progress,
    terminal,
)
from harmose.cli.parts import Predictor
from harmose.cli.uncertainty import bounds_line
from harmose.errors import ConfigError, FormatError, MatrixError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms

    from harmose.core.sample import Sample
    from harmose.data.store import Store
    from harmose.evaluate.metrics import Prediction, RotationError
    from harmose.inference.checkpoint import Card
    from harmose.physics.eigen import MolecularOrbitals
    from harmose.uncertainty.prediction import Uncertainty

ROTATED_SAMPLES = 4
"""How many samples of an evaluation are turned for the rotation error."""


def evaluate(
    model: ModelArgument,
    store: StoreArgument,
    split: Annotated[str | None, typer.Option(help="Which samples.  [default: test, else val, else all]")] = None,
    unit: Annotated[str | None, typer.Option(help="uEh, meV, eV or Ha.  [default: uEh; crystals: meV]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and report.html.")] = None,
    max_samples: Annotated[int | None, typer.Option(min=1, help="Only the first ones of the split.")] = None,
    rotations: Annotated[
        int, typer.Option(min=0, help="Random rotations for the rotation error; 0 leaves it out.")
    ] = 4,
    force: ForceOption = False,
) -> None:
    """The paper's table: errors of stage 1 and of the full model beside each other."""
    from harmose.data.store import Store
    from harmose.evaluate.metrics import evaluate as evaluated
    from harmose.evaluate.report import terminal_table, write_report
    from harmose.inference.checkpoint import load
    from harmose.units import ERROR_UNITS

    if unit is not None and unit not in ERROR_UNITS:
        raise ConfigError(f"--unit: expected one of {', '.join(ERROR_UNITS)}, got {unit!r}")
    _check_report(out, force)
    console = terminal()
    with Store.open(store) as opened:
        loaded = load(model)
        check_labels(loaded.card, opened)
        names = split_names(opened, split)[:max_samples]
        found = _predictions(loaded, opened, names)
        predictions = list(progress(found, "predicting", len(names), console))
    result = evaluated(predictions, _rotation_errors(loaded, predictions, rotations))
    crystals = any(prediction.sample.structure.pbc.any() for prediction in predictions)
    unit = unit or ("meV" if crystals else "uEh")
    console.print(terminal_table(result, unit))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with new_output(out / "evaluation.json", force) as hidden:
            hidden.write_text(result.to_json())
        with new_output(out / "report.html", force) as hidden:
            title = f"{Path(model).name} on {store.name}"
            write_report(hidden, result, predictions, _history(model), loaded.card, unit, title)
        console.print(f"{out / 'report.html'}", markup=False, soft_wrap=True)


def _predictions(model: Any, store: "Store", names: "Sequence[str]") -> "Iterator[Prediction]":
    """Both stages, for many samples in one pass of the network."""
    from harmose.evaluate.metrics import Prediction
    from harmose.train.dataset import chunks

    for samples in chunks(store, names):
        structures, priors = [sample.structure for sample in samples], [sample.prior for sample in samples]
        with about(store.path):
            samples = [model.card.target.sample(sample) for sample in samples]
            stages = model.predict_stages(structures, priors)
            bounds = model.bounds_many(structures, priors, [sample.overlap for sample in samples], stages["full"])
        yield from map(Prediction, samples, stages["stage1"], stages["full"], bounds)


def _rotation_errors(model: Any, predictions: "list[Prediction]", rotations: int) -> "dict[str, RotationError]":
    """Of both stages, on the first samples."""
    from harmose.evaluate.metrics import rotation_error

    if not rotations:
        return {}
    samples = [prediction.sample for prediction in predictions[:ROTATED_SAMPLES]]
    structures, priors = [sample.structure for sample in samples], [sample.prior for sample in samples]
    return {
        stage: rotation_error(model, structures, rotations, stage=stage, priors=priors) for stage in ("stage1", "full")
    }


def _history(model: str) -> Path | None:
    """The training log beside the model, if there is one."""
    log = Path(model) / "metrics.csv"
    return log if log.is_file() else None


def _check_report(out: Path | None, force: bool) -> None:
    if out is None:
        return
    for file in (out / "evaluation.json", out / "report.html"):
        if file.exists() and not force:
            raise FormatError(f"{file}: exists already; --force replaces it")


def split_names(store: "Store", split: str | None) -> list[str]:
    """The samples of a split; without a name: test, else val, else all."""
    splits = store.splits
    if split is None:
        split = next((name for name in ("test", "val") if splits.get(name)), None)
        names = store.names() if split is None else splits[split]
    elif split == "all":
        names = store.names()
    elif split in splits:
        names = splits[split]
    else:
        known = ", ".join([*splits, "all"])
        raise ConfigError(f"{store.path}: expected a split among {known}, got {split!r}")
    if not names:
        raise FormatError(f"{store.path}: there are no samples to evaluate on")
    return names


def check_labels(card: "Card", store: "Store") -> None:
    """Refuse to hold a model against labels of another kind than those it has learned."""
    if card.spin is not store.spin:
        raise ModelError(f"{store.path}: expected labels of spin {card.spin}, as the model's, got {store.spin}")
    settings = card.settings
    for key in ("code", "functional", "basis"):
        known, found = settings.get(key), store.metadata.get(key)
        if known is not None and found is not None and known != found:
            raise ModelError(f"{store.path}: expected labels of {key} {known}, as the model's, got {found}")


def predict(
    model: ModelArgument,
    structure: StructureArgument,
    out: Annotated[Path, typer.Option(help="A new .npz file (one structure), or a new store under any other name.")],
    overlap: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Take S from what holds the same structures.  [default: PySCF's and CP2K's "
            "basis sets: computed; others: no S]",
        ),
    ] = None,
    partition: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="Work on N pairs of atoms at a time: the same numbers in less memory. auto: where there are many.",
        ),
    ] = "auto",
    memory: Annotated[
        str | None, typer.Option(metavar="12GB", help="Not more than this, of parts.  [default: most of what is free]")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers share the parts.")
    ] = None,
    stage: Annotated[
        str, typer.Option(help="`stage1` leaves the correction of stage 2 out: several times as fast.")
    ] = "full",
    force: ForceOption = False,
) -> None:
    """Predict the Hamiltonian of a structure, or of many into a store; with the overlap, for basis sets of PySCF and CP2K.

    Prints gap, HOMO and LUMO with what their errors stay below; a .npz holds such bounds for every block and level. Large
    structures are predicted in parts, without bounds.
    """
    from harmose.data.store import new_store
    from harmose.inference.checkpoint import load
    from harmose.io.npz import write_npz
    from harmose.io.structures import read_structures

    check_output(out, force)
    found = read_structures(structure)
    if out.suffix == ".npz" and len(found) != 1:
        raise FormatError(f"{structure}: expected one structure for a .npz, got {len(found)}; name a store instead")
    loaded = load(model)
    console = terminal()
    atoms_by_name = {f"{structure.stem}-{k}": atoms for k, atoms in enumerate(found)}
    names = progress(atoms_by_name, "predicting", len(found), console)
    how = Predictor(partition, memory, scheduler, stage, out.parent, console)
    samples = (_predicted(loaded, model, atoms_by_name[name], name, overlap, how) for name in names)
    with new_output(out, force) as hidden:
        if out.suffix == ".npz":
            (sample,) = samples
            bounds = how.bounds_of(loaded, sample)
            write_npz(hidden, sample, {} if bounds is None else bounds.arrays())
            if bounds is not None:
                console.print(bounds_line(bounds), markup=False, soft_wrap=True)
        else:
            settings = {**loaded.card.settings, "kind": "prediction", "model": model}
            with new_store(hidden, loaded.card.basis, loaded.card.spin, settings) as store:
                for sample in samples:
                    bounds = how.bounds_of(loaded, sample)
                    store.append(sample if bounds is None else _with_bounds(sample, bounds), check=False)
                    if bounds is not None:
                        console.print(f"{sample.name}: {bounds_line(bounds)}", markup=False, soft_wrap=True)
    console.print(f"{out}: {len(found)} predicted", markup=False, soft_wrap=True)


def _with_bounds(sample: "Sample", bounds: "Uncertainty") -> "Sample":
    return replace(sample, provenance={**sample.provenance, "uncertainty": bounds.summary()})


def _predicted(model: Any, name: str, atoms: "Atoms", label: str, source: Path | None, how: Predictor) -> "Sample":
    """The prediction as a sample; S from `source`, or exact where the basis set's radial functions are known, or none."""
    from harmose.cli.pairs import electrons_of, same_structure
    from harmose.core.sample import Sample
    from harmose.io.basis_sets import is_known, overlap

    other = None if source is None else same_structure(source, atoms, label)
    with about(atoms.info["source"]):
        h = how.predict(model, atoms)
        own = overlap(atoms, h.basis) if other is None and is_known(h.basis) else None
        return Sample(
            name=label,
            structure=atoms,
            basis=h.basis,
            hamiltonian=h,
            overlap=own if other is None else other.overlap,
            spin=h.spin,
            n_electrons=electrons_of(model.card, atoms),
            provenance={"kind": "prediction", "model": name},
        )


def orbitals(
    source: Annotated[
        str, typer.Argument(metavar="MODEL|SOURCE", help="A model; or a store, a .npz, the folder of DFT calculations.")
    ],
    target: Annotated[str, typer.Argument(metavar="STRUCTURE|SAMPLE", help="A structure file, or a sample's name.")],
    reference: Annotated[
        Path | None, typer.Option(metavar="SOURCE", help="DFT to compare with: anything that holds the same structure.")
    ] = None,
    electrons: Annotated[
        float | None, typer.Option(help="ChargeFeatures that the calculation treats, where they are not known.")
    ] = None,
    all_levels: Annotated[bool, typer.Option("--all", help="All levels instead of those near the gap.")] = False,
) -> None:
    """Orbital energies, HOMO, LUMO and gap of a prediction or a stored sample, beside DFT when there is a reference."""
    from harmose.cli.pairs import same_structure

    sample = _source_sample(source, target, reference)
    dft = None if reference is None else same_structure(reference, sample.structure, sample.name)
    if electrons is not None:
        sample = replace(sample, n_electrons=electrons)
        dft = None if dft is None else replace(dft, n_electrons=electrons)
    elif sample.n_electrons is None and dft is not None:
        sample = replace(sample, n_electrons=dft.n_electrons)
    console = terminal()
    if dft is not None and dft.spin is not sample.spin:
        raise MatrixError(f"{reference}: expected spin {sample.spin}, got {dft.spin}")
    found = _orbitals(sample)
    others = [None] * len(found) if dft is None else _orbitals(dft)
    for one, other, title in zip(found, others, ("spin up", "spin down") if len(found) > 1 else ("",)):
        console.print(_orbital_table(one, other, all_levels, "2" if sample.spin.value == "none" else "1", title))


def _source_sample(source: str, target: str, reference: Path | None) -> "Sample":
    from harmose.cli.pairs import is_model
    from harmose.inference.checkpoint import load
    from harmose.io.files import read

    if not is_model(source):
        return read(source, target)
    atoms = one_structure(Path(target))
    return _predicted(load(source), source, atoms, Path(target).stem, reference, Predictor())


def _orbitals(sample: "Sample") -> "tuple[MolecularOrbitals, ...]":
    from harmose.physics.eigen import spin_orbitals

    if sample.n_electrons is None:
        raise MatrixError(f"sample {sample.name}: the number of electrons is not known; give --electrons")
    if sample.overlap is None:
        raise MatrixError(
            f"sample {sample.name}: expected the overlap S (its basis set's name does not give it; a --reference does), got none"
        )
    return spin_orbitals(sample.hamiltonian, sample.overlap, sample.n_electrons)


def _orbital_table(
    found: "MolecularOrbitals", dft: "MolecularOrbitals | None", all_levels: bool, full: str, title: str
):
    """`full`: electrons of an occupied orbital."""
    from rich.table import Table

    more = [] if dft is None else ["DFT (eV)", "difference (meV)"]
    table = Table("orbital", "electrons", "energy (eV)", *more, title=title or None)
    for column in table.columns[1:]:
        column.justify = "right"

    def row(label: str, electrons: str, a: float | None, b: float | None) -> None:
        cells = [label, electrons, "" if a is None else f"{a:.6f}"]
        if dft is not None:
            cells += ["" if b is None else f"{b:.6f}", "" if a is None or b is None else f"{1e3 * (a - b):.3f}"]
        table.add_row(*cells)

    near = range(found.n_occupied - 8, found.n_occupied + 8)
    names = {found.n_occupied - 1: " (HOMO)", found.n_occupied: " (LUMO)"}
    for k, energy in enumerate(found.energies.tolist()):
        if all_levels or k in near:
            other = None if dft is None or k >= len(dft.energies) else float(dft.energies[k])
            row(f"{k + 1}{names.get(k, '')}", full if k < found.n_occupied else "0", energy, other)
    table.add_section()
    row("gap", "", found.gap, None if dft is None else dft.gap)
    return table
