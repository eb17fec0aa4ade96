"""Training steps on made-up labels: what they are, and that they train."""

import numpy as np
import pytest
import torch

import harmose
from harmose.bench.systems import system
from harmose.bench.training import LARGER, Loading, batch_of, known_priors, labelled, stepper


@pytest.fixture(scope="module")
def waters():
    each = system("water-3")
    model = harmose.load(each.model)
    return model, labelled(model, each, known_priors(model, each))


def test_labels_are_a_little_larger_than_predictions(waters):
    model, samples = waters
    for sample, h in zip(samples, model.predict_many([s.structure for s in samples]), strict=True):
        np.testing.assert_allclose(sample.hamiltonian.values, LARGER * h.values, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("phase", ["stage1", "stage2", "joint"])
def test_a_step_is_one_of_training_and_leaves_the_model_alone(waters, phase):
    model, samples = waters
    before = {name: x.clone() for name, x in model.network.state_dict().items()}
    step = stepper(model, batch_of(model, samples), phase)
    losses = [step() for _ in range(10)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(torch.equal(x, before[name]) for name, x in model.network.state_dict().items())


def test_batches_are_the_same_from_memory_and_from_the_store(waters, tmp_path):
    model, samples = waters
    with Loading.of(model, samples, tmp_path / "store") as loading:
        assert (loading.ready.n_ready, loading.stored.n_ready) == (3, 0)
        ready, stored = (data.batch([2, 0]) for data in (loading.ready, loading.stored))
    assert ready.names == stored.names == ("water-3-2", "water-3-0")
    for group, target in ready.targets.pairs.items():
        torch.testing.assert_close(target, stored.targets.pairs[group], rtol=1e-4, atol=1e-4)


def test_crystals_have_what_their_gauge_needs():
    each = system("graphene-1x1")
    model = harmose.load(each.model)
    (sample,) = labelled(model, each, known_priors(model, each))
    assert sample.overlap is not None
    assert np.isfinite(stepper(model, batch_of(model, [sample]), "stage1")())
