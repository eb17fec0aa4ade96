"""Crystals to solve: a chain whose bands are known in closed form, and graphene from DFT beside the checkout."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms

from harmose.basis import BasisSet, Shell
from harmose.blocks import BlockMatrix
from harmose.graph import build_graph
from harmose.sample import Sample
from harmose.spin import Spin

IMPORTER = Path(__file__).parents[2] / "examples" / "crystals_h5.py"


@pytest.fixture(scope="session")
def graphene(shared_data) -> Callable[[str], Sample]:
    """`graphene(name)`: a structure of the published file; pristine_1x1, pristine_3x3, mg_000 to mg_020."""
    spec = importlib.util.spec_from_file_location("crystals_h5", IMPORTER)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    @cache
    def read(name: str) -> Sample:
        with h5py.File(shared_data / "crystals" / "graphene.h5") as file:
            return next(example.samples(file, [name], example.basis_set(file), {}))

    return read


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
