"""Graphs as tensors, and several of them as one."""

import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.representation.batch import graph_batch
from harmose.representation.concatenation import concatenate, concatenated_batch

NAMES = ("H2O", "CH3OH", "CO")


@pytest.fixture
def graphs(space):
    return [build_graph(molecule(name), space.basis) for name in NAMES]


@pytest.fixture
def batches(space, graphs):
    return [graph_batch(space, graph, space.orient(graph), torch.float64) for graph in graphs]


def test_atoms_and_pairs_are_sorted(space, graphs, batches):
    batch = batches[1]
    assert (torch.as_tensor(space.shell_type)[batch.species].diff() >= 0).all()
    assert (batch.n_atoms, batch.n_pairs) == (6, graphs[1].n_pairs)
    for k, (a, b) in enumerate(space.groups):
        pairs = batch.pair_slice(k)
        for atom, shell_type in ((batch.first, a), (batch.second, b)):
            assert (torch.as_tensor(space.shell_type)[batch.species[atom[pairs]]] == shell_type).all()
    for k in range(len(space.shell_types)):
        assert (torch.as_tensor(space.shell_type)[batch.species[batch.atom_slice(k)]] == k).all()


def test_rotations_turn_vectors_to_the_axis(batches):
    batch = batches[1]
    vectors = torch.zeros(batch.n_pairs, 25, dtype=torch.float64)
    vectors[:, 1:4] = batch.vectors[:, [1, 2, 0]]
    turned = (batch.rotation @ vectors[:, :, None])[:, :, 0]
    torch.testing.assert_close(turned.square().sum(1).sqrt(), batch.distance)
    torch.testing.assert_close(turned[:, 1], batch.distance)  # row 1 is l = 1, m = 0


def test_a_batch_of_several_graphs_holds_each_of_them(space, graphs, batches):
    whole = concatenated_batch(space, concatenate(space, graphs), dtype=torch.float64)
    assert whole.n_samples == 3
    assert torch.equal(whole.sample[whole.first], whole.sample[whole.second])
    for k, part in enumerate(batches):
        atoms, pairs = whole.sample == k, whole.sample[whole.first] == k
        assert torch.equal(whole.species[atoms], part.species)
        for name in ("pair_type", "vectors", "distance", "reach", "rotation"):
            torch.testing.assert_close(getattr(whole, name)[pairs], getattr(part, name))
        rows = torch.full((whole.n_atoms,), -1)
        rows[atoms] = torch.arange(part.n_atoms)
        assert torch.equal(rows[whole.first[pairs]], part.first)
        assert torch.equal(rows[whole.second[pairs]], part.second)
    for k in range(len(space.groups)):
        assert whole.pair_counts[k] == sum(part.pair_counts[k] for part in batches)


def test_a_batch_on_its_own_device_is_itself(batches):
    assert batches[0].to("cpu") is batches[0]
