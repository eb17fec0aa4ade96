"""A prediction taken apart: what `Model.predict` does, with a stopwatch between its steps."""

from collections.abc import Sequence

import torch
from ase import Atoms

from harmose.bench.timing import Patience, Stopwatch, Timing, measure
from harmose.core.blocks import BlockMatrix
from harmose.inference.model import Model, ModelInput
from harmose.nn.two_stage import add
from harmose.representation.block_irreps import to_matrix
from harmose.representation.concatenation import denormalize

PARTS = {
    "graph": "neighbour list, graph",
    "frames": "frames of the edges",
    "stage1": "network, stage 1",
    "stage2": "network, stage 2",
    "closed form": "closed form",
    "blocks": "blocks",
    "level": "Fermi level or H0",
}
"""In the order of work; titles for tables."""


def predicted(
    model: Model,
    structures: Sequence[Atoms],
    priors: Sequence[BlockMatrix | None],
    watch: Stopwatch,
    level: bool = True,
) -> list[BlockMatrix]:
    """`model.predict_many(structures, priors)`, bit for bit; without `level` a model that finds the Fermi level leaves it out."""
    with watch("graph"):
        asked = ModelInput(model, structures, priors)
        concatenated = asked.concatenated
    with watch("frames"):
        batch = asked.batch
    with torch.inference_mode():
        with watch("stage1"):
            first = model.network.stage1(batch)
        with watch("stage2"):
            found = add(first.h1, model.network.stage2(batch, first))
    with watch("closed form"):
        values = model.regression.values(concatenated.oriented, asked.electrons)
        scales = model.regression.scales(concatenated.oriented)
    with watch("blocks"):
        restored = denormalize(found, values, scales)
        matrices = concatenated.split(
            to_matrix(model.regression.space, restored, concatenated.graph, concatenated.oriented), asked.graphs
        )
    if model.card.energy_zero == "fermi_of_prediction" and not level:
        return matrices
    overlaps = asked.overlaps if model.card.overlap_filter else None
    given = asked.priors if model.card.needs_prior else [None] * len(structures)
    with watch("level"):
        return model.completed(matrices, structures, given, overlaps)


def time_parts(
    model: Model,
    structures: Sequence[Atoms],
    priors: Sequence[BlockMatrix | None],
    patience: Patience,
    level: bool = True,
) -> tuple[dict[str, Timing], Timing]:
    """Of each of `PARTS`, and of all of them together."""
    watch = Stopwatch()
    whole = measure(lambda: predicted(model, structures, priors, watch, level), patience)
    return watch.timings(whole.repeats), whole
