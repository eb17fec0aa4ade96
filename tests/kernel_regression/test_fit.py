"""Fits of the regression, and their leave-one-group-out predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.stats import spearmanr

from harmose.core.graph import build_graph
from harmose.kernel_regression.fit import fit_regression
from harmose.kernel_regression.training import Hyperparameters
from harmose.representation.block_irreps import map_coefficients

WATER = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.471], [0.0, -0.757, -0.471]])
"""Positions of O, H, H in angstrom."""


def test_kernels_predict_new_waters_better_than_pairs(kernel_regression, pair_regression, predict, water_sample):
    errors, spread = {"kernel": [], "pairs": []}, []
    for seed in range(100, 110):
        sample = water_sample(seed)
        for regression in (kernel_regression, pair_regression):
            error = predict(regression, sample.structure) - sample.hamiltonian
            errors[regression.kind].append(np.abs(error.dense()).mean())
        spread.append(np.abs((sample.hamiltonian - water_sample(0).hamiltonian).dense()).mean())
    assert np.mean(errors["kernel"]) < 0.005 * np.mean(spread)
    assert np.mean(errors["kernel"]) < 0.03 * np.mean(errors["pairs"])


def test_leave_one_out_predictions_are_those_of_a_fit_without_the_sample(training, make_training):
    """Sparse points differ by those of the sample, so that both agree only as far as these do not matter."""
    grid = (Hyperparameters(1e-6, 1e4),)
    leave_one_out = fit_regression(replace(training, grid=grid))[1].values
    without, _ = fit_regression(make_training([seed for seed in range(40) if seed != 17], grid=grid))
    expected = without.values(make_training([17]).oriented)
    for group, pairs in training.oriented.pairs.items():
        rows = torch.as_tensor(training.pair_sample[pairs] == 17)
        if rows.any():  # there is no pair of two oxygen atoms
            scale = training.coefficients.pairs[group].std(0).max()
            assert (leave_one_out.pairs[group][rows] - expected.pairs[group]).abs().max() < 5e-3 * scale


def test_samples_of_one_group_are_left_out_together(make_training):
    """Two copies of each water: each would predict the other, unless both are left out."""
    twice = make_training([*range(12), *range(12)])
    errors = []
    for n in (24, 12):
        grouped = replace(twice, pair_sample=twice.pair_sample % n, atom_sample=twice.atom_sample % n)
        leave_one_out = fit_regression(grouped)[1].values
        errors.append((leave_one_out.onsite[1] - twice.coefficients.onsite[1]).abs().mean())
    assert errors[0] < 0.1 * errors[1]


def test_progress_ends_at_one(training):
    done = []
    fit_regression(training, "pairs", advance=done.append)
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1)


def test_a_fit_is_reproducible(make_training):
    training = make_training(range(8))
    (a, _), (b, _) = fit_regression(training, seed=3), fit_regression(training, seed=3)
    for one, other in zip(a.values(training.oriented).pairs.values(), b.values(training.oriented).pairs.values()):
        assert torch.equal(one, other)


def test_a_kernel_regression_has_simpler_ones_that_it_fades_to(kernel_regression, pair_regression):
    for regression in (kernel_regression, pair_regression):
        assert regression.pair_fades.keys() == regression.pairs.keys() == {0, 1}
    assert kernel_regression.distances.keys() == kernel_regression.distance_fades.keys() == {0, 1}
    assert kernel_regression.onsite_fades.keys() == kernel_regression.onsite.keys() == {0, 1}
    assert not pair_regression.distances
    assert not pair_regression.onsite_fades
    for fade in (*kernel_regression.pair_fades.values(), *kernel_regression.onsite_fades.values()):
        assert fade.growth >= 1
        assert 1e3 < fade.gain < np.inf  # these labels have no noise


def test_predictions_of_left_out_samples_have_faded(training):
    """As those of new structures do; in a fit without it, a sample is farther away from the others than in one with it."""
    regression, (values, weights, std) = fit_regression(training)
    graph = regression.neighbourhoods(training.oriented)
    n_atoms = len(training.oriented.species)
    assert weights.shape == std.shape == (n_atoms + graph.n_pairs,)
    assert 0 < weights.min() < weights.max() < 1
    assert std.min() > 1
    assert (std > regression.faded(graph).std).mean() > 0.9
    for group, pairs in training.oriented.pairs.items():
        assert torch.isfinite(values.pairs[group]).all()
        assert len(pairs) == len(values.pairs[group])


def test_standard_deviations_order_the_errors_of_new_structures(kernel_regression, predict, hamiltonian):
    """Waters that are distorted ever more: where the regression says that it extrapolates, its errors are larger."""
    generator, std, error = np.random.default_rng(1), [], []
    for size in np.linspace(0.02, 0.15, 20):
        atoms = Atoms("OHH", WATER + size * generator.normal(size=(3, 3)))
        graph = kernel_regression.space.orient(build_graph(atoms, kernel_regression.space.basis))
        std.append(kernel_regression.faded(kernel_regression.neighbourhoods(graph)).std)
        difference = predict(kernel_regression, atoms) - hamiltonian(atoms)
        error.append(np.maximum.reduceat(np.abs(difference.values[0]), difference.offsets[:-1]))
    assert np.max(std) > 100 * np.min(std)
    for block in range(6):
        assert spearmanr(np.array(std)[:, block], np.array(error)[:, block]).statistic > 0.6


def test_noise_makes_regressions_fade_sooner(training):
    """Labels with errors of 0.5 eV: the regression is worth less, so that its weight falls closer by."""
    generator = np.random.default_rng(0)

    def with_noise(x: torch.Tensor) -> torch.Tensor:
        return x + 0.5 * torch.as_tensor(generator.normal(size=x.shape))

    noisy = replace(training, coefficients=map_coefficients(with_noise, training.coefficients))
    found, exact = (fit_regression(x)[0] for x in (noisy, training))
    for species, fade in found.onsite_fades.items():
        assert fade.gain < 1e-3 * exact.onsite_fades[species].gain
