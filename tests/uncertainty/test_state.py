"""Calibrations as tensors."""

import numpy as np
import pytest
import torch

from harmose.errors import ModelError
from harmose.uncertainty.calibration import fit_blocks
from harmose.uncertainty.state import ARRAYS, from_state, to_state


@pytest.fixture(scope="module")
def calibration(held_out, last_layer):
    return fit_blocks(held_out(12), last_layer)


def test_round_trip(calibration, held_out):
    again = from_state(to_state(calibration))
    features = held_out(1, seed=5)[0].features
    np.testing.assert_array_equal(again.block_bounds(features, 0.9), calibration.block_bounds(features, 0.9))
    np.testing.assert_array_equal(again.last_layer.edges[0], calibration.last_layer.edges[0])
    assert again.n_groups == 12


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
