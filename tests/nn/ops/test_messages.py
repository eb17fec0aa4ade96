"""Messages from edges to atoms: envelope, attention weights, parity."""

import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.ops.messages import Messages, both_atoms_in_frames
from harmose.representation.batch import graph_batch

WIDTHS = EdgeWidths(6, 3, 4)


@pytest.fixture
def graph(space, network):
    """Directed edges of methanol."""
    graph = build_graph(molecule("CH3OH"), space.basis)
    batch = graph_batch(space, graph, space.orient(graph), torch.float64)
    with torch.no_grad():
        return network(torch.float64).stage1.encoder.directed_edges(batch)


@pytest.fixture
def edges(space, graph) -> EdgeFeatures:
    torch.manual_seed(1)
    n, like = len(graph.centre), {"dtype": torch.float64}
    return EdgeFeatures(torch.randn(n, 6, **like), torch.randn(n, 3, **like), torch.randn(space.l_max, n, 2, 4, **like))


@pytest.fixture
def messages(space) -> Messages:
    torch.manual_seed(0)
    return Messages(5, 2, WIDTHS, space.l_max).double().requires_grad_(False)


def test_shapes_and_parity(space, graph, edges, messages):
    sums = messages.sums(edges, graph)
    assert sums.shape == (graph.n_atoms, (space.l_max + 1) ** 2, 7)
    proper, pseudo = messages.to_atoms(sums)
    assert proper.shape[2] == 5
    assert pseudo.shape[2] == 2


def test_weights_replace_the_envelope(graph, edges, messages):
    torch.testing.assert_close(
        messages.sums(edges, graph, graph.envelope.expand(-1, 1, 7)), messages.sums(edges, graph)
    )
    torch.testing.assert_close(
        messages.sums(edges, graph, 2 * graph.envelope.expand(-1, 1, 7)), 2 * messages.sums(edges, graph)
    )


def test_scalars_alone_send_irreps_along_the_edge(space, graph, edges, messages):
    """Only m = 0: the sum over neighbours is that of spherical harmonics, which are the rotations' rows of m = 0."""
    only = EdgeFeatures(edges.scalars, torch.zeros_like(edges.pseudoscalars), torch.zeros_like(edges.so2))
    sums = messages.sums(only, graph)
    assert sums[:, :, 5:].abs().max() == 0
    radial = messages.proper(edges.scalars).view(len(graph.centre), space.l_max + 1, 5) * graph.envelope
    rotation = torch.cat([graph.frames.rotation, graph.frames.rotation * graph.frames.row_signs])
    axes = rotation[:, : space.l_max + 1]
    expected = torch.zeros_like(sums[:, :, :5]).index_add(0, graph.centre, axes.mT @ radial)
    torch.testing.assert_close(sums[:, :, :5], expected)


def test_both_atoms_of_an_edge_come_centre_first(space, graph):
    """The scalars (l = 0) do not turn, so that they show the order."""
    features = torch.zeros(graph.n_atoms, (space.l_max + 1) ** 2, 1, dtype=torch.float64)
    features[:, 0, 0] = torch.arange(graph.n_atoms)
    m0, so2 = both_atoms_in_frames(features, graph, True)
    assert torch.equal(m0[:, 0], graph.centre.double())
    assert torch.equal(m0[:, 1], graph.neighbour.double())
    assert so2.abs().max() == 0
