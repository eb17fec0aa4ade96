"""Directed edges of a graph, atom features in the frames of edges, and messages from edges to atoms."""

from typing import NamedTuple

from torch import Tensor, nn

from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, EdgeWidths
from harmose.nn.ops.frames import (
    PairFrames,
    ReversalSigns,
    both_directions,
    gather_in_frames,
    messages_in_frames,
    sum_over_edges,
)
from harmose.nn.ops.layers import Rescale
from harmose.nn.ops.so2 import SO2Linear


class DirectedEdges(NamedTuple):
    """Both directions of every pair: all pairs, then all reversed pairs, E = 2 P.

    centre, neighbour (E,): atoms; frames: rotations of the pairs; signs: those of reversed edges; envelope (E, 1, 1):
    smooth cutoff; pair_type (E,): elements of centre and neighbour; scalars (E, n0): features of the pair type and the
    distance.
    """

    centre: Tensor
    neighbour: Tensor
    frames: PairFrames
    signs: ReversalSigns
    envelope: Tensor
    pair_type: Tensor
    scalars: Tensor
    n_atoms: int


def both_atoms_in_frames(features: Tensor, graph: DirectedEdges, is_proper: bool) -> tuple[Tensor, Tensor]:
    """Rotate irreps (N, (l_max+1)^2, C) of both atoms of every edge into its frame, and concatenate their channels.

    Returns the part of order m = 0 (E, (l_max+1) 2 C) and SO(2) features (M, E, 2, l_max 2 C).
    """
    return both_directions(gather_in_frames(features, graph.frames), graph.signs, is_proper)


class Messages(nn.Module):
    """Linear maps from edge features to irreps, which each atom sums over its edges (SO(2) convolution)."""

    def __init__(self, channels: int, pseudo_channels: int, edges: EdgeWidths, l_max: int) -> None:
        super().__init__()
        self.channels = [channels, pseudo_channels]
        self.proper = nn.Linear(edges.scalars, (l_max + 1) * channels)
        self.pseudo = nn.Linear(edges.pseudoscalars, (l_max + 1) * pseudo_channels, bias=False)
        self.so2 = SO2Linear(l_max, edges.so2, l_max * (channels + pseudo_channels))
        self.rescale = Rescale(channels + pseudo_channels)

    def sums(self, edges: EdgeFeatures, graph: DirectedEdges, weights: Tensor | None = None) -> Tensor:
        """Sum the messages of each atom's edges (N, (l_max+1)^2, C + C').

        `weights` (E, 1, C + C'): attention weights, used in place of the envelope, which they contain.
        """
        m0 = self.proper(edges.scalars), self.pseudo(edges.pseudoscalars)
        messages = messages_in_frames(*m0, edges.so2, self.so2.weight)
        if weights is None:
            return sum_over_edges(messages, graph.frames)
        return sum_over_edges(messages * weights, graph.frames.unweighted())

    def to_atoms(self, sums: Tensor) -> AtomFeatures:
        """Rescale the sums over all edges, and split them by parity."""
        return AtomFeatures(*self.rescale(sums).split(self.channels, -1))
