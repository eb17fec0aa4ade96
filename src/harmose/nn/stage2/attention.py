"""Attention of atoms over their edges: weights from invariants, covariant values."""

import torch
from torch import Tensor, nn

from harmose.nn.ops.layers import Rescale, Standardize, perceptron
from harmose.nn.ops.so2 import EdgeFeatures, so2_log_norms
from harmose.nn.stage1.encoder import AtomFeatures, DirectedEdges, Messages, Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings

LARGEST = 60.0
"""Of a logit: its exponential, and sums of them, stay finite in float32."""


class Attention(nn.Module):
    """Multi-head attention of atoms over their edges: invariant weights, covariant values.

    `context_i = sum_j a^h_ij v^h_ij`, `a^h_i. = softmax_j(w^h(invariants of i-j))`, smooth at the cutoff through the envelope.
    Where `attention` is switched off every edge counts by its envelope alone: a plain sum.
    """

    head: Tensor

    def __init__(self, settings: Stage2Settings, seen: Stage1Settings, l_max: int, n_kinds: int) -> None:
        """`seen`: the widths of the edge features that come in."""
        super().__init__()
        s, self.on = settings, settings.attention
        self.rescale = Rescale(l_max, 1, 1, seen.so2_channels)
        widths = Stage1Settings(s.channels, s.pseudo_channels, seen.scalars, seen.so2_channels, seen.pseudoscalars)
        self.values = Messages(widths, l_max)
        if self.on:
            n_invariants = seen.scalars + l_max * seen.so2_channels
            self.invariants = Standardize(n_kinds, n_invariants)
            self.weights = perceptron(n_invariants, s.scalars, s.heads)
        heads = torch.cat([torch.arange(s.channels) % s.heads, torch.arange(s.pseudo_channels) % s.heads])
        self.register_buffer("head", heads, persistent=False)

    def sums(self, edges: EdgeFeatures, graph: DirectedEdges) -> tuple[Tensor, ...]:
        """Values times weights (N, (l_max+1)^2, C + C') and, with attention, weights (N, heads), summed over the edges."""
        edges = edges._replace(so2=self.rescale(edges.so2))
        if not self.on:
            return (self.values.sums(edges, graph),)
        weights = self._weights(edges, graph)
        total = weights.new_zeros(graph.n_atoms, weights.shape[1]).index_add(0, graph.centre, weights)
        return self.values.sums(edges, graph, weights[:, None, self.head]), total

    def received(self, sums: Tensor, total: Tensor | None = None) -> AtomFeatures:
        """What the atoms make of the sums over all their edges; an atom without edges sees nothing."""
        if total is not None:
            sums = sums / total.clamp_min(1e-30)[:, None, self.head]
        return self.values.received(sums)

    def _weights(self, edges: EdgeFeatures, graph: DirectedEdges) -> Tensor:
        """The weight of every edge in each head (E, heads), up to a factor that all edges of an atom have."""
        invariants = torch.cat([edges.scalars, so2_log_norms(edges.so2)], 1)
        logits = self.weights(self.invariants(invariants, graph.kind))
        return torch.exp(logits.clamp(-LARGEST, LARGEST)) * graph.envelope[:, :, 0] + 1e-30
