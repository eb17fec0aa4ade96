"""Attention of atoms over their edges: weights from invariants, covariant values."""

import torch
from torch import Tensor, nn

from harmose.nn.encoder import AtomFeatures, DirectedEdges, EncoderSettings, Messages
from harmose.nn.layers import Rescale, Standardize, perceptron
from harmose.nn.refiner_settings import RefinerSettings
from harmose.nn.so2 import EdgeFeatures, sizes_of_doublets


class Attention(nn.Module):
    """Multi-head attention of atoms over their edges: invariant weights, covariant values.

    `context_i = sum_j a^h_ij v^h_ij`, `a^h_i. = softmax_j(w^h(invariants of i-j))`, smooth at the cutoff through the envelope.
    Where `attention` is switched off every edge counts by its envelope alone: a plain sum.
    """

    head: Tensor

    def __init__(self, settings: RefinerSettings, seen: EncoderSettings, l_max: int, n_kinds: int) -> None:
        """`seen`: the widths of the edge features that come in."""
        super().__init__()
        s, self.on = settings, settings.attention
        self.rescale = Rescale(l_max, 1, 1, seen.doublets)
        widths = EncoderSettings(s.channels, s.unnatural_channels, seen.scalars, seen.doublets, seen.pseudoscalars)
        self.values = Messages(widths, l_max)
        if self.on:
            n_invariants = seen.scalars + l_max * seen.doublets
            self.invariants = Standardize(n_kinds, n_invariants)
            self.weights = perceptron(n_invariants, s.scalars, s.heads)
        heads = torch.cat([torch.arange(s.channels) % s.heads, torch.arange(s.unnatural_channels) % s.heads])
        self.register_buffer("head", heads, persistent=False)

    def forward(self, edges: EdgeFeatures, graph: DirectedEdges, n_atoms: int) -> AtomFeatures:
        edges = edges._replace(doublets=self.rescale(edges.doublets))
        return self.values(edges, graph, n_atoms, self._shares(edges, graph, n_atoms) if self.on else None)

    def _shares(self, edges: EdgeFeatures, graph: DirectedEdges, n_atoms: int) -> Tensor:
        """The weight of every edge in each channel (E, 1, C + C')."""
        invariants = torch.cat([edges.scalars, sizes_of_doublets(edges.doublets)], 1)
        logits = self.weights(self.invariants(invariants, graph.kind))
        # A shift common to an atom's edges leaves the softmax unchanged and keeps the exponentials finite.
        centre = graph.centre[:, None].expand_as(logits)
        top = logits.new_full((n_atoms, logits.shape[1]), -torch.inf).scatter_reduce(0, centre, logits.detach(), "amax")
        raw = torch.exp(logits - top.index_select(0, graph.centre)) * graph.envelope[:, :, 0] + 1e-30
        total = raw.new_zeros(n_atoms, raw.shape[1]).index_add(0, graph.centre, raw)
        share = raw / total.index_select(0, graph.centre)
        return share[:, None, self.head]
