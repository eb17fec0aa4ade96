"""Fits the regression to training samples, with leave-one-group-out predictions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch

from harmose.core.grouping import rows_by_key
from harmose.kernel_regression.atom_fit import AtomFit, AtomFitResult
from harmose.kernel_regression.correction import relative_std
from harmose.kernel_regression.electronic_terms import mean_density
from harmose.kernel_regression.fading import NO_FADE, Fade, fit_correction_fade, fit_fade, with_strength
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.model import FadedValues, KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFit, PairFitResult
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


Advance = Callable[[float], None]
"""Called with the fraction that is done."""


def ignore(_: float) -> None:
    """Ignore the fraction that is done."""


def fit_regression(
    training: Training,
    kind: Literal["kernel", "pairs"] = "kernel",
    seed: int = 0,
    advance: Advance = ignore,
) -> tuple[KernelRegression, FadedValues]:
    """Fit the regression; return it with its leave-one-group-out predictions of the training samples.

    The kind "pairs" fits only functions of the distance and the mean of on-site scalars. `seed`: of the draw of sparse points.
    `advance` is called with the fraction of coefficients that are fitted.
    """
    graph = Neighbourhoods(training.space, training.oriented, training.charges, settings=training.settings)
    if training.charges is not None:
        graph.mean_density = mean_density(graph, training.charges)
    return _fit_all(training, graph, kind, seed, advance)


def fit_correction(
    training: Training,
    known: Mapping[int, np.ndarray],
    seed: int = 0,
    advance: Advance = ignore,
) -> tuple[KernelRegression, FadedValues]:
    """Fit a correction (`correction`) to what a model leaves of the training samples, with leave-one-group-out predictions.

    `known`: mean density by species of the regression that is corrected. Standard deviations are in units of the error
    without the correction.
    """
    oriented = training.oriented
    graph = Neighbourhoods(training.space, oriented, training.charges, known, training.settings)
    correction, left_out = _fit_all(training, graph, "correction", seed, advance)
    n_atoms, std = len(oriented.species), left_out.std
    for blocks, kind, fades in (
        (slice(0, n_atoms), oriented.species, correction.onsite_fades),
        (slice(n_atoms, None), oriented.pair_type, correction.pair_fades),
    ):
        std[blocks] = relative_std(std[blocks], kind, fades)
    return correction, left_out


def _fit_all(
    training: Training, graph: Neighbourhoods, kind: str, seed: int, advance: Advance
) -> tuple[KernelRegression, FadedValues]:
    """Fit the regressions of all pair types and species."""
    oriented, space, targets = training.oriented, training.space, training.coefficients
    generator, done = np.random.default_rng(seed), 0
    total = max(sum(x.numel() for part in (targets.pairs, targets.onsite) for x in part.values()), 1)
    n_atoms = len(oriented.species)
    left_out = FadedValues(map_coefficients(torch.zeros_like, targets), *np.ones((2, n_atoms + len(oriented.first))))
    regression = Regressions()
    for group, members in oriented.pairs.items():
        for pair_type, rows in rows_by_key(oriented.pair_type[members]):
            y = targets.pairs[group].numpy()[rows]
            fit = PairFit(graph, training, pair_type, space.pair_layout(group), members[rows], y)
            found = fit_pairs(regression, fit, pair_type, kind, generator)
            left_out.set(left_out.values.pairs[group], rows, n_atoms + members[rows], *found.left_out)
            done += y.size
            advance(done / total)
    for shell_type, atoms in oriented.atoms.items():
        for species, rows in rows_by_key(oriented.species[atoms]):
            y = targets.onsite[shell_type].numpy()[rows]
            fit = AtomFit(graph, training, shell_type, atoms[rows], y)
            found = fit_atoms(regression, fit, species, kind, generator)
            left_out.set(left_out.values.onsite[shell_type], rows, atoms[rows], *found.left_out)
            done += y.size
            advance(done / total)
    return KernelRegression(space, mean_density=graph.mean_density, **vars(regression)), left_out


class FittedPairs(NamedTuple):
    """Fits to the pairs of one type: predictions without their groups, how they fade, variances; and the fits, the simpler first."""

    left_out: tuple[np.ndarray, Fade, np.ndarray]
    steps: tuple[tuple[PairFitResult, Fade], ...]


class FittedAtoms(NamedTuple):
    """The fit to the atoms of one species, as in `FittedPairs`; None for a correction that could not fade."""

    left_out: tuple[np.ndarray, Fade, np.ndarray]
    step: tuple[AtomFitResult, Fade] | None


def fit_pairs(
    regression: Regressions, fit: PairFit, pair_type: int, kind: str, generator: np.random.Generator
) -> FittedPairs:
    """Add the regressions of a pair type, the simpler one first, and their fades; corrections have no simpler one."""
    r, y, fade = regression, fit.rows.targets[: fit.rows.n_pairs], NO_FADE
    predicted, variance, done = np.zeros_like(y), np.zeros(len(y)), []
    targets = fit.rows.targets[:, 0, : fit.layout.n_proper]
    steps = [("distances", r.distances, r.distance_fades)] if kind == "kernel" else []
    last = "pairs" if kind == "pairs" else "kernel"
    for name, regressions, fades in (*steps, (last, r.pairs, r.pair_fades)):
        found = fit.run(name, generator)
        far = ((targets[found.outermost.rows] - found.outermost.predicted) ** 2).sum(1)
        fade = _fade(found, far, fit.layout.n_proper, predicted, y, kind)
        regressions[pair_type], fades[pair_type], variance = found.regression, fade, found.variance
        predicted = faded(predicted, found.leave_one_out, fade, variance)
        done.append((found, fade))
    return FittedPairs((predicted, fade, variance), tuple(done))


def faded(simpler: np.ndarray, values: np.ndarray, fade: Fade, variance: np.ndarray) -> np.ndarray:
    """Return the mixture of values of blocks (n, ...) with simpler ones, by their variances (n,)."""
    return simpler + fade.weight(variance)[:, None, None] * (values - simpler)


def fit_atoms(
    regression: Regressions, fit: AtomFit, species: int, kind: str, generator: np.random.Generator
) -> FittedAtoms:
    """Add the regression of a species and its fade."""
    found, y = fit.run("pairs" if kind == "pairs" else "kernel", generator), fit.targets
    if not found.regression.n_draws:
        if kind == "correction":  # without a variance it could not fade
            return FittedAtoms((np.zeros_like(y), NO_FADE, found.variance), None)
        regression.onsite[species] = found.regression
        return FittedAtoms((found.leave_one_out, NO_FADE, found.variance), (found, NO_FADE))
    found = found._replace(regression=fading_atoms(found.regression, kind))
    mean, n = found.regression.mean_values(len(y), fit.layout), found.outermost.predicted.shape[1]
    far = ((y[found.outermost.rows, 0, :n] - found.outermost.predicted) ** 2).sum(1)
    fade = _fade(found, far, n, mean, y, kind)
    regression.onsite[species], regression.onsite_fades[species] = found.regression, fade
    return FittedAtoms((faded(mean, found.leave_one_out, fade, found.variance), fade, found.variance), (found, fade))


def fading_atoms(regression: AtomRegression, kind: str) -> AtomRegression:
    """Return the regression of a species with the mean that it fades to: zero for a correction."""
    return replace(regression, average=np.zeros_like(regression.mean)) if kind == "correction" else regression


def _fade(
    found: PairFitResult | AtomFitResult, far: np.ndarray, n_scalars: int, simpler: np.ndarray, y: np.ndarray, kind: str
) -> Fade:
    """Fit how a regression fades to the `simpler` predictions of y; `far` (m,): squared errors of the outermost scalars."""
    left_out, before = (_squares(y - x, n_scalars) for x in (found.leave_one_out, simpler))
    errors = left_out, found.variance, far, found.outermost.variance, before
    if kind == "correction":
        return fit_correction_fade(*errors)
    return with_strength(fit_fade(*errors), found.variance, found.leave_one_out, simpler, y)


def _squares(error: np.ndarray, n_scalars: int) -> np.ndarray:
    """Return the squared errors of the scalars of each block (n,)."""
    return (error[:, 0, :n_scalars] ** 2).sum(1)
