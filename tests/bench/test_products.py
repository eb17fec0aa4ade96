"""Kernels: operations as torch's own counter counts them, and bounds from measured speeds."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import harmose
from harmose.bench.products import blocks_kernel, closed_form_kernel, kernel, products, recorded
from harmose.bench.systems import system
from harmose.bench.training import batch_of, labelled, stepper
from harmose.inference.model import ModelInput


@pytest.fixture(scope="module")
def water():
    each = system("water-1")
    model = harmose.load(each.model)
    asked = ModelInput(model, each.structures)
    assert asked.batch.n_pairs == 3  # made now: its rotations are no part of what is counted
    return model, each, asked


def test_flop_of_a_prediction_and_of_a_step(water):
    model, each, asked = water
    step = stepper(model, batch_of(model, labelled(model, each, [None])), "joint")
    for work in (lambda: model.network(asked.batch), step):
        with FlopCounterMode(display=False) as counter:
            work()
        assert sum(n * call.flop for call, n in recorded(work).calls.items()) == counter.get_total_flops()


def test_names_are_those_of_modules():
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    found = products(recorded(lambda: network(torch.randn(7, 3)).sum().backward()).calls)
    assert {(k.sizes, k.calls) for k in found} >= {("7 × 3 × 5", 1), ("7 × 5 × 2", 1)}
    forward = {k.sizes: k.name for k in found}
    assert forward["7 × 3 × 5"] == "Sequential.0"
    assert forward["2 × 7 × 5"] == "Sequential.1, gradient"
    assert all(k.seconds > 0 and k.bound > 0 for k in found)


def test_bounds():
    n = 2**20
    arithmetic = kernel("", "", 1, 1e12, 8.0, 1.0, torch.float32)
    bandwidth = kernel("", "", 1, 1.0, n, 1.0, torch.float32)
    assert (arithmetic.limit, bandwidth.limit) == ("arithmetic", "bandwidth")
    assert kernel("", "", 1, 1.0, 2 * n, 1.0, torch.float32).bound == pytest.approx(2 * bandwidth.bound, rel=0.5)
    assert kernel("", "", 1, 2e12, 8.0, 1.0, torch.float32).bound == pytest.approx(2 * arithmetic.bound)
    assert arithmetic.fraction == arithmetic.bound


def test_kernels_outside_torch(water):
    model, _, asked = water
    closed = closed_form_kernel(model, asked.concatenated)
    assert closed is not None
    assert closed.sizes == "10 edges"  # O-H once and H-H both ways for pairs, all six for atoms
    assert min(closed.flop, closed.n_bytes) > 0
    blocks = blocks_kernel(model, asked.concatenated, asked.matrices)
    assert blocks.sizes == "3 pairs"
    assert min(blocks.flop, blocks.n_bytes) > 0
