"""Parts of a graph: every pair is in one part, with its atoms and vector."""

import numpy as np
import pytest
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.inference.partition.parts import part, parts
from harmose.io.pyscf.pyscf import basis_set


@pytest.fixture(scope="module")
def graph():
    return build_graph(molecule("CH3OH"), basis_set("sto-3g", [1, 6, 8]))


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_parts_are_the_whole(graph, size):
    cut = list(parts(graph, size))
    assert [p.start for p in cut] == list(range(0, graph.n_pairs, size))
    assert sum(p.n_pairs for p in cut) == graph.n_pairs
    for p in cut:
        assert p.n_pairs <= size
        pairs = np.column_stack([p.atoms[p.graph.pairs[:, :2]], p.graph.pairs[:, 2:]])
        np.testing.assert_array_equal(pairs, graph.pairs[p.start : p.stop])
        np.testing.assert_array_equal(p.graph.vectors, graph.vectors[p.start : p.stop])
        np.testing.assert_array_equal(p.graph.numbers, graph.numbers[p.atoms])


def test_a_part_has_the_atoms_of_its_pairs_alone(graph):
    one = part(graph, 2, 3)
    assert one.atoms.tolist() == sorted(graph.pairs[2, :2].tolist())
