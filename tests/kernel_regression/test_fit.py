"""Fits of the regression, and their leave-one-group-out predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmose.kernel_regression.fit import fit_regression
from harmose.kernel_regression.training import Hyperparameters


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
    _, leave_one_out = fit_regression(replace(training, grid=grid))
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
        _, leave_one_out = fit_regression(grouped)
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
