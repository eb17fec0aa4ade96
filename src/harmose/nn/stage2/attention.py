"""Sums over the neighbours of an atom: multi-head attention, and the plain sum that replaces it in an ablation."""

import torch
from torch import Tensor, nn

from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, EdgeWidths
from harmose.nn.ops.layers import Rescale, Standardize, perceptron
from harmose.nn.ops.messages import DirectedEdges, Messages
from harmose.nn.ops.so2 import so2_log_norms
from harmose.nn.stage2.settings import Stage2Settings

MAX_LOGIT = 60.0
"""Exponentials of logits up to this size, and sums of them, stay finite in float32."""


class PlainSum(nn.Module):
    """Sum of covariant messages over the edges of an atom, weighted by the envelope alone."""

    def __init__(self, settings: Stage2Settings, edges: EdgeWidths, l_max: int, n_pair_types: int) -> None:
        super().__init__()
        self.rescale = Rescale(l_max, 1, 1, edges.so2)
        self.values = Messages(settings.channels, settings.pseudo_channels, edges, l_max)

    def sums(self, edges: EdgeFeatures, graph: DirectedEdges) -> tuple[Tensor, ...]:
        """Sum over the edges of each atom: (N, (l_max+1)^2, C + C')."""
        return (self.values.sums(edges._replace(so2=self.rescale(edges.so2)), graph),)

    def to_atoms(self, *sums: Tensor) -> AtomFeatures:
        """Features of the atoms from the sums over all their edges."""
        return self.values.to_atoms(*sums)


class Attention(PlainSum):
    """Multi-head attention of atoms over their edges, with invariant weights and covariant values v.

    `context_i = sum_j a^h_ij v^h_ij`, `a^h_i. = softmax_j(w^h(invariants of i-j))`; the envelope makes it smooth at
    the cutoff.
    """

    head: Tensor

    def __init__(self, settings: Stage2Settings, edges: EdgeWidths, l_max: int, n_pair_types: int) -> None:
        super().__init__(settings, edges, l_max, n_pair_types)
        s, n_invariants = settings, edges.scalars + l_max * edges.so2
        self.standardize = Standardize(n_pair_types, n_invariants)
        self.logits = perceptron(n_invariants, s.scalars, s.heads)
        heads = torch.cat([torch.arange(s.channels) % s.heads, torch.arange(s.pseudo_channels) % s.heads])
        self.register_buffer("head", heads, persistent=False)

    def sums(self, edges: EdgeFeatures, graph: DirectedEdges) -> tuple[Tensor, ...]:
        """Sums over the edges of each atom: values times weights (N, (l_max+1)^2, C + C'), and weights (N, heads)."""
        edges = edges._replace(so2=self.rescale(edges.so2))
        weights = self._weights(edges, graph)
        total = weights.new_zeros(graph.n_atoms, weights.shape[1]).index_add(0, graph.centre, weights)
        return self.values.sums(edges, graph, weights[:, None, self.head]), total

    def to_atoms(self, *sums: Tensor) -> AtomFeatures:
        """Divide by the sum of the weights; zero for an atom without edges."""
        values, total = sums
        return self.values.to_atoms(values / total.clamp_min(1e-30)[:, None, self.head])

    def _weights(self, edges: EdgeFeatures, graph: DirectedEdges) -> Tensor:
        """Weight of every edge in each head (E, heads), not yet divided by the sum over the edges of an atom."""
        invariants = torch.cat([edges.scalars, so2_log_norms(edges.so2)], 1)
        logits = self.logits(self.standardize(invariants, graph.pair_type))
        return torch.exp(logits.clamp(-MAX_LOGIT, MAX_LOGIT)) * graph.envelope[:, :, 0] + 1e-30
