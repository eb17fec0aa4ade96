"""Layers joined by sums alone: edges may be updated in parts, in any order."""

from dataclasses import replace

import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.nn.ops.features import concatenate_edges
from harmose.nn.ops.message_passing import MessagePassingLayer, apply_layers
from harmose.representation.batch import GraphBatch, graph_batch


def test_layers_are_applied_in_order():
    def layer(factor: float) -> MessagePassingLayer:
        return MessagePassingLayer(
            lambda graph, atoms, edges: (edges + factor, (torch.zeros(2).index_add(0, graph, edges),)),
            lambda atoms, sums: atoms * factor + sums,
        )

    atoms, edges = apply_layers(
        [layer(2.0), layer(3.0)], torch.tensor([0, 0, 1]), torch.ones(2), torch.tensor([1.0, 2.0, 4.0])
    )
    assert edges.tolist() == [6, 7, 9]
    assert atoms.tolist() == [(1 * 2 + 3) * 3 + 7, (1 * 2 + 4) * 3 + 6]


def part_of(batch: GraphBatch, pairs: slice) -> GraphBatch:
    """Some pairs of a batch, with all of its atoms."""
    names = ("first", "second", "pair_type", "vectors", "distance", "reach", "rotation")
    return replace(batch, **{name: getattr(batch, name)[pairs] for name in names})


@pytest.mark.parametrize("rounds", [1, 2])
def test_two_parts_of_the_edges_give_the_numbers_of_the_whole(space, network, rounds):
    """Stage 1 and stage 2, layer by layer, with the sums of both parts added up."""
    model = network(torch.float64, attention_rounds=rounds)
    graph = build_graph(molecule("CH3OH"), space.basis)
    batch = graph_batch(space, graph, space.orient(graph), torch.float64)
    with torch.no_grad():
        first = model.stage1(batch)
        inputs = model.stage2.edge_inputs(first.edges, first.h1.pairs)
        expected_atoms, expected = apply_layers(model.stage2.layers(), first.graph, None, inputs)

        n, cut = batch.n_pairs, batch.n_pairs // 3
        parts = [slice(0, cut), slice(cut, n)]
        graphs = [model.stage1.encoder.directed_edges(part_of(batch, part)) for part in parts]
        rows = [torch.cat([torch.arange(n)[part], n + torch.arange(n)[part]]) for part in parts]
        atoms, edges = None, [None, None]
        stages = (model.stage1.encoder.layers(), None), (model.stage2.layers(), inputs)
        for layers, given in stages:
            if given is not None:
                edges = [type(given)(given.scalars[r], given.pseudoscalars[r], given.so2[:, r]) for r in rows]
            for layer in layers:
                updated = [layer.update_edges(g, atoms, e) for g, e in zip(graphs, edges, strict=True)]
                edges = [e for e, _ in updated]
                sums = [sum(s) for s in zip(*(s for _, s in updated), strict=True)]
                atoms = layer.update_atoms(atoms, *sums)
    order = torch.argsort(torch.cat(rows))
    found = concatenate_edges(edges)
    torch.testing.assert_close(found.scalars[order], expected.scalars)
    torch.testing.assert_close(found.so2[:, order], expected.so2)
    for x, y in zip(atoms, expected_atoms, strict=True):
        torch.testing.assert_close(x, y)
