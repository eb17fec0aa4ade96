"""Fits the closed-form part of stage 1 (`regression`) to training samples, and says what it predicts of each unseen."""

from collections.abc import Callable

import numpy as np
import torch

from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.expansion import by_value
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.normalizer import fit_scales
from harmose.kernel_regression.pair_fit import PairFit
from harmose.kernel_regression.training import Training
from harmose.kernel_regression.training_domain import TrainingDomain, features, fit_training_domain
from harmose.representation.block_irreps import Coefficients, map_coefficients


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
        for kind, rows in by_value(oriented.kind[members]):
            targets = training.coefficients.pairs[group].numpy()[rows]
            fit = PairFit(graph, training, kind, space.pair_layout(group), members[rows], targets)
            pairs[kind], left_out = fit.run(many_body, generator)
            unseen.pairs[group][rows] = torch.as_tensor(left_out)
            done += targets.size
            advance(done / total)
    for signature, atoms in oriented.atoms.items():
        for species, rows in by_value(oriented.species[atoms]):
            targets = training.coefficients.onsite[signature].numpy()[rows]
            fit = AtomFit(graph, training, signature, atoms[rows], targets)
            onsite[species], left_out = fit.run(many_body, generator)
            unseen.onsite[signature][rows] = torch.as_tensor(left_out)
            done += targets.size
            advance(done / total)
    left = map_coefficients(lambda target, found: target - found, training.coefficients, unseen)
    scales = fit_scales(space, oriented, left)
    return KernelRegression(space, pairs, onsite, *scales, _familiar(graph, training), graph.mean_density), unseen


def _familiar(graph: Neighbourhoods, training: Training) -> dict[int, TrainingDomain]:
    """The surroundings of each species."""
    found = {}
    for species, atoms in by_value(training.oriented.species):
        statistics = fit_training_domain(features(graph, atoms), training.atom_sample[atoms])
        found |= {} if statistics is None else {species: statistics}
    return found
