"""Calibrations as tensors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmose.errors import ModelError
from harmose.uncertainty.calibration import fit_blocks
from harmose.uncertainty.llpr import LastLayer
from harmose.uncertainty.state import ARRAYS, from_state, last_layer_from_state, last_layer_to_state, to_state


@pytest.fixture(scope="module")
def calibration(held_out):
    return fit_blocks(held_out(12))


def test_round_trip(calibration, held_out):
    again = from_state(to_state(calibration))
    features = held_out(1, seed=5)[0].features
    np.testing.assert_array_equal(again.block_bounds(features, 0.9), calibration.block_bounds(features, 0.9))
    assert again.n_groups == 12
    assert (again.usual_error, again.error_limit) == (calibration.usual_error, calibration.error_limit)


def test_no_tensors_are_no_calibration():
    assert from_state({}) is None


@pytest.mark.parametrize("name", [*ARRAYS, "n_groups"])
def test_missing_and_cut_tensors_are_refused(calibration, name):
    state = to_state(calibration)
    with pytest.raises(ModelError, match="the calibration is not complete: no tensor"):
        from_state({k: v for k, v in state.items() if k != name})
    with pytest.raises(ModelError, match="the calibration is not complete"):
        from_state(state | {name: state[name][:0]})


@pytest.mark.parametrize(("name", "value"), [("block_factors", -1.0), ("powers", torch.nan), ("mean_scores", -0.1)])
def test_values_that_no_calibration_has_are_refused(calibration, name, value):
    state = to_state(calibration)
    with pytest.raises(ModelError, match=f"{name} has negative or undefined values"):
        from_state(state | {name: torch.full_like(state[name], value)})


def test_a_calibration_of_version_3_has_the_same_bounds(calibration, held_out):
    """It had no variance of the regression: p, q and t, and two floors and limits."""
    state = to_state(calibration)
    del state["errors"]
    state["powers"] = state["powers"][[0, 1, 3]]
    old = from_state(state | {name: state[name][:2] for name in ("feature_floors", "feature_limits")})
    features = held_out(1, seed=5)[0].features
    p, q, _, t = calibration.powers
    n, v = (
        np.maximum(x, floor)
        for x, floor in zip((features.ood_score, features.last_layer_std), calibration.feature_floors)
    )
    n1, v1 = (np.maximum(x / limit, 1) for x, limit in zip((n, v), calibration.feature_limits))
    expected = features.size * n**p * v**q * np.exp(t * features.distance) * n1 ** max(1 - p, 0) * v1 ** max(1 - q, 0)
    np.testing.assert_allclose(old.spreads(features), expected)
    np.testing.assert_allclose(old.spreads(replace(features, regression_std=1e6 * np.ones(30))), expected)
    assert not old.outside(replace(features, regression_std=1e6 * np.ones(30), atom_ood_score=np.ones(3)))


@pytest.mark.parametrize("errors", [[1.0], [1.0, 2.0, 3.0], [0.0, 1.0], [1.0, -1.0]])
def test_usual_errors_that_make_no_sense_are_refused(calibration, errors):
    with pytest.raises(ModelError, match="expected two positive errors"):
        from_state(to_state(calibration) | {"errors": torch.tensor(errors)})


def test_round_trip_of_a_last_layer():
    last_layer = LastLayer({0: np.eye(3), 7: 2 * np.eye(3)}, {0: np.eye(2)}, np.array([0.5, np.inf]))
    again = last_layer_from_state(last_layer_to_state(last_layer))
    assert again.edges.keys() == last_layer.edges.keys()
    np.testing.assert_array_equal(again.edges[7], last_layer.edges[7])
    np.testing.assert_array_equal(again.atoms[0], last_layer.atoms[0])
    np.testing.assert_array_equal(again.half, last_layer.half)


def test_last_layers_of_older_models_never_fade():
    state = last_layer_to_state(LastLayer({0: np.eye(3)}, {}))
    del state["half"]
    np.testing.assert_array_equal(last_layer_from_state(state).weights(np.array([0.1, 1e9])), np.ones((2, 2)))
    assert last_layer_from_state({}) is None


@pytest.mark.parametrize("half", [[1.0], [0.0, 1.0], [1.0, -1.0], [torch.nan, 1.0]])
def test_last_layers_that_make_no_sense_are_refused(half):
    state = last_layer_to_state(LastLayer({0: np.eye(3)}, {}))
    with pytest.raises(ModelError, match="expected two positive numbers"):
        last_layer_from_state(state | {"half": torch.tensor(half)})
