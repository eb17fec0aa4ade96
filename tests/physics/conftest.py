"""A crystal to solve: a chain whose bands are known in closed form, with any spin."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.spin import Spin


@pytest.fixture(scope="session")
def chain() -> Callable[..., tuple[BlockMatrix, BlockMatrix, Atoms]]:
    """`chain(onsite, hopping, overlap, length)`: H, S and structure of one s orbital per cell along x.

    e(k) = (onsite + 2 hopping cos k) / (1 + 2 overlap cos k), with k = 2 pi times the fractional one.
    """

    def make(onsite: float, hopping: float, overlap: float = 0.0, length: float = 2.0):
        basis = BasisSet("s", {1: (Shell(1, 0),)}, {1: 0.75 * length})
        atoms = Atoms("H", [[0, 0, 0]], cell=np.diag([length, 9, 9]), pbc=(True, False, False))
        graph = build_graph(atoms, basis)
        h = BlockMatrix(basis, graph.numbers, graph.pairs, np.array([[onsite, hopping]]))
        return h, h.with_values(np.array([[1.0, overlap]])), atoms

    return make


@pytest.fixture(scope="session")
def with_spin() -> Callable[..., BlockMatrix]:
    """`with_spin(operator, spin, values)`: the same blocks with the components of another spin."""

    def make(operator: BlockMatrix, spin: Spin, values) -> BlockMatrix:
        return BlockMatrix(operator.basis, operator.numbers, operator.pairs, np.asarray(values, spin.dtype), spin)

    return make
