"""Errors of a model on scans far beyond its training set: a table, a picture, and checks that no stage makes it worse.

    python benchmarks/scan_structures.py FOLDER
    harmose label FOLDER/water.xyz STORE --functional pbe --basis def2-svp --max-cycle 200 --skip-bad
    python benchmarks/scans.py water-pbe-def2svp STORE --scans water --median 0.11 --out scans-water
    python benchmarks/scans.py --from scans-water.jsonl --median 0.11 --out scans-water     # without predicting again

Labels are found by their geometry. Structures without a label, and those that the model refuses, are counted and listed.
Writes NAME.jsonl (one line for each structure), NAME.md and NAME.png, and prints the tables. `--median` is the median
error of the model's test set, in micro-Hartree (crystals: meV); errors above ten times that should be flagged.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from scan_structures import SETS
from scans_picture import draw
from scans_report import Point, read_points, report, write_points

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import FormatError, HarmoseError
from harmose.evaluate.style import png
from harmose.inference.model import Model
from harmose.label import settings_for
from harmose.label.label import sample_name
from harmose.spin import absolute
from harmose.train.start import check_kind_of_prior

BATCH, BATCH_PAIRS = 50, 20_000
"""Largest numbers of structures, and of their pairs of atoms, that are predicted together."""
SAME_PLACE = 1e-5
"""Angstrom. Two geometries are the same if no coordinate differs by more; files of structures have eight decimals."""


LISTED = 20
"""Largest number of unflagged structures that are printed; NAME.md has them all."""


class Prediction(NamedTuple):
    """Predicted H by stage, and the text of the warning `OutsideDomain`, empty inside the training domain."""

    stages: dict[str, BlockMatrix]
    warning: str


class Refusal(NamedTuple):
    """Why there is no prediction; `status` as in `Point`."""

    status: str
    reason: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="name or folder of a model")
    parser.add_argument("store", nargs="?", type=Path, help="store of the labels")
    parser.add_argument("--scans", choices=SETS, help="the set of structures that the store has labels of")
    parser.add_argument("--from", dest="rows", type=Path, help="rows of an earlier run, instead of a model and a store")
    parser.add_argument("--median", type=float, help="median error of the test set in micro-Hartree (crystals: meV)")
    parser.add_argument("--out", type=Path, default=Path("scans"), metavar="NAME", help="name of the files to write")
    options = parser.parse_args()
    if (options.rows is None) == (None in (options.model, options.store, options.scans)):
        parser.error("expected either MODEL, STORE and --scans, or --from")
    try:
        points = read_points(options.rows) if options.rows else evaluate(options.model, options.store, options.scans)
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_points(points, Path(f"{options.out}.jsonl"))
    Path(f"{options.out}.md").write_text(report(points, options.median), encoding="utf-8")
    Path(f"{options.out}.png").write_bytes(png(draw(points, options.median)))
    print(report(points, options.median, LISTED))
    return 0


def evaluate(model_name: str, store_path: Path, scans: str) -> list[Point]:
    """All structures of the scans `scans`, with the errors of every stage of the model."""
    torch.set_num_threads(1)
    model, structures = harmose.load(model_name), list(SETS[scans]())
    with Store.open(store_path) as store:
        check_settings(model, store)
        samples, failures = find_labels(structures, list(store)), dict(store.failures)
        names = label_names(structures, store)
    labelled = [model.card.target.sample(sample) for sample in samples if sample is not None]
    if not labelled:
        raise FormatError(f"{store_path}: expected labels of the scans {scans}, got none")
    outcomes = predict_all(model, labelled)
    points = []
    for atoms, sample, name in zip(structures, samples, names, strict=True):
        known = {
            "model": Path(model_name).name,
            "scans": scans,
            **{key: atoms.info[key] for key in ("scan", "x", "name")},
            "formula": atoms.get_chemical_formula(),
            "unit": "meV" if model.card.periodic else "uEh",
        }
        if sample is None:
            reason = failures.get(name)
            status = "no label" if reason is None else "failed in DFT"
            points.append(Point(**known, status=status, reason=reason or "not in the store"))
        else:
            points.append(measured(known, *next(outcomes)))
    return points


def check_settings(model: Model, store: Store) -> None:
    """Raise `FormatError` or `ModelError` for labels of another functional, basis set or kind of H0 than the model's."""
    for key in ("functional", "basis"):
        expected, got = model.card.settings.get(key), store.metadata.get(key)
        if None not in (expected, got) and expected != got:
            raise FormatError(f"{store.path}: expected labels with the model's {key} {expected}, got {got}")
    check_kind_of_prior(model.card, store)


def find_labels(structures: Sequence[Atoms], samples: Sequence[Sample]) -> list[Sample | None]:
    """The sample with the geometry of each structure, or None."""
    alike: dict[bytes, list[Sample]] = {}
    for sample in samples:
        alike.setdefault(_kind(sample.structure), []).append(sample)
    places = {kind: np.stack([_coordinates(s.structure) for s in found]) for kind, found in alike.items()}
    out: list[Sample | None] = []
    for atoms in structures:
        kind = _kind(atoms)
        shifts = np.abs(places[kind] - _coordinates(atoms)).max(axis=1) if kind in alike else np.array([np.inf])
        nearest = int(shifts.argmin())
        out.append(alike[kind][nearest] if shifts[nearest] < SAME_PLACE else None)
    return out


def _kind(atoms: Atoms) -> bytes:
    return atoms.numbers.astype(np.int64).tobytes() + atoms.pbc.tobytes()


def _coordinates(atoms: Atoms) -> np.ndarray:
    """Positions, and the lattice vectors of periodic directions, as one array."""
    return np.concatenate([atoms.positions.ravel(), (atoms.cell.array * atoms.pbc[:, None]).ravel()])


def label_names(structures: Sequence[Atoms], store: Store) -> list[str]:
    """The names that `harmose label` gave the structures of this store, under which it keeps why one failed."""
    metadata = store.metadata
    try:
        settings = settings_for(str(metadata.get("code")), {k: v for k, v in metadata.items() if k != "code"})
    except (HarmoseError, TypeError):  # labels of another source
        return [""] * len(structures)
    return [sample_name(_as_written(atoms), settings) for atoms in structures]


def _as_written(atoms: Atoms) -> Atoms:
    """The structure with coordinates as in a file."""
    return Atoms(atoms.numbers, atoms.positions.round(8), cell=atoms.cell.array.round(8), pbc=atoms.pbc)


def predict_all(model: Model, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Prediction | Refusal]]:
    """Predict all samples in batches."""
    done = 0
    for batch in batches(samples):
        yield from zip(batch, predict(model, batch), strict=True)
        done += len(batch)
        print(f"{done} of {len(samples)} predicted", file=sys.stderr, flush=True)


def batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Consecutive samples, at most `BATCH` and, unless there is one, with at most `BATCH_PAIRS` pairs."""
    batch: list[Sample] = []
    for sample in samples:
        pairs = sum(len(s.hamiltonian.pairs) for s in [*batch, sample])
        if batch and (len(batch) == BATCH or pairs > BATCH_PAIRS):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def predict(model: Model, samples: Sequence[Sample]) -> list[Prediction | Refusal]:
    """Predict samples together; if the model refuses one of them, each half by itself."""
    structures, priors = [s.structure for s in samples], [s.prior for s in samples]
    try:
        with np.errstate(all="ignore"):
            done = model._predict(
                structures, priors, model.all_stages, None
            )  # the public methods do not say who is flagged
    except Exception as error:
        if len(samples) > 1:
            half = len(samples) // 2
            return [*predict(model, samples[:half]), *predict(model, samples[half:])]
        if isinstance(error, HarmoseError):
            return [Refusal("refused", str(error))]
        return [Refusal("crashed", f"{type(error).__name__}: {error}")]
    out: list[Prediction | Refusal] = []
    for k, (sample, scores) in enumerate(zip(samples, done.scores, strict=True)):
        stages = {name: matrices[k] for name, matrices in done.stages.items()}
        if model.card.needs_prior and sample.prior is not None:
            stages.setdefault("prior", sample.prior)
        out.append(Prediction(stages, scores.describe() if scores.outside else ""))
    return out


def measured(known: dict, sample: Sample, outcome: Prediction | Refusal) -> Point:
    """The row of a structure: errors, largest elements, and if it is flagged."""
    if isinstance(outcome, Refusal):
        return Point(**known, status=outcome.status, reason=outcome.reason)
    try:
        errors = {stage: mean_error(h, sample.hamiltonian) for stage, h in outcome.stages.items()}
    except HarmoseError as error:  # labels with other pairs of atoms
        return Point(**known, status="refused", reason=str(error))
    return Point(
        **known,
        status="predicted",
        flagged=bool(outcome.warning),
        reason=outcome.warning,
        errors=errors,
        largest={stage: largest_element(h) for stage, h in outcome.stages.items()},
        largest_label=largest_element(sample.hamiltonian),
    )


def mean_error(predicted: BlockMatrix, dft: BlockMatrix) -> float:
    """Mean absolute error of all elements of H in eV; infinite for a prediction that is not finite."""
    with np.errstate(all="ignore"):
        difference = absolute((predicted - dft).values).mean(axis=0)
        weights = np.repeat(dft.multiplicity, np.diff(dft.offsets))
        return _finite(np.average(difference, weights=weights))


def largest_element(h: BlockMatrix) -> float:
    """Largest absolute element in eV; infinite where one is not finite."""
    return _finite(np.abs(h.values).max())


def _finite(x: float) -> float:
    return float(x) if np.isfinite(x) else float("inf")


if __name__ == "__main__":
    sys.exit(main())
