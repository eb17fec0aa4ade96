"""Training steps and batches on made-up labels."""

import numpy as np
import pytest
import torch

import harmose
from harmose.bench.systems import system
from harmose.bench.training import LABEL_FACTOR, Loading, compute_priors, labelled, make_batch, make_step


@pytest.fixture(scope="module")
def waters():
    chosen = system("water-3")
    model = harmose.load(chosen.model)
    return model, labelled(model, chosen, compute_priors(model, chosen))


def test_labels(waters):
    model, samples = waters
    for sample, h in zip(samples, model.predict_many([s.structure for s in samples]), strict=True):
        np.testing.assert_allclose(sample.hamiltonian.values, LABEL_FACTOR * h.values, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("phase", ["stage1", "stage2", "joint"])
def test_steps(waters, phase):
    """The loss falls, and the model itself does not change."""
    model, samples = waters
    before = {name: x.clone() for name, x in model.network.state_dict().items()}
    step = make_step(model, make_batch(model, samples), phase)
    losses = [step() for _ in range(10)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(torch.equal(x, before[name]) for name, x in model.network.state_dict().items())


def test_batches_from_memory_and_store(waters, tmp_path):
    model, samples = waters
    with Loading.of(model, samples, tmp_path / "store") as loading:
        ready, stored = (data.batch([2, 0]) for data in (loading.ready, loading.stored))
    assert ready.names == stored.names == ("water-3-2", "water-3-0")
    for group, target in ready.targets.pairs.items():
        torch.testing.assert_close(target, stored.targets.pairs[group], rtol=1e-4, atol=1e-4)


def test_crystal():
    chosen = system("graphene-1x1")
    model = harmose.load(chosen.model)
    (sample,) = labelled(model, chosen, compute_priors(model, chosen))
    assert sample.overlap is not None
    assert np.isfinite(make_step(model, make_batch(model, [sample]), "stage1")())
