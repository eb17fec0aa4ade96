"""Small layers: cutoff, radial functions, linear maps of irreps, and scales that are fitted to a batch."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from harmose.nn.ops.layers import (
    Calibrated,
    IrrepsLinear,
    RadialFeatures,
    Rescale,
    Standardize,
    calibrate,
    cutoff_envelope,
    select_by_type,
)
from harmose.nn.ops.saturation import INVARIANT_BOUND
from harmose.so3.wigner import random_rotation


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


def test_envelope_is_smooth_and_ends_at_the_reach():
    distance = torch.linspace(0, 6, 6001, dtype=torch.float64)
    values = cutoff_envelope(distance, torch.tensor(5.0))
    assert (values[distance <= 4] == 1).all()
    assert values[distance >= 5].abs().max() < 1e-15
    assert values[distance == 4.5].item() == pytest.approx(0.5)
    slope = values.diff() / 1e-3
    assert slope.max() <= 1e-12
    assert slope.diff().abs().max() < 0.06  # second derivative 1e-3 * pi^2 / 2 / 1^2, no jump of the slope


def test_radial_functions_are_gaussians_denser_at_short_distances():
    features = RadialFeatures(8)(torch.tensor([0.5, 1.0, 8.0, 8.5]))
    assert features.shape == (4, 8)
    assert features.min() >= 0
    assert features.max() <= 1
    near, far = ((features[k] - features[k + 1]).norm() for k in (0, 2))
    assert near > 5 * far


def test_irreps_linear_commutes_with_rotations_of_e3nn(e3nn_wigner):
    torch.manual_seed(0)
    linear, rotation = IrrepsLinear(3, 4, 5).double(), random_rotation(np.random.default_rng(0))
    d = torch.block_diag(*(e3nn_wigner(l, rotation) for l in range(4)))
    x = torch.randn(6, 16, 4, dtype=torch.float64)
    torch.testing.assert_close(linear(torch.einsum("ij,njc->nic", d, x)), torch.einsum("ij,njc->nic", d, linear(x)))


def test_rescale_fits_one_scale_for_each_channel():
    torch.manual_seed(0)
    x = torch.randn(4, 50, 2, 3) * torch.tensor([1.0, 10.0, 0.1])
    layer = Rescale(4, 1, 1, 3)
    layer.fit(x)
    torch.testing.assert_close(layer(x).square().mean((1, 2)), torch.ones(4, 3))


def test_rescale_does_not_amplify_rounding_errors():
    """A channel that vanishes by symmetry is zero to rounding; one that is small is scaled."""
    layer, x = Rescale(3), torch.ones(5, 3) * torch.tensor([0.0, 1e-7, 1e-3])
    layer.fit(x)
    torch.testing.assert_close(layer.scale, torch.tensor([1.0, 1.0, 1e3]))


def test_standardize_fits_the_mean_of_each_pair_type_and_one_spread():
    torch.manual_seed(0)
    pair_type = torch.arange(60) % 2
    x = torch.randn(60, 3) + 5 * pair_type[:, None]
    layer = Standardize(3, 3)
    layer.bounded = False
    layer.fit(x, pair_type)
    y = layer(x, pair_type)
    for k in range(2):
        assert y[pair_type == k].mean(0).abs().max() < 1e-5
    torch.testing.assert_close(y.square().mean(0), torch.ones(3))
    torch.testing.assert_close(layer.mean[2], x.mean(0))  # a pair type that the batch lacks


def test_table_of_one_pair_type_is_not_repeated():
    table, pair_type = torch.randn(2, 3), torch.tensor([1, 0, 1])
    assert torch.equal(select_by_type(table, pair_type), table[pair_type])
    assert select_by_type(table[:1], torch.zeros(3, dtype=torch.int64)).shape == (1, 3)


def test_calibrate_fits_layers_in_the_order_in_which_they_are_applied():
    torch.manual_seed(0)
    network = nn.Sequential(Rescale(3), nn.Linear(3, 4), Rescale(4))
    x = 7 * torch.randn(100, 3)
    calibrate(network, x)
    torch.testing.assert_close(network(x).square().mean(0), torch.ones(4))
    scale = network[2].scale.clone()
    network(100 * x)
    assert torch.equal(network[2].scale, scale)  # fitted once, not in every pass


def test_calibrate_leaves_no_hooks_after_an_error():
    class Broken(Calibrated):
        def fit(self, *inputs) -> None:
            raise ValueError("no data")

    network = nn.Sequential(Broken())
    with pytest.raises(ValueError, match="no data"):
        calibrate(network, torch.ones(1))
    assert not network[0]._forward_pre_hooks


def test_calibrated_layers_have_a_fit():
    with pytest.raises(NotImplementedError):
        Calibrated().fit(np.ones(1))


def test_standardized_invariants_are_bounded_smoothly():
    layer, x = Standardize(2, 1), torch.tensor([[-1e30, -1e3], [-0.1, 0.2], [5.0, 1e18]])
    pair_type = torch.zeros(3, dtype=torch.int64)
    y = layer(x, pair_type)
    assert layer.bounded
    assert torch.isfinite(y).all()
    assert y.abs().max() <= INVARIANT_BOUND
    torch.testing.assert_close(y[1], x[1], rtol=3e-4, atol=0)
    assert y[2, 0] == pytest.approx(5 / np.sqrt(1.25))
    layer.bounded = False
    torch.testing.assert_close(layer(x, pair_type), x)
