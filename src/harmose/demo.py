"""`harmose demo`: a small example of everything: DFT, training, the table of errors, a prediction, DFT in fewer cycles.

All results are in one folder. A second run in the same folder reuses labels and resumes the training.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write as write_structures
from dask.system import CPU_COUNT
from rich.console import Console
from rich.table import Table

from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ConfigError, LabellingError
from harmose.evaluate.evaluation import Evaluation
from harmose.evaluate.figure_data import FigureData
from harmose.evaluate.metrics import evaluate, mean_absolute
from harmose.evaluate.predictions import evaluate_rotations, predict_samples
from harmose.evaluate.report import terminal_table, typical_name, write_report
from harmose.inference.checkpoint import Model, load
from harmose.io.files import write
from harmose.label.label import PySCFSettings, label, sample_name
from harmose.physics.eigen import MolecularOrbitals, molecular_orbitals
from harmose.scf.initial_guess import ScfComparison, compare_scf
from harmose.so3.wigner import random_rotation
from harmose.train.config import TrainConfig, load_config
from harmose.train.engine import train
from harmose.units import MICRO_HARTREE

N_STEPS = 6
ROTATED_SAMPLES, ROTATIONS = 4, 2
"""Number of test samples, and of random rotations of each, for the rotation error."""


GAINS = {"stage 1": ("regression", "stage1"), "stage 2": ("stage1", "full")}
"""Each stage of the network, with the stage before it."""
LITTLE = 0.05
"""A smaller reduction of the error by stage 2 is little."""


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demo. O-H distances (angstrom) and the angle (degrees) of water are drawn from the given ranges.

    `overrides` change the packaged configuration (`demo.yaml`), as on the command line of `harmose train`.
    """

    labels: PySCFSettings = field(default_factory=PySCFSettings)
    n_train: int = 120
    n_val: int = 12
    n_test: int = 24
    distances: tuple[float, float] = (0.86, 1.14)
    angles: tuple[float, float] = (84.0, 126.0)
    new_geometry: tuple[float, float, float] = (1.11, 0.89, 88.0)
    """Distances and angle of the geometry that is predicted at the end."""
    workers: int = min(CPU_COUNT, 4)
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """Results of the demo; `predicted` and `dft` are orbitals of the new geometry."""

    evaluation: Evaluation
    predicted: MolecularOrbitals
    dft: MolecularOrbitals
    scf: ScfComparison


def run(out: Path, console: Console, settings: DemoSettings | None = None) -> Results:
    """Run the demo in the folder `out` and print its progress; about four minutes on two cores.

    Raises `ConfigError` if `out` is not empty and not the folder of an earlier demo.
    """
    settings = settings or DemoSettings()
    begin = time.monotonic()
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    _label(out, settings, console)
    _train(out, settings, console)
    model = load(out / "model")
    evaluation = _evaluate(out, model, console)
    new = _label_new(out, settings, console)
    predicted, dft = _predict(out, model, new, console)
    comparison = _converge(model, new.structure, console)
    _close(out, time.monotonic() - begin, console)
    return Results(evaluation, predicted, dft, comparison)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: expected a folder for the demo, got a file")
    if out.exists() and any(out.iterdir()) and not (out / "water" / "data.mdb").is_file():
        raise ConfigError(f"{out}: expected a new or empty folder, or that of an earlier demo; it holds something else")


def _label(out: Path, settings: DemoSettings, console: Console) -> None:
    """Label geometries, and split them into test, validation and training samples."""
    structures = geometries(settings)
    with _step(1, "Labels from real DFT", console):
        made_by = f"PySCF, {settings.labels.functional}/{settings.labels.basis}, {settings.workers} processes"
        console.print(f"{len(structures)} geometries of water, stretched and bent at random\n{made_by}")
        summary = label(structures, out / "water", settings.labels, settings.workers, console=console)
        reused = f", {summary.reused} of them from an earlier run" if summary.reused else ""
        console.print(f"{summary.finished + summary.reused} labelled{reused}, {len(summary.failed)} left out")
    names = [name for atoms in structures if (name := sample_name(atoms, settings.labels)) not in summary.failed]
    parts = np.split(np.array(names), np.cumsum([settings.n_test, settings.n_val]))
    with Store.open(out / "water", writable=True) as store:
        store.set_splits({name: part.tolist() for name, part in zip(("test", "val", "train"), parts, strict=True)})


def _train(out: Path, settings: DemoSettings, console: Console) -> None:
    with _step(2, "Training: regression, stage 1, stage 2", console):
        console.print("first a kernel regression, solved by linear algebra; then, on what it leaves,")
        console.print("stage 1: an equivariant network; stage 2: a graph Transformer; then both together")
        train(training(out, settings), console)


def _evaluate(out: Path, model: Model, console: Console) -> Evaluation:
    with _step(3, "Evaluation on held-out geometries", console):
        with Store.open(out / "water") as store:
            samples = [store[name] for name in store.splits["test"]]
        predictions = predict_samples(model, samples)
        rotations = evaluate_rotations(model, samples[:ROTATED_SAMPLES], ROTATIONS)
        data = FigureData()
        evaluation = evaluate(data.watch(predictions), rotations)
        console.print(terminal_table(evaluation))
        console.print("[dim]The rotation error is rounding error: all parts of the model are equivariant.[/]")
        console.print(what_networks_did(evaluation), highlight=False)
        history = out / "model" / "metrics.csv"
        name = typical_name(evaluation)
        typical = next(prediction for prediction in predictions if prediction.sample.name == name)
        write_report(out / "report.html", evaluation, data, typical, history, model.card, title="harmose demo: water")
    return evaluation


def what_networks_did(evaluation: Evaluation) -> str:
    """Say in words how much each stage of the network lowers the error of what comes before it."""
    mae = {stage: errors.mae for stage, errors in evaluation.stages.items()}
    gains = {
        name: 1 - mae[stage] / mae[before] for name, (before, stage) in GAINS.items() if {before, stage} <= set(mae)
    }
    parts = [f"{name} {'lowers' if gain > 0 else 'raises'} it by {abs(gain):.0%}" for name, gain in gains.items()]
    said = f"The regression alone has a mean error of {mae['regression'] / MICRO_HARTREE:.2g} µEh; {', '.join(parts)}."
    if gains.get("stage 2", 1.0) >= LITTLE:
        return said
    return (
        f"{said}\n120 geometries and two minutes are too few for stage 2: from 800 geometries and a quarter of an hour it lowers the "
        f"error of stage 1 by a quarter (docs/results.md)."
    )


def _label_new(out: Path, settings: DemoSettings, console: Console) -> Sample:
    """DFT of a geometry that is in no split, to compare its prediction with."""
    with _step(4, "A new geometry", console):
        atoms = water(*settings.new_geometry)
        write_structures(out / "unseen.xyz", atoms)
        summary = label([atoms], out / "unseen", settings.labels, workers=1)
        if summary.failed:
            raise LabellingError(f"{out / 'unseen.xyz'}: {next(iter(summary.failed.values()))}")
        first, second, angle = settings.new_geometry
        console.print(f"O-H {first:.2f} and {second:.2f} angstrom, {angle:.0f} degrees; DFT for comparison: done")
    with Store.open(out / "unseen") as store:
        return store[sample_name(atoms, settings.labels)]


def _predict(out: Path, model: Model, new: Sample, console: Console) -> tuple[MolecularOrbitals, MolecularOrbitals]:
    """Write the prediction; return its orbitals and those of DFT."""
    with _step(5, "Prediction: Hamiltonian, orbital energies, gap", console):
        started = time.perf_counter()
        h = model.predict(new.structure)
        seconds = time.perf_counter() - started
        (out / "unseen.npz").unlink(missing_ok=True)
        provenance = {"kind": "prediction", "model": str(out / "model")}
        predicted_sample = replace(
            new, name="unseen", hamiltonian=h, prior=None, energy=None, orbital_energies=None, provenance=provenance
        )
        write(out / "unseen.npz", predicted_sample)
        error = mean_absolute(h - new.hamiltonian) / MICRO_HARTREE
        size = f"{h.n_orbitals} x {h.n_orbitals}"
        dft_seconds = new.provenance["seconds"]
        console.print(f"H ({size}) in {1e3 * seconds:.0f} ms; DFT took {dft_seconds:.1f} s")
        console.print(f"mean absolute error of H: {error:.1f} µEh")
        n_electrons = 2.0 * new.n_occupied
        predicted, dft = (molecular_orbitals(m, new.overlap, n_electrons) for m in (h, new.hamiltonian))
        console.print(_orbital_table(predicted, dft))
    return predicted, dft


def _converge(model: Model, atoms: Atoms, console: Console) -> ScfComparison:
    with _step(6, "DFT that starts from the prediction", console):
        result = compare_scf(model, atoms)
        console.print(
            f"PySCF converges in {result.cycles_predicted} cycles; from its guess minao, in {result.cycles_minao}: "
            f"[bold]{result.cycles_saved} saved[/]\nThe two energies differ by {result.energy_difference:.0e} Ha"
        )
    return result


def _close(out: Path, seconds: float, console: Console) -> None:
    console.rule(f"[bold]Done in {seconds / 60:.1f} minutes", align="left", style="dim")
    width = max(len(str(out / name)) for name in OUTPUTS)
    for name, text in OUTPUTS.items():
        console.print(f"{out / name!s:{width}}  {text}", markup=False, soft_wrap=True)
    model, structure = out / "model", out / "unseen.xyz"
    console.print("\nTry next:")
    for command in (
        f"harmose orbitals {model} {structure} --reference {out / 'unseen'}",
        f"harmose scf {model} {structure}",
        f"harmose train {out / 'train.yaml'} data={out / 'water'} out={out / 'longer'} time_limit=20min",
        "harmose label --help",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)


OUTPUTS = {
    "report.html": "tables and figures, for a browser",
    "water": "store of the labels (harmose data ls)",
    "model": "the model, for harmose.load and all commands",
    "train.yaml": "configuration of the training, with an explanation of every key",
    "unseen.xyz": "the new geometry",
    "unseen.npz": "its predicted H, with S",
    "unseen": "its DFT result, a store",
}
"""Files and folders that the demo writes."""


def geometries(settings: DemoSettings) -> list[Atoms]:
    """Water molecules with random distances, angle (uniform in their ranges) and rotation; always the same."""
    generator = np.random.default_rng(0)
    n = settings.n_train + settings.n_val + settings.n_test
    drawn = (generator.uniform(*settings.distances, n), generator.uniform(*settings.distances, n))
    structures = [water(*internal) for internal in zip(*drawn, generator.uniform(*settings.angles, n), strict=True)]
    for atoms in structures:
        atoms.positions = atoms.positions @ random_rotation(generator).T
    return structures


def water(first: float, second: float, angle: float) -> Atoms:
    """A water molecule with these O-H distances (angstrom) and this angle (degrees)."""
    radians = np.radians(angle)
    return Atoms("OHH", [(0, 0, 0), (first, 0, 0), (second * np.cos(radians), second * np.sin(radians), 0)])


def training(out: Path, settings: DemoSettings) -> TrainConfig:
    """The packaged configuration with the folders of this demo; a copy of it is written to train.yaml."""
    copy = out / "train.yaml"
    copy.write_text(resources.files("harmose").joinpath("demo.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return load_config(copy, [f"data={out / 'water'}", f"out={out / 'model'}", *settings.overrides])


def _orbital_table(predicted: MolecularOrbitals, dft: MolecularOrbitals) -> Table:
    """Occupied orbital energies, LUMO and gap, in eV."""
    table = Table("orbital", "predicted (eV)", "DFT (eV)", "difference (meV)")
    for column in table.columns[1:]:
        column.justify = "right"
    n = dft.n_occupied
    names = {n - 1: f"{n} (HOMO)", n: f"{n + 1} (LUMO)"}
    rows = [(names.get(k, str(k + 1)), predicted.energies[k], dft.energies[k]) for k in range(n + 1)]
    gaps = (predicted.gap, dft.gap)
    for name, a, b in [*rows, ("gap", *gaps)]:
        table.add_row(name, f"{a:.6f}", f"{b:.6f}", f"{1e3 * (a - b):+.3f}", end_section=name.endswith("(LUMO)"))
    return table


@contextmanager
def _step(number: int, title: str, console: Console) -> Iterator[None]:
    """Print a heading before the block, and its time after it."""
    console.rule(f"[bold]{number}/{N_STEPS}  {title}", align="left", style="dim")
    started = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - started:.1f} s[/]\n")
