"""`harmose calibrate`: fit the error bounds of a trained model."""

from typing import Annotated

import typer

from harmose.cli.inputs import check_labels, split_names
from harmose.cli.options import ModelArgument, StoreArgument, examples, new_app, terminal
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.inference import checkpoint
from harmose.train.calibrate import calibrated_on
from harmose.train.start import check_kind_of_prior

app = new_app()


@app.command(epilog=examples("harmose calibrate runs/water water --split val"))
def calibrate(
    model: ModelArgument,
    store: StoreArgument,
    split: Annotated[str, typer.Option(help="Split to calibrate on. Must not overlap the training split.")] = "val",
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Also use training samples, each predicted by a fit that leaves it out. For few held-out samples.",
        ),
    ] = False,
) -> None:
    """Fit the error bounds of a trained model to held-out samples. `harmose train` does this at its end."""
    with Store.open(store) as opened:
        loaded = checkpoint.load(model)
        check_labels(loaded.card, opened)
        check_kind_of_prior(loaded.card, opened)
        training = opened.splits.get("train")
        if not training:
            raise FormatError(
                f"{store}: the store has no split train; calibration needs it to exclude training samples"
            )
        calibrated = calibrated_on(loaded, opened, training, split_names(opened, split), refit)
    checkpoint.save(calibrated, checkpoint.located(model))
    summary = calibrated.card.calibration
    left_out = summary["left_out_training_samples"]
    more = f" and {left_out} left-out training samples" if left_out else ""
    highest = summary["highest_confidence"]
    bounds = "too few for any bound" if highest is None else f"bounds up to {100 * highest:g} % confidence"
    text = (
        f"{model}: calibrated on {summary['samples']} samples{more}, {summary['groups']} of them independent: {bounds}"
    )
    terminal().print(text, markup=False, soft_wrap=True)
