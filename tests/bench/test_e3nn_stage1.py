"""The network that harmose is compared with obeys the same laws: a fair rival is a correct one."""

import numpy as np
import pytest
import torch

import harmose
from harmose.bench.e3nn_stage1 import E3nnStage1, step
from harmose.bench.systems import system
from harmose.inference.model import ModelInput
from harmose.nn.stage1.settings import Stage1Settings
from harmose.so3.wigner import random_rotation, wigner_d

SMALL = Stage1Settings(channels=4, pseudo_channels=2, radial=8)


@pytest.fixture(scope="module")
def model():
    return harmose.load("water-pbe-def2svp")


@pytest.fixture(scope="module")
def network(model):
    torch.manual_seed(0)
    return E3nnStage1(model.regression.space, SMALL)


def test_blocks_turn_with_the_molecule_and_are_mirrored(model, network):
    (atoms,) = system("water-1").structures
    rotation = -random_rotation(np.random.default_rng(1))
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    space = model.regression.space
    with torch.no_grad():
        (pairs, onsite), (pairs_turned, onsite_turned) = (
            network(ModelInput(model, [a]).batch) for a in (atoms, turned)
        )
    turns = [_turn(space.shell_types[s], rotation) for s in range(len(space.shell_types))]
    size = float(torch.cat([x.flatten() for x in (*pairs, *onsite)]).abs().max())
    assert size > 1e-2
    for (a, b), h, found in zip(space.groups, pairs, pairs_turned, strict=True):
        torch.testing.assert_close(turns[a] @ h @ turns[b].T, found, atol=1e-4 * size, rtol=0)
    for s, (h, found) in enumerate(zip(onsite, onsite_turned, strict=True)):
        torch.testing.assert_close(turns[s] @ h @ turns[s].T, found, atol=1e-4 * size, rtol=0)
        assert torch.equal(h, h.mT)


def _turn(degrees, rotation):
    """D of an improper rotation: that of its proper part, times the parity of each shell."""
    parts = [(-1) ** l * torch.as_tensor(wigner_d(l, -rotation)).float() for l in degrees]
    return torch.block_diag(*parts)


def test_it_predicts_the_same_blocks_as_harmose(model, network):
    asked = ModelInput(model, system("water-2").structures)
    with torch.no_grad():
        pairs, onsite = network(asked.batch)
    assert sum(x.numel() for x in (*pairs, *onsite)) == sum(m.values.size for m in asked.matrices)


def test_it_learns(model, network):
    train = step(network, ModelInput(model, system("water-2").structures).batch)
    for group in (losses := []), range(8):
        losses += [train() for _ in group]
    assert losses[-1] < losses[0]
