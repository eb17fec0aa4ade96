"""Stage 1 as a whole: encoder, heads, and the output that stage 2 takes."""

import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.representation.batch import GraphBatch, graph_batch


@pytest.fixture
def batch(space) -> GraphBatch:
    graph = build_graph(molecule("CH3OH"), space.basis)
    return graph_batch(space, graph, space.orient(graph), torch.float64)


def test_h1_comes_from_the_encoded_features(network, batch):
    stage1 = network(torch.float64).stage1
    with torch.no_grad():
        output = stage1(batch)
        atoms, edges, graph = stage1.encode(batch)
        h1 = stage1.heads(atoms, edges, batch)
    for group, x in output.h1.pairs.items():
        assert torch.equal(x, h1.pairs[group])
    assert torch.equal(output.edges.scalars, edges.scalars)
    assert torch.equal(output.graph.pair_type, graph.pair_type)


def test_coefficients_have_the_shapes_of_the_irreps(space, network, batch):
    with torch.no_grad():
        h1 = network(torch.float64).stage1(batch).h1
    for k, group in enumerate(space.groups):
        layout = space.pair_layout(group)
        assert h1.pairs[group].shape == (batch.pair_counts[k], layout.n_slots, layout.n_irreps)
    for s, x in h1.onsite.items():
        assert x.shape == (batch.atom_counts[s], *space.onsite_layout(s).mask.shape)


def test_zeroed_heads_leave_h1_zero_and_features_as_they_are(network, batch):
    model = network(torch.float64)
    with torch.no_grad():
        before = model.stage1(batch)
        model.zero_outputs()
        after = model.stage1(batch)
    assert all(x.abs().max() == 0 for x in (*after.h1.pairs.values(), *after.h1.onsite.values()) if x.numel())
    assert torch.equal(after.edges.scalars, before.edges.scalars)
