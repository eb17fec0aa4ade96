"""Times of a prediction and of the steps of its pipeline (`harmose.inference.pipeline`)."""

from collections.abc import Sequence

from ase import Atoms

from harmose.bench.timing import BenchmarkLimits, Clock, Stopwatch, Timing, measure, now
from harmose.core.blocks import BlockMatrix
from harmose.inference.model import Model
from harmose.inference.pipeline import Watch, no_watch

STEPS = {
    "graph": "neighbour list, graph",
    "frames": "edge frames",
    "stage1": "network, stage 1",
    "stage2": "network, stage 2",
    "regression": "regression",
    "blocks": "blocks",
    "complete": "H0, Fermi level",
}
"""Steps of a prediction in their order, with titles for tables."""


def predict(
    model: Model,
    structures: Sequence[Atoms],
    priors: Sequence[BlockMatrix | None],
    watch: Watch = no_watch,
    fermi_level: bool = True,
) -> list[BlockMatrix]:
    """`model.predict_many` without the check of the training domain, and without the Fermi level if it is False."""
    zero = None if fermi_level or model.card.energy_zero != "fermi_of_prediction" else "labels"
    inputs = model.inputs(structures, priors, zero, watch)
    matrices = model.evaluate(inputs, model.outputs(inputs.batch, ("full",), watch), watch)["full"]
    with watch("complete"):
        return model.complete(matrices, inputs.structures, inputs.priors, inputs.overlaps, zero)


def time_steps(
    model: Model,
    structures: Sequence[Atoms],
    priors: Sequence[BlockMatrix | None],
    limits: BenchmarkLimits,
    fermi_level: bool = True,
    clock: Clock = now,
) -> tuple[dict[str, Timing], Timing]:
    """Times of each of `STEPS`, and of all together."""
    watches: list[Stopwatch] = []

    def run() -> None:
        watches.append(Stopwatch(clock))
        predict(model, structures, priors, watches[-1], fermi_level)

    whole = measure(run, limits, clock)
    repeats = watches[-whole.repeats :]
    steps = [step for step in STEPS if all(step in watch.seconds for watch in repeats)]
    return {step: Timing.of([watch.seconds[step] for watch in repeats]) for step in steps}, whole
