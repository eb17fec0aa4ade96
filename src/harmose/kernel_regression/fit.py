"""Fits the regression to training samples, with leave-one-group-out predictions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.atom_fit import AtomFit
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.fading import NO_FADE, Fade, fit_fade, with_strength
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.model import FadedValues, KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit
from harmose.kernel_regression.training import Training
from harmose.representation.block_irreps import map_coefficients


@dataclass(frozen=True)
class Regressions:
    """Regressions and fades that have been fitted, as in `KernelRegression`."""

    pairs: dict[int, PairRegression] = field(default_factory=dict)
    onsite: dict[int, AtomRegression] = field(default_factory=dict)
    distances: dict[int, PairRegression] = field(default_factory=dict)
    pair_fades: dict[int, Fade] = field(default_factory=dict)
    distance_fades: dict[int, Fade] = field(default_factory=dict)
    onsite_fades: dict[int, Fade] = field(default_factory=dict)


def _ignore(_: float) -> None:
    pass


def fit_regression(
    training: Training,
    kind: Literal["kernel", "pairs"] = "kernel",
    seed: int = 0,
    advance: Callable[[float], None] = _ignore,
) -> tuple[KernelRegression, FadedValues]:
    """Fit the regression; return it with its leave-one-group-out predictions of the training samples.

    The kind "pairs" fits only functions of the distance and the mean of on-site scalars. `seed`: of the draw of sparse points.
    `advance` is called with the fraction of coefficients that are fitted.
    """
    oriented, space, targets = training.oriented, training.space, training.coefficients
    graph = Neighbourhoods(space, oriented, training.charges, settings=training.settings)
    if training.charges is not None:
        graph.mean_density = mean_density(graph, training.charges)
    generator, done = np.random.default_rng(seed), 0
    total = max(sum(x.numel() for part in (targets.pairs, targets.onsite) for x in part.values()), 1)
    n_atoms = len(oriented.species)
    left_out = FadedValues(map_coefficients(torch.zeros_like, targets), *np.ones((2, n_atoms + len(oriented.first))))
    regression = Regressions()
    for group, members in oriented.pairs.items():
        for pair_type, rows in rows_by_key(oriented.pair_type[members]):
            y = targets.pairs[group].numpy()[rows]
            fit = PairFit(graph, training, pair_type, space.pair_layout(group), members[rows], y)
            predicted, fade, variance = _fit_pairs(regression, fit, pair_type, kind, generator, y)
            left_out.set(left_out.values.pairs[group], rows, n_atoms + members[rows], predicted, fade, variance)
            done += y.size
            advance(done / total)
    for shell_type, atoms in oriented.atoms.items():
        for species, rows in rows_by_key(oriented.species[atoms]):
            y = targets.onsite[shell_type].numpy()[rows]
            fit = AtomFit(graph, training, shell_type, atoms[rows], y)
            predicted, fade, variance = _fit_atoms(regression, fit, species, kind, generator, y)
            left_out.set(left_out.values.onsite[shell_type], rows, atoms[rows], predicted, fade, variance)
            done += y.size
            advance(done / total)
    return KernelRegression(space, mean_density=graph.mean_density, **vars(regression)), left_out


Predicted = tuple[np.ndarray, Fade, np.ndarray]
"""Predictions of blocks by fits without their groups, how the regression fades, and variances."""


def _fit_pairs(
    regression: Regressions, fit: PairFit, pair_type: int, kind: str, generator: np.random.Generator, y: np.ndarray
) -> Predicted:
    """Add the regressions of a pair type, the simpler one first, and their fades."""
    r, predicted, found, fade = regression, np.zeros_like(y), None, NO_FADE
    targets = fit.targets[:, 0, : fit.layout.n_proper]
    steps = [("distances", r.distances, r.distance_fades)] if kind == "kernel" else []
    for name, regressions, fades in (*steps, (kind, r.pairs, r.pair_fades)):
        found = fit.run(name, generator)
        far = ((targets[found.outermost.rows] - found.outermost.predicted) ** 2).sum(1)
        left_out, simpler = (_squares(y - x, fit.layout.n_proper) for x in (found.leave_one_out, predicted))
        fade = fit_fade(left_out, found.variance, far, found.outermost.variance, simpler)
        fade = with_strength(fade, found.variance, found.leave_one_out, predicted, y)
        regressions[pair_type], fades[pair_type] = found.regression, fade
        predicted = predicted + fade.weight(found.variance)[:, None, None] * (found.leave_one_out - predicted)
    assert found is not None
    return predicted, fade, found.variance


def _fit_atoms(
    regression: Regressions, fit: AtomFit, species: int, kind: str, generator: np.random.Generator, y: np.ndarray
) -> Predicted:
    """Add the regression of a species and its fade."""
    found = fit.run(kind, generator)
    regression.onsite[species] = found.regression
    if not found.regression.n_draws:
        return found.leave_one_out, NO_FADE, found.variance
    mean, n = found.regression.mean_values(len(y), fit.layout), found.outermost.predicted.shape[1]
    far = ((y[found.outermost.rows, 0, :n] - found.outermost.predicted) ** 2).sum(1)
    left_out, before = (_squares(y - x, n) for x in (found.leave_one_out, mean))
    fade = fit_fade(left_out, found.variance, far, found.outermost.variance, before)
    fade = with_strength(fade, found.variance, found.leave_one_out, mean, y)
    regression.onsite_fades[species] = fade
    predicted = mean + fade.weight(found.variance)[:, None, None] * (found.leave_one_out - mean)
    return predicted, fade, found.variance


def _squares(error: np.ndarray, n_scalars: int) -> np.ndarray:
    """Return the squared errors of the scalars of each block (n,)."""
    return (error[:, 0, :n_scalars] ** 2).sum(1)
