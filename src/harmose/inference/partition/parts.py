"""Parts of a graph: consecutive pairs in block order, with the atoms that they join."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harmose.core.graph import Graph


@dataclass(frozen=True)
class Part:
    """The pairs `start` to `stop` of a graph; `atoms` (n,): the atoms that they join, ascending; `graph`: those atoms and pairs."""

    start: int
    stop: int
    atoms: np.ndarray
    graph: Graph

    @property
    def n_pairs(self) -> int:
        return self.stop - self.start


def parts(graph: Graph, size: int) -> Iterator[Part]:
    """Yield the graph's pairs, `size` at a time (fewer at the end)."""
    for start in range(0, graph.n_pairs, size):
        yield part(graph, start, min(start + size, graph.n_pairs))


def part(graph: Graph, start: int, stop: int) -> Part:
    """Return the part of the pairs `start` to `stop`."""
    pairs = graph.pairs[start:stop]
    # Places among ascending atoms keep the canonical direction and order of pairs.
    atoms, place = np.unique(pairs[:, :2], return_inverse=True)
    local = np.column_stack([place.reshape(-1, 2), pairs[:, 2:]])
    signs = None if graph.moment_signs is None else graph.moment_signs[atoms]
    return Part(start, stop, atoms, Graph(graph.numbers[atoms], local, graph.vectors[start:stop], signs))
