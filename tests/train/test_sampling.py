"""Batches by number and by size, and their division over processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from harmose.data.store import Store
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.concatenation import TargetSettings
from harmose.train.dataset import load_dataset
from harmose.train.fit import fit_to_samples, load_targets
from harmose.train.physics_loss import LossSettings
from harmose.train.reference_orbitals import ReferenceOrbitalTable
from harmose.train.sampling import Sampler, divided, order, packed, parts_of
from harmose.train.schedule import Phase
from harmose.train.step import PhaseLoss, PhaseOptimizer


def test_packing_takes_as_many_as_fit():
    numbers, pairs = np.array([4, 7, 1, 0, 9]), np.array([3, 4, 9, 2, 6])
    assert [list(b) for b in packed(numbers, pairs, 8)] == [[4, 7], [1], [0, 9]]
    assert [list(b) for b in packed(numbers, pairs, 24)] == [[4, 7, 1, 0, 9]]
    assert [list(b) for b in packed(numbers, pairs, 1)] == [[4], [7], [1], [0], [9]]
    # a last batch that is less than half full is left out, unless it is the only one
    assert [list(b) for b in packed(numbers[:4], pairs[:4], 9)] == [[4, 7], [1]]
    assert [list(b) for b in packed(numbers[:1], pairs[:1], 9)] == [[4]]


def test_packed_batches_keep_the_order_and_the_limit():
    pairs = np.random.default_rng(0).integers(1, 50, 500)
    numbers = order(3, 1, 500)
    batches = packed(numbers, pairs[numbers], 120)
    assert np.array_equal(np.concatenate(batches), numbers[: sum(map(len, batches))])
    sizes = np.array([pairs[b].sum() for b in batches])
    assert sizes.max() <= 120
    assert all(a.sum() + pairs[b[0]] > 120 for a, b in zip((pairs[b] for b in batches), batches[1:]))


def test_steps_of_an_epoch():
    pairs = np.full(23, 5)
    by_number = Sampler(0, pairs, Phase(batch_size=5))
    assert by_number.per_epoch == 4
    assert [len(step) for step in by_number.steps(1)] == [1] * 4
    assert np.array_equal(np.concatenate([b for step in by_number.steps(1) for b in step]), order(0, 1, 23)[:20])
    summed = Sampler(0, pairs, Phase(batch_size=5, accumulate=2))
    assert [[len(b) for b in step] for step in summed.steps(0)] == [[5, 5], [5, 5]]
    assert Sampler(0, pairs, Phase(batch_size=50, accumulate=7)).per_epoch == 1
    packed_ = Sampler(0, pairs, Phase(batch_size=5, batch_pairs=10, accumulate=3))
    assert [[len(b) for b in step] for step in packed_.steps(0)] == [[2, 2, 2]] * 3 + [[2, 2, 1]]


def test_division_is_even_and_whole():
    pairs = np.random.default_rng(0).integers(1, 50, 40)
    batches = [np.arange(0, 20), np.arange(20, 40)]
    assert divided(batches, pairs, 1) == [batches]
    parts = divided(batches, pairs, 3)
    for k, batch in enumerate(batches):
        assert sorted(np.concatenate([mine[k] for mine in parts])) == list(batch)
        loads = [pairs[mine[k]].sum() for mine in parts]
        assert max(loads) - min(loads) <= pairs.max()


def test_large_samples_are_dealt_out():
    pairs = np.array([10, 90, 30, 50])
    assert [[list(b) for b in mine] for mine in divided([np.array([k]) for k in range(4)], pairs, 2)] == [
        [[1]],
        [[0], [2], [3]],
    ]
    assert [[list(b) for b in mine] for mine in divided([np.array([2])], pairs, 2)] == [[[2]], []]


@pytest.fixture
def gradient(mixed_store, tmp_path):
    """`gradient(parts, weight)`: losses and gradients of parts of a step of the joint phase, on samples of different sizes."""
    settings, path = NetworkSettings(), tmp_path / "with-electrons"
    names = mixed_store.names()
    with Store.create(path, mixed_store.basis) as store:
        for sample in (mixed_store[name] for name in names):
            store.append(replace(sample, n_electrons=float(sample.structure.numbers.sum())))
    mixed_store = Store.open(path)
    target = TargetSettings(operators=("overlap",))
    fit = fit_to_samples(load_targets(mixed_store, names, target), "pairs")
    dataset = load_dataset(mixed_store, names, fit, target)

    def make(list_of_parts, weight=0.0):
        torch.manual_seed(0)
        network = TwoStage(fit.space, settings)
        network.calibrate(dataset.batch(np.arange(9)).graph)
        table = ReferenceOrbitalTable(mixed_store, names, fit.space, target, int) if weight else None
        fabric = Fabric(accelerator="cpu", devices=1)
        loss = PhaseLoss(network, fabric.device, 0.3, LossSettings(occupied=weight, shift_blind=True), table)
        average = TwoStage(fit.space, settings)
        steps = PhaseOptimizer(fabric, loss, average, torch.Generator(), "joint", Phase(steps=1))
        found = []
        for parts in list_of_parts:
            value, _, _ = steps._gradient(parts)
            grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in steps.parameters]
            found.append((value, torch.cat([g.flatten() for g in grads])))
        return found

    return dataset, make


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_parts_have_the_loss_and_gradient_of_the_whole(gradient, weight):
    """Summed batches, and the mean over processes, of samples with different elements: parameters without gradient included."""
    dataset, make = gradient
    numbers = np.array([0, 5, 1, 8, 2, 4])
    summed = [numbers[:1], numbers[1:4], numbers[4:]]
    two = [parts_of(dataset, [numbers], rank, 2) for rank in (0, 1)]
    three = [parts_of(dataset, summed, rank, 3) for rank in range(3)]
    idle = [parts_of(dataset, [numbers[:1]], rank, 2) for rank in (0, 1)]
    whole, one = (parts_of(dataset, [n], 0, 1) for n in (numbers, numbers[:1]))
    results = make([whole, parts_of(dataset, summed, 0, 1), *two, *three, one, *idle], weight)
    (value, expected), accumulated, rest = results[0], results[1], results[2:]
    scale = expected.abs().max()
    for found in (accumulated, _mean(rest[:2]), _mean(rest[2:5])):
        assert found[0] == pytest.approx(value, rel=1e-5)
        assert (found[1] - expected).abs().max() < 1e-5 * scale
    alone, of_two = rest[5], _mean(rest[6:])
    assert of_two[0] == pytest.approx(alone[0], rel=1e-5)
    assert (of_two[1] - alone[1]).abs().max() < 1e-5 * alone[1].abs().max()


def _mean(found):
    return sum(v for v, _ in found) / len(found), torch.stack([g for _, g in found]).mean(0)
