"""Fits the regression to training samples, with leave-one-group-out predictions."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit
from harmose.kernel_regression.training import Training
from harmose.representation.block_irreps import Coefficients, map_coefficients


def _ignore(_: float) -> None:
    pass


def fit_regression(
    training: Training,
    kind: Literal["kernel", "pairs"] = "kernel",
    seed: int = 0,
    advance: Callable[[float], None] = _ignore,
) -> tuple[KernelRegression, Coefficients]:
    """Fit the regression; return it with its leave-one-group-out predictions of the training samples in eV.

    The kind "pairs" fits only functions of the distance and the mean of on-site scalars. `seed`: of the draw of sparse points.
    `advance` is called with the fraction of coefficients that are fitted.
    """
    oriented, space, targets = training.oriented, training.space, training.coefficients
    graph = Neighbourhoods(space, oriented, training.charges, settings=training.settings)
    if training.charges is not None:
        graph.mean_density = mean_density(graph, training.charges)
    generator, pairs, onsite, done = np.random.default_rng(seed), {}, {}, 0
    total = max(sum(x.numel() for part in (targets.pairs, targets.onsite) for x in part.values()), 1)
    leave_one_out = map_coefficients(torch.zeros_like, targets)
    for group, members in oriented.pairs.items():
        for pair_type, rows in rows_by_key(oriented.pair_type[members]):
            y = targets.pairs[group].numpy()[rows]
            fit = PairFit(graph, training, pair_type, space.pair_layout(group), members[rows], y)
            pairs[pair_type], predicted = fit.run(kind, generator)
            leave_one_out.pairs[group][rows] = torch.as_tensor(predicted)
            done += y.size
            advance(done / total)
    for shell_type, atoms in oriented.atoms.items():
        for species, rows in rows_by_key(oriented.species[atoms]):
            y = targets.onsite[shell_type].numpy()[rows]
            onsite[species], predicted = AtomFit(graph, training, shell_type, atoms[rows], y).run(kind, generator)
            leave_one_out.onsite[shell_type][rows] = torch.as_tensor(predicted)
            done += y.size
            advance(done / total)
    return KernelRegression(space, pairs, onsite, graph.mean_density), leave_one_out
