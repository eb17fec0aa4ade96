"""Fits the closed-form part of stage 1 (`regression`) to training samples, and says what it predicts of each unseen."""

from collections.abc import Callable

import numpy as np
import torch

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit
from harmose.kernel_regression.training import Training
from harmose.representation.block_irreps import Coefficients


def _quiet(_: float) -> None:
    pass


def fit_regression(
    training: Training, many_body: bool = True, seed: int = 0, advance: Callable[[float], None] = _quiet
) -> tuple[KernelRegression, Coefficients]:
    """The fit in closed form, and its predictions in eV of each training sample by a fit to all the others.

    Without `many_body` only functions of the pair's distance and the mean of on-site scalars are fitted. `advance` is told
    which fraction of the coefficients is done.
    """
    oriented, space = training.oriented, training.space
    graph, generator = Neighbourhoods(space, oriented, training.charges), np.random.default_rng(seed)
    if training.charges is not None:
        graph.mean_density = mean_density(graph, training.charges)
    pairs, onsite, done = {}, {}, 0
    both = (training.coefficients.pairs, training.coefficients.onsite)
    total = max(sum(x.numel() for part in both for x in part.values()), 1)
    unseen = Coefficients(
        {g: torch.zeros_like(x) for g, x in training.coefficients.pairs.items()},
        {s: torch.zeros_like(x) for s, x in training.coefficients.onsite.items()},
    )
    for group, members in oriented.members.items():
        for pair_type, rows in rows_by_key(oriented.pair_type[members]):
            targets = training.coefficients.pairs[group].numpy()[rows]
            fit = PairFit(graph, training, pair_type, space.pair_layout(group), members[rows], targets)
            pairs[pair_type], left_out = fit.run(many_body, generator)
            unseen.pairs[group][rows] = torch.as_tensor(left_out)
            done += targets.size
            advance(done / total)
    for shell_type, atoms in oriented.atoms.items():
        for species, rows in rows_by_key(oriented.species[atoms]):
            targets = training.coefficients.onsite[shell_type].numpy()[rows]
            fit = AtomFit(graph, training, shell_type, atoms[rows], targets)
            onsite[species], left_out = fit.run(many_body, generator)
            unseen.onsite[shell_type][rows] = torch.as_tensor(left_out)
            done += targets.size
            advance(done / total)
    return KernelRegression(space, pairs, onsite, graph.mean_density), unseen
