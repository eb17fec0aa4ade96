"""`harmose evaluate`: errors of a model on labelled samples."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from harmose.cli.inputs import check_labels, split_names
from harmose.cli.options import (
    ForceOption,
    ModelArgument,
    StoreArgument,
    check_output,
    error_prefix,
    examples,
    new_app,
    new_output,
    progress,
    terminal,
)
from harmose.data.store import Store
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.figure_data import FigureData
from harmose.evaluate.metrics import RotationError
from harmose.evaluate.metrics import evaluate as compute_metrics
from harmose.evaluate.predictions import check_network_alone, evaluate_rotations, predict_samples
from harmose.evaluate.report import terminal_table, typical_name, write_report
from harmose.inference import checkpoint
from harmose.inference.model import Model
from harmose.train.dataset import chunks

ROTATED_SAMPLES = 4
"""Number of samples whose structures are rotated for the rotation error."""

app = new_app()


@app.command(epilog=examples("harmose evaluate runs/water water --split val --out runs/water/evaluation"))
def evaluate(
    model: ModelArgument,
    store: StoreArgument,
    split: Annotated[
        str | None, typer.Option(help="Split to evaluate on.  [default: test, else val, else all]")
    ] = None,
    network_alone: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A second model, trained with `regression: none`, for one more column."),
    ] = None,
    unit: Annotated[
        Literal["uEh", "meV", "eV", "Ha"] | None,
        typer.Option(help="Unit of energies.  [default: uEh (micro-Hartree); crystals: meV]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and report.html.")] = None,
    max_samples: Annotated[int | None, typer.Option(min=1, help="Use at most this many samples of the split.")] = None,
    rotations: Annotated[
        int, typer.Option(min=0, help="Number of random rotations for the rotation error; 0: no rotation error.")
    ] = 4,
    force: ForceOption = False,
) -> None:
    """Print the errors of a model on a store: of the regression, with stage 1, and with stage 2 (docs/metrics.md)."""
    files = [] if out is None else [out / "evaluation.json", out / "report.html"]
    for file in files:
        if file.exists():
            check_output(file, force)
    console = terminal()
    with Store.open(store) as opened:
        whole = checkpoint.load(model)
        check_labels(whole.card, opened)
        alone = None if network_alone is None else checkpoint.load(network_alone)
        if alone is not None:
            check_labels(alone.card, opened)
            check_network_alone(alone, whole)
        names = split_names(opened, split)[:max_samples]
        rotation_errors = _rotate(whole, alone, opened, names, rotations)
        data = FigureData()
        predictions = progress(_predict(whole, alone, opened, names), "predicting", len(names), console)
        result = compute_metrics(data.watch(predictions), rotation_errors)
        [typical] = [None] if out is None else _predict(whole, alone, opened, [typical_name(result)])
    shown_unit = unit or ("meV" if data.periodic else "uEh")
    console.print(terminal_table(result, shown_unit))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        log = Path(model) / "metrics.csv"
        history = log if log.is_file() else None
        with new_output(files[0], force) as hidden:
            hidden.write_text(result.to_json())
        with new_output(files[1], force) as hidden:
            title = f"{Path(model).name} on {store.name}"
            write_report(hidden, result, data, typical, history, whole.card, shown_unit, title)
        console.print(f"{files[1]}", markup=False, soft_wrap=True)


def _rotate(
    model: Model, network_alone: Model | None, store: Store, names: Sequence[str], rotations: int
) -> dict[str, RotationError]:
    with error_prefix(store.path):
        samples = [store[name] for name in names[:ROTATED_SAMPLES]] if rotations else []
        return evaluate_rotations(model, samples, rotations, network_alone)


def _predict(model: Model, network_alone: Model | None, store: Store, names: Sequence[str]) -> Iterator[Prediction]:
    for samples in chunks(store, names):
        with error_prefix(store.path):
            predictions = deque(predict_samples(model, samples, network_alone))
        del samples
        while predictions:  # those of one pass do not wait for the next
            yield predictions.popleft()
