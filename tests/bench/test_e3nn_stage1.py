"""Stage 1 written with e3nn is equivariant, predicts the same blocks as harmose, and learns."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import harmose
from harmose.bench.systems import system
from harmose.nn.stage1.settings import Stage1Settings
from harmose.so3.wigner import random_rotation, wigner_d

pytestmark = pytest.mark.skipif(find_spec("e3nn") is None, reason="e3nn is not installed")

SMALL = Stage1Settings(channels=4, pseudo_channels=2, radial=8)


def e3nn_stage1():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("harmose.bench.e3nn_stage1")


@pytest.fixture(scope="module")
def model():
    return harmose.load("water-pbe-def2svp")


@pytest.fixture(scope="module")
def network(model):
    torch.manual_seed(0)
    return e3nn_stage1().E3nnStage1(model.space, SMALL)


def test_rotation_and_inversion(model, network):
    (atoms,) = system("water-1").structures
    rotation = -random_rotation(np.random.default_rng(1))
    rotated = atoms.copy()
    rotated.positions = atoms.positions @ rotation.T
    space = model.space
    with torch.no_grad():
        (pairs, onsite), (rotated_pairs, rotated_onsite) = (network(model.inputs([a]).batch) for a in (atoms, rotated))
    wigner = [_improper_wigner(shells, rotation) for shells in space.shell_types]
    size = float(torch.cat([x.flatten() for x in (*pairs, *onsite)]).abs().max())
    assert size > 1e-2
    for (a, b), h, h_rotated in zip(space.groups, pairs, rotated_pairs, strict=True):
        torch.testing.assert_close(wigner[a] @ h @ wigner[b].T, h_rotated, atol=1e-4 * size, rtol=0)
    for d, h, h_rotated in zip(wigner, onsite, rotated_onsite, strict=True):
        torch.testing.assert_close(d @ h @ d.T, h_rotated, atol=1e-4 * size, rtol=0)
        assert torch.equal(h, h.mT)


def _improper_wigner(degrees, rotation):
    """D of an improper rotation: D of -rotation times the parity of each shell."""
    parts = [(-1) ** l * torch.as_tensor(wigner_d(l, -rotation)).float() for l in degrees]
    return torch.block_diag(*parts)


def test_number_of_elements(model, network):
    structures = system("water-2").structures
    with torch.no_grad():
        pairs, onsite = network(model.inputs(structures).batch)
    n_elements = sum(h.values.size for h in model.predict_many(structures))
    assert sum(x.numel() for x in (*pairs, *onsite)) == n_elements


def test_training(model, network):
    step = e3nn_stage1().make_e3nn_step(network, model.inputs(system("water-2").structures).batch)
    losses = [step() for _ in range(8)]
    assert losses[-1] < losses[0]
