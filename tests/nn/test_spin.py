"""Networks with spin: rotation of space and spin, Kramers' theorem, two real collinear matrices."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.batch import graph_batch
from harmose.representation.block_irreps import to_matrix
from harmose.representation.concatenation import block_irreps
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin

S, P, D = Shell(1, 0), Shell(2, 1), Shell(3, 2)
BASIS = BasisSet("spd", {1: (S, P), 8: (S, P, D), 6: (S, P, D)}, {1: 6.0, 8: 6.0, 6: 6.0})
METHANOL = molecule("CH3OH")


def random_network(spin: Spin, dtype: torch.dtype) -> TwoStage:
    """Random weights everywhere, calibrated on methanol."""
    torch.manual_seed(5)
    space = block_irreps(BASIS, spin)
    settings = NetworkSettings(
        Stage1Settings(channels=4, pseudo_channels=2, scalars=16, so2_channels=8, pseudoscalars=4, hidden=16),
        Stage2Settings(channels=4, pseudo_channels=4, scalars=8, so2_channels=8, pseudoscalars=4, hidden=32),
    )
    network = TwoStage(space, settings)
    graph = build_graph(METHANOL, BASIS)
    network.calibrate(graph_batch(space, graph, space.orient(graph)))
    for parameter in network.stage2.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.to(dtype).eval()


def predicted(network: TwoStage, atoms, stage: str) -> BlockMatrix:
    """The network's normalised coefficients, read as if they were eV."""
    graph = build_graph(atoms, BASIS)
    oriented = network.space.orient(graph)
    batch = graph_batch(network.space, graph, oriented, next(network.parameters()).dtype)
    with torch.no_grad():
        out = network(batch) if stage == "full" else network.stage1(batch).h1
        return to_matrix(network.space, out, graph, oriented)


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_stage1_turns_with_space_and_spin(spin, dtype, tolerance):
    network, rotation = random_network(spin, dtype), random_rotation(np.random.default_rng(6))
    turned = METHANOL.copy()
    turned.positions = turned.positions @ rotation.T
    h = predicted(network, METHANOL, "stage1")
    error = predicted(network, turned, "stage1").values - h.rotate(rotation).values
    assert h.spin is spin
    assert np.abs(error).mean() < tolerance * np.abs(h.values).mean()


@pytest.mark.parametrize("stage", ["stage1", "full"])
def test_every_level_of_a_spinor_prediction_is_a_kramers_pair(stage):
    h = predicted(random_network(Spin.SPINOR, torch.float64), METHANOL, stage).dense()
    np.testing.assert_allclose(h, h.conj().T, atol=1e-12)
    levels = np.linalg.eigvalsh(h)
    np.testing.assert_allclose(levels[::2], levels[1::2], atol=1e-11)
    scalar = np.linalg.eigvalsh(np.real(h[: len(h) // 2, : len(h) // 2]))
    assert np.abs(levels[::2] - scalar).max() > 0.1  # spin-orbit coupling is there


def test_collinear_predictions_are_two_real_matrices():
    h = predicted(random_network(Spin.COLLINEAR, torch.float64), METHANOL, "full")
    assert h.values.dtype == np.float64
    assert h.dense().shape == (2, h.n_orbitals, h.n_orbitals)
    assert np.abs(h.values[0] - h.values[1]).max() > 0.1
