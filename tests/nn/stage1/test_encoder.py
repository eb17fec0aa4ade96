"""The encoder: irreps turn as e3nn says, edge features do not, and a neighbour at the cutoff does not count."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.nn.ops.layers import calibrate
from harmose.nn.stage1.encoder import Encoder
from harmose.nn.stage1.settings import Stage1Settings
from harmose.representation.batch import GraphBatch, graph_batch
from harmose.so3.wigner import random_rotation

SETTINGS = Stage1Settings(channels=4, pseudo_channels=2, scalars=16, so2_channels=8, pseudoscalars=4, hidden=16)
METHANOL = molecule("CH3OH")


@pytest.fixture
def batch_of(space):
    def make(atoms: Atoms) -> GraphBatch:
        graph = build_graph(atoms, space.basis)
        return graph_batch(space, graph, space.orient(graph), torch.float64)

    return make


@pytest.fixture
def encoder(space, batch_of) -> Encoder:
    torch.manual_seed(0)
    made = Encoder(SETTINGS, len(space.elements), space.l_max).double()
    calibrate(made, batch_of(METHANOL))
    return made.requires_grad_(False)


def moved(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    out = atoms.copy()
    out.positions = atoms.positions @ matrix.T
    return out


def test_shapes(space, encoder, batch_of):
    batch = batch_of(METHANOL)
    atoms, edges, graph = encoder(batch)
    rows, n_edges = (space.l_max + 1) ** 2, 2 * batch.n_pairs
    assert [tuple(x.shape) for x in atoms] == [(6, rows, 4), (6, rows, 2)]
    assert [tuple(x.shape) for x in edges] == [(n_edges, 16), (n_edges, 4), (space.l_max, n_edges, 2, 8)]
    assert len(graph.centre) == n_edges


@pytest.mark.parametrize("parity", [1, -1])
def test_irreps_of_atoms_turn_as_e3nn_says(space, encoder, batch_of, e3nn_wigner, parity):
    """Proper irreps have parity (-1)^l, pseudo irreps the opposite one."""
    rotation = random_rotation(np.random.default_rng(1))
    before, *_ = encoder(batch_of(METHANOL))
    after, *_ = encoder(batch_of(moved(METHANOL, parity * rotation)))
    for x, y, p in zip(before, after, (1, parity), strict=True):
        for l in range(space.l_max + 1):
            d = e3nn_wigner(l, rotation) * p * parity**l
            part = slice(l * l, (l + 1) ** 2)
            torch.testing.assert_close(y[:, part], torch.einsum("ij,njc->nic", d, x[:, part]))


def test_norms_in_edge_frames_do_not_turn(encoder, batch_of):
    rotation = random_rotation(np.random.default_rng(1))
    (_, before, _), (_, after, _) = (encoder(batch_of(a)) for a in (METHANOL, moved(METHANOL, rotation)))
    torch.testing.assert_close(after.scalars, before.scalars)
    torch.testing.assert_close(after.pseudoscalars.abs(), before.pseudoscalars.abs())
    torch.testing.assert_close(after.so2.square().sum(2), before.so2.square().sum(2))


def test_a_neighbour_at_the_cutoff_does_not_count(encoder, batch_of, space):
    reach = space.basis.radii[1] + space.basis.radii[8]
    features = []
    for distance in (reach - 1e-3, reach + 1e-3):
        atoms = Atoms("OHH", positions=[[0, 0, 0], [1, 0, 0], [0, distance, 0]])
        batch = batch_of(atoms)
        found, *_ = encoder(batch)
        features.append((batch.n_pairs, found.proper[-1] if len(found.proper) else None))
    (near, x), (far, y) = features
    assert near > far
    torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)


def test_calibration_scales_features_to_order_one(encoder, batch_of):
    batch = batch_of(METHANOL)
    atoms, edges, graph = encoder(batch)
    for x in (*atoms, edges.so2):
        assert 0.1 < x.square().mean().sqrt() < 10
    update = encoder.edge_updates[0]
    assert (update.rescale.scale != 1).all()
    assert update.standardize.mean.abs().max() > 0
    assert graph.scalars.shape[1] == 16
