"""Message passing: edges are updated one by one, then atoms one by one, joined by sums over the edges of an atom.

    edges, sums_i = layer.update_edges(graph, atoms, edges),    sums_i = sum over the edges ij of messages
    atoms = layer.update_atoms(atoms, *sums)

A layer decides what features its atoms and edges have. Edges may be updated a part at a time, in any order and on
several machines: with the sums of all parts added up, the result is that of the whole to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class MessagePassingLayer(NamedTuple):
    """The two functions in the equations of this module; each sum is a tensor whose first axis is the atoms."""

    update_edges: Callable[[Any, Any, Any], tuple[Any, tuple[Tensor, ...]]]
    update_atoms: Callable[..., Any]


def apply_layers(layers: Sequence[MessagePassingLayer], graph: Any, atoms: Any, edges: Any) -> tuple[Any, Any]:
    """Apply all layers to a whole graph; return the features of its atoms and edges."""
    for layer in layers:
        edges, sums = layer.update_edges(graph, atoms, edges)
        atoms = layer.update_atoms(atoms, *sums)
    return atoms, edges
