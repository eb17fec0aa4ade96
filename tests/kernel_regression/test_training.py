"""Training: which hyperparameters a fit chooses from."""

from dataclasses import replace
from itertools import product

from harmose.kernel_regression.training import GRID, Hyperparameters
from harmose.representation.concatenation import TargetSettings


def test_a_grid_holds_all_pairs_of_its_values():
    noises, variances = ({x[k] for x in GRID} for k in (0, 1))
    assert set(GRID) == {Hyperparameters(*pair) for pair in product(noises, variances)}


def test_many_molecules_have_more_noise(training):
    molecules = replace(training, many_molecules=True)
    assert max(x.noise for x in molecules.hyperparameters) > max(x.noise for x in training.hyperparameters)


def test_linear_terms_in_charges_have_a_grid_of_their_own(make_training, training):
    charges = make_training(range(2), TargetSettings(prior=True, operators=("density",)))
    assert charges.charges is not None
    assert set(charges.hyperparameters) != set(training.hyperparameters)


def test_a_grid_can_be_given(training):
    grid = (Hyperparameters(1e-3, 1.0),)
    assert replace(training, many_molecules=True, grid=grid).hyperparameters == grid
