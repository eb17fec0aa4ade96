"""Attention over the edges of an atom: weights sum to one, fade at the cutoff, and never overflow."""

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.ops.messages import DirectedEdges
from harmose.nn.stage2.attention import Attention, PlainSum
from harmose.nn.stage2.settings import Stage2Settings
from harmose.representation.batch import graph_batch

SETTINGS, WIDTHS = Stage2Settings(heads=3, channels=6, pseudo_channels=3, scalars=8), EdgeWidths(5, 3, 4)


@pytest.fixture
def graph_of(space, network):
    def make(atoms: Atoms) -> DirectedEdges:
        graph = build_graph(atoms, space.basis)
        batch = graph_batch(space, graph, space.orient(graph), torch.float64)
        with torch.no_grad():
            return network(torch.float64).stage1.encoder.directed_edges(batch)

    return make


@pytest.fixture
def attention(space) -> Attention:
    torch.manual_seed(0)
    return Attention(SETTINGS, WIDTHS, space.l_max, len(space.elements) ** 2).double().requires_grad_(False)


def random_edges(graph: DirectedEdges, orders: int) -> EdgeFeatures:
    torch.manual_seed(1)
    n = len(graph.centre)
    return EdgeFeatures(*(torch.randn(*s).double() for s in ((n, 5), (n, 3), (orders, n, 2, 4))))


def test_equal_edges_get_the_average_of_their_values(space, graph_of, attention):
    """All scalars alike and no other features: the context's scalars are those of one edge, whatever the weights."""
    graph = graph_of(molecule("CH3OH"))
    edges = random_edges(graph, space.l_max)
    edges = EdgeFeatures(torch.ones_like(edges.scalars), torch.zeros_like(edges.pseudoscalars), 0 * edges.so2)
    context = attention.to_atoms(*attention.sums(edges, graph))
    values = attention.values.proper(edges.scalars)[0, :6]  # rows of m = 0, l = 0
    torch.testing.assert_close(context.proper[:, 0], values.expand(graph.n_atoms, -1))


def test_weights_are_a_softmax_for_each_head(space, graph_of, attention):
    graph = graph_of(molecule("CH3OH"))
    edges = random_edges(graph, space.l_max)
    _, total = attention.sums(edges, graph)
    weights = attention._weights(edges, graph)
    assert weights.shape == (len(graph.centre), 3)
    assert total.shape == (graph.n_atoms, 3)
    share = torch.zeros_like(total).index_add(0, graph.centre, weights / total[graph.centre])
    torch.testing.assert_close(share, torch.ones_like(share))


def test_large_logits_stay_finite(space, graph_of, attention):
    attention.logits[-1].weight.mul_(1e6)
    graph = graph_of(molecule("CH3OH"))
    context = attention.float().to_atoms(
        *attention.sums(
            EdgeFeatures(*(x.float() for x in random_edges(graph, space.l_max))),
            graph._replace(
                envelope=graph.envelope.float(),
                frames=graph.frames._replace(
                    rotation=graph.frames.rotation.float(), row_signs=graph.frames.row_signs.float()
                ),
            ),
        )
    )
    assert torch.isfinite(context.proper).all()


@pytest.mark.parametrize("kind", [Attention, PlainSum])
def test_atoms_do_not_depend_on_the_order_of_edges(space, graph_of, kind):
    torch.manual_seed(0)
    layer = kind(SETTINGS, WIDTHS, space.l_max, len(space.elements) ** 2).double().requires_grad_(False)
    graph = graph_of(molecule("CH3OH"))
    edges = random_edges(graph, space.l_max)
    n = len(graph.frames.first)
    order = torch.randperm(n)
    both = torch.cat([order, n + order])
    f = graph.frames
    frames = f._replace(
        rotation=f.rotation[order],
        weighted=tuple(x[order] for x in f.weighted),
        first=f.first[order],
        second=f.second[order],
    )
    fields = ("centre", "neighbour", "envelope", "pair_type", "scalars")
    shuffled = graph._replace(frames=frames, **{name: getattr(graph, name)[both] for name in fields})
    moved = EdgeFeatures(edges.scalars[both], edges.pseudoscalars[both], edges.so2[:, both])
    for x, y in zip(layer.sums(edges, graph), layer.sums(moved, shuffled), strict=True):
        torch.testing.assert_close(x, y)


def test_an_atom_without_edges_gets_zeros(space, graph_of, attention):
    graph = graph_of(Atoms("O"))
    context = attention.to_atoms(*attention.sums(random_edges(graph, space.l_max), graph))
    assert context.proper.shape == (1, (space.l_max + 1) ** 2, 6)
    assert context.proper.abs().max() == 0


def test_the_plain_sum_has_no_weights(space, graph_of):
    torch.manual_seed(0)
    layer = PlainSum(SETTINGS, WIDTHS, space.l_max, 1).double()
    graph = graph_of(molecule("H2O"))
    edges = random_edges(graph, space.l_max)
    (sums,) = layer.sums(edges, graph)
    torch.testing.assert_close(sums, layer.values.sums(edges, graph))
