"""A network in rounds: every edge by itself, then every atom by itself, joined by sums over each atom's edges alone.

    edges, sums_i = round.edges(graph, atoms, edges),    sums_i = sum over the edges ij of some messages
    atoms = round.atoms(atoms, *sums)

What the features of atoms and edges are is the rounds' own business. Edges may therefore be worked on a part at a time, in
any order and on many machines: when the sums of all parts are added up, the result is that of the whole to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Round(NamedTuple):
    """The two functions of this module's equations; sums are tensors whose first axis is the atoms."""

    edges: Callable[[Any, Any, Any], tuple[Any, tuple[Tensor, ...]]]
    atoms: Callable[..., Any]


def run(rounds: Sequence[Round], graph: Any, atoms: Any, edges: Any) -> tuple[Any, Any]:
    """All rounds on a whole graph at once: features of its atoms and edges."""
    for each in rounds:
        edges, sums = each.edges(graph, atoms, edges)
        atoms = each.atoms(atoms, *sums)
    return atoms, edges
