"""A step of each phase: what it trains, its averaged weights, and a loss that is not finite."""

import math

import pytest
import torch
from lightning_fabric import Fabric

from harmose.data.store import Store
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.concatenation import TargetSettings
from harmose.train.dataset import load_dataset
from harmose.train.fit import fit_to_samples, load_targets
from harmose.train.schedule import Phase
from harmose.train.step import PhaseLoss, PhaseOptimizer, trained_parameters

SETTINGS = NetworkSettings(
    Stage1Settings(
        channels=4, pseudo_channels=2, scalars=8, so2_channels=4, pseudoscalars=2, hidden=8, radial=8, layers=1
    ),
    Stage2Settings(heads=2, channels=4, pseudo_channels=2, scalars=8, so2_channels=4, pseudoscalars=2, hidden=8),
)


@pytest.fixture
def optimizer(water_store):
    """`optimizer(name)`: a network, its average, a batch, and the optimizer of a phase."""
    with Store.open(water_store) as store:
        names = store.splits["train"]
        fit = fit_to_samples(load_targets(store, names, TargetSettings()), "pairs")
        batch = load_dataset(store, names, fit, TargetSettings()).batch([0, 1, 2])

    def make(name):
        torch.manual_seed(0)
        network, average = (TwoStage(fit.space, SETTINGS) for _ in range(2))
        network.calibrate(batch.graph)
        average.load_state_dict(network.state_dict())
        fabric = Fabric(accelerator="cpu", devices=1)
        loss = PhaseLoss(network, fabric.device, 0.3)
        phase = Phase(steps=10, learning_rate=1e-3, warmup=0)
        return network, average, batch, PhaseOptimizer(fabric, loss, average, torch.Generator(), name, phase)

    return make


@pytest.mark.parametrize("name", ["stage1", "stage2", "joint"])
def test_a_phase_changes_its_own_parameters(optimizer, name):
    network, average, batch, steps = optimizer(name)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert math.isfinite(steps.step(batch, 0, 0.0))
    changed = {k.split(".")[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"joint": {"stage1", "stage2"}}.get(name, {name})
    steps.finish()
    own = zip(trained_parameters(network, name), trained_parameters(average, name), strict=True)
    assert all(torch.equal(a, b) for a, b in own)


def test_losses_fall(optimizer):
    _, _, batch, steps = optimizer("stage1")
    losses = [steps.step(batch, k, k / 30) for k in range(30)]
    assert losses[-1] < 0.9 * losses[0]


def test_a_loss_that_is_not_finite_changes_nothing(optimizer):
    network, _, batch, steps = optimizer("stage1")
    with torch.no_grad():
        network.stage1.encoder.embed.weight.fill_(torch.nan)
    before = [p.clone() for p in network.stage1.heads.parameters()]
    assert math.isnan(steps.step(batch, 0, 0.0))
    assert all(torch.equal(a, b) for a, b in zip(before, network.stage1.heads.parameters(), strict=True))
