"""Fits to a training set in parts against the fit to the whole."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from harmose.kernel_regression.fit import fit_correction, fit_regression
from harmose.kernel_regression.fit_in_parts import Parts, fit_in_parts
from harmose.kernel_regression.model import FadedValues
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.pair_fit import PairFeatures, PairRows
from harmose.kernel_regression.refit import PairRefit, slices
from harmose.kernel_regression.settings import RegressionSettings
from harmose.representation.block_irreps import map_coefficients
from harmose.representation.concatenation import TargetSettings

DENSITY = TargetSettings(prior=True, operators=("density",))


def in_parts(make_training, seeds, n_parts, target=None, sample_set=None, **options):
    """A training set of waters in parts; the samples of each part have the numbers that they have in the whole."""
    numbers = np.array_split(np.arange(len(seeds)), n_parts)
    parts = [make_training([seeds[k] for k in some], target, **options) for some in numbers]
    parts = [
        replace(p, pair_sample=some[p.pair_sample], atom_sample=some[p.atom_sample]) for p, some in zip(parts, numbers)
    ]
    pair_types = Counter(np.concatenate([p.oriented.pair_type for p in parts]).tolist())
    species = Counter(np.concatenate([p.oriented.species for p in parts]).tolist())
    whole = make_training(seeds, target, **options)
    return Parts(whole if sample_set is None else sample_set, parts, pair_types, species)


def fit(data, **options):
    """The regression, and the predictions of the samples of each part by fits without them."""
    left_out = []
    for part in data.parts:
        n = len(part.oriented.species) + len(part.oriented.first)
        empty = map_coefficients(lambda x: torch.full_like(x, torch.nan), part.coefficients)
        left_out.append(FadedValues(empty, *np.full((2, n), np.nan)))

    def write(number, x):
        found = left_out[number]
        values = found.values.pairs if isinstance(x.group, tuple) else found.values.onsite
        values[x.group][x.rows] = torch.as_tensor(x.values)
        found.weights[x.blocks], found.std[x.blocks] = x.weights, x.std

    return fit_in_parts(data, write, **options), left_out


def joined(left_out):
    """Values, weights and standard deviations of all blocks, part after part."""
    pairs = [torch.cat([x.values.pairs[g].flatten() for x in left_out]).numpy() for g in left_out[0].values.pairs]
    onsite = [torch.cat([x.values.onsite[s].flatten() for x in left_out]).numpy() for s in left_out[0].values.onsite]
    return np.concatenate(pairs + onsite)


def same_values(a, b, oriented, charges=None):
    """The largest difference of the values of two regressions."""
    differences = map_coefficients(lambda x, y: (x - y).abs(), a.values(oriented, charges), b.values(oriented, charges))
    return max(float(x.max()) for x in (*differences.pairs.values(), *differences.onsite.values()) if len(x))


@pytest.mark.parametrize("many_molecules", [False, True])
@pytest.mark.parametrize("target", [None, DENSITY])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_parts_give_the_fit_to_the_whole(make_training, target, many_molecules, n_threads):
    """The sample set is the whole: hyperparameters, sparse points and weights must be those of the fit in one piece."""
    data = in_parts(make_training, list(range(30)), 4, target, many_molecules=many_molecules)
    expected, expected_left_out = fit_regression(data.sample_set)
    found, left_out = fit(data, n_threads=n_threads)
    new = make_training(range(100, 105), target)
    scale = float(expected.values(new.oriented, new.charges).onsite[1].std())
    # Weights of three-centre terms are ill-conditioned. A robust fit weighs the samples by residuals of the first fit.
    assert same_values(expected, found, new.oriented, new.charges) < (2e-3 if many_molecules else 1e-5) * scale
    if not many_molecules:
        np.testing.assert_allclose(joined(left_out), joined([expected_left_out]), atol=1e-5 * scale)
        weights = np.concatenate([x.weights for x in left_out])
        assert np.sort(weights) == pytest.approx(np.sort(expected_left_out.weights), abs=1e-4)
    assert all(np.isfinite(x.std).all() for x in left_out)


def test_all_samples_count_and_not_only_those_of_the_first_fit(make_training, water_sample, predict):
    seeds = list(range(60))
    few = make_training(seeds[:15], is_part=True)
    data = in_parts(make_training, seeds, 3, sample_set=few)
    first, found = fit_regression(few)[0], fit(data)[0]
    errors = np.zeros(2)
    for seed in range(100, 110):
        sample = water_sample(seed)
        errors += [np.abs((predict(x, sample.structure) - sample.hamiltonian).dense()).mean() for x in (first, found)]
    assert errors[1] < 0.8 * errors[0]


def test_left_out_errors_are_those_of_new_samples(make_training, water_sample, predict):
    seeds = list(range(60))
    data = in_parts(make_training, seeds, 3, sample_set=make_training(seeds[:20], is_part=True))
    found, left_out = fit(data)
    truth = torch.cat([part.coefficients.onsite[1] for part in data.parts])
    own = (torch.cat([x.values.onsite[1] for x in left_out]) - truth).abs().mean()
    new = make_training(range(100, 130))
    error = (found.values(new.oriented).onsite[1] - new.coefficients.onsite[1]).abs().mean()
    assert 0.5 * error < own < 2 * error


def test_a_share_of_very_many_pairs_is_drawn_and_all_are_predicted(make_training):
    few = RegressionSettings(refit_pairs=40, refit_atoms=20)
    data = in_parts(make_training, list(range(40)), 2, settings=few)
    found, left_out = fit(data)
    assert np.isfinite(joined(left_out)).all()
    truth = torch.cat([part.coefficients.onsite[1] for part in data.parts])
    error = (torch.cat([x.values.onsite[1] for x in left_out]) - truth).abs().mean()
    assert error < 0.05 * (truth - truth.mean(0)).abs().mean()
    assert same_values(found, fit_regression(data.sample_set)[0], data.parts[0].oriented) > 1e-6


@pytest.mark.parametrize("limits", [{"refit_bytes": 1}, {"refit_numbers": 2000}])
def test_memory_limits_do_not_change_the_fit(make_training, limits):
    seeds = list(range(20))
    whole, parts = (fit(in_parts(make_training, seeds, 2, settings=RegressionSettings(**x)))[0] for x in ({}, limits))
    assert same_values(whole, parts, make_training(range(100, 102)).oriented) < 1e-5


def test_the_kind_pairs_has_functions_of_the_distance_alone(make_training):
    data = in_parts(make_training, list(range(20)), 2)
    found, _ = fit(data, kind="pairs")
    expected = fit_regression(data.sample_set, "pairs")[0]
    assert same_values(expected, found, make_training(range(100, 102)).oriented) < 1e-6


def test_a_correction_in_parts(make_training):
    data = in_parts(make_training, list(range(30)), 3)
    expected, expected_left_out = fit_correction(data.sample_set, {})
    found, left_out = fit(data, kind="correction")
    assert same_values(expected, found, make_training(range(100, 102)).oriented) < 0.05  # of 160: the fade is steep
    std = np.concatenate([x.std for x in left_out])
    np.testing.assert_allclose(np.sort(std), np.sort(expected_left_out.std), rtol=0.1)


def test_progress_ends_at_one(make_training):
    done = []
    fit(in_parts(make_training, list(range(12)), 2), advance=done.append)
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1)


def test_slices_hold_whole_samples():
    sample = np.array([3, 1, 1, 2, 3, 3, 2, 7, 7, 7, 7, 7])
    found = list(slices(np.arange(12), sample, 4))
    assert [sample[rows].tolist() for rows in found] == [[1, 1, 2, 2], [3, 3, 3], [7, 7, 7, 7], [7]]
    assert sorted(np.concatenate(found).tolist()) == list(range(12))
    assert not list(slices(np.zeros(0, int), np.zeros(0, int), 4))


def test_both_directions_of_a_pair_are_left_out_together(make_training):
    """Pieces of a sample that has more rows than fit into memory."""
    training = make_training(range(4), settings=RegressionSettings(refit_numbers=1), is_part=True)
    refit = PairRefit.__new__(PairRefit)
    graph = Neighbourhoods(training.space, training.oriented)
    pairs, y = training.oriented.pairs[(0, 0)], training.coefficients.pairs[(0, 0)].numpy()
    layout = training.space.pair_layout((0, 0))
    rows = PairRows.of(graph, 0, layout, pairs, y, np.zeros(len(pairs), int))
    refit.settings, refit.features = training.settings, PairFeatures("kernel", layout, None, [], False)
    found = list(refit._slices(rows, np.arange(len(rows.edges))))
    assert len(found) == len(pairs) == 4
    assert all(piece.tolist() == [k, k + 4] for k, piece in enumerate(found))
