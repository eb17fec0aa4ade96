"""Graphs as tensors, and several of them as one."""

from dataclasses import fields

import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.representation.batch import GraphBatch, collate, graph_batch
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


def test_a_concatenated_graph_and_collated_graphs_are_the_same_batch(space, graphs, batches):
    whole, concatenated = collate(batches), concatenated_batch(space, concatenate(space, graphs))
    assert whole.n_samples == 3
    for field in fields(GraphBatch):
        a, b = getattr(whole, field.name), getattr(concatenated, field.name)
        if isinstance(a, torch.Tensor) and field.name != "sample":
            torch.testing.assert_close(a.to(b.dtype), b)
    assert whole.pair_counts == concatenated.pair_counts
    assert torch.bincount(whole.sample).tolist() == [3, 6, 2]
    assert torch.equal(whole.sample[whole.first], whole.sample[whole.second])


def test_one_batch_stays_as_it_is(batches):
    assert collate(batches[:1]) is batches[0]
    assert batches[0].to("cpu") is batches[0]
