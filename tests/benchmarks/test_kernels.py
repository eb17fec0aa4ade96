"""Products of matrices: operations as PyTorch's own counter counts them, and bounds from measured speeds."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import harmose
from harmose.bench.systems import system
from harmose.bench.training import compute_priors, labelled, make_batch, make_step


@pytest.fixture
def kernels(benchmark_script):
    return benchmark_script("kernels")


@pytest.fixture
def fixed_speeds(kernels, monkeypatch):
    """1,000 Gflop/s and 10 GB/s, instead of measured speeds."""
    monkeypatch.setattr(kernels, "peak", lambda *_: 1000.0)
    monkeypatch.setattr(kernels, "bandwidth", lambda *_: 10.0)


def test_flop(kernels):
    chosen = system("water-1")
    model = harmose.load(chosen.model)
    batch = model.inputs(chosen.structures).batch
    model.network(batch)  # values that are computed once do not count
    step = make_step(model, make_batch(model, labelled(model, chosen, compute_priors(model, chosen))), "joint")
    for work in (lambda: model.network(batch), step):
        with FlopCounterMode(display=False) as counter:
            work()
        assert sum(n * call.flop for call, n in kernels.record(work).calls.items()) == counter.get_total_flops()


@pytest.mark.usefixtures("fixed_speeds")
def test_names(kernels):
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    timed = kernels.time_products(kernels.record(lambda: network(torch.randn(7, 3)).sum().backward()).calls)
    assert {(k.sizes, k.calls) for k in timed} >= {("7 × 3 × 5", 1), ("7 × 5 × 2", 1)}
    names = {k.sizes: k.name for k in timed}
    assert names["7 × 3 × 5"] == "Sequential.0"
    assert names["2 × 7 × 5"] == "Sequential.1, gradient"


@pytest.mark.usefixtures("fixed_speeds")
def test_bounds(kernels):
    arithmetic = kernels.bounded("", "", 1, 1e12, 8.0, 2.0, torch.float32)
    bandwidth = kernels.bounded("", "", 1, 1.0, 1e10, 4.0, torch.float32)
    assert (arithmetic.limit, arithmetic.bound, arithmetic.fraction) == ("arithmetic", 1.0, 0.5)
    assert (bandwidth.limit, bandwidth.bound, bandwidth.fraction) == ("bandwidth", 1.0, 0.25)


def test_section(kernels):
    kernel = {
        "work": "prediction", "work_seconds": 0.01, "operators": 70, "name": "encoder", "sizes": "1 × 2 × 3", "calls": 2,
        "flop": 2e6, "n_bytes": 1e6, "seconds": 1e-3, "bound": 5e-4, "limit": "bandwidth", "fraction": 0.5,
    }  # fmt: skip
    text = kernels.kernel_section([kernel])
    assert "2 products among 70 operators take 2.0 of 10.0 ms: 0.00 Gflop at 2 Gflop/s, 50 % of their bounds" in text
    assert "| `encoder` | 1 × 2 × 3 | 2 | 2.00 | 1.00 | 1,000 | 2.00 | bandwidth | 50 |" in text
