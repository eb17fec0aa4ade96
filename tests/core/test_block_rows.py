"""Places of blocks in sparse matrices, against dense sums over cells."""

import numpy as np
import pytest
from ase import Atoms

from harmose.core import block_rows
from harmose.core.basis import BasisSet, Shell
from harmose.core.block_rows import BlockRows
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import build_graph

BASIS = BasisSet("sp", {5: (Shell(1, 0), Shell(2, 1)), 7: (Shell(1, 0),)}, {5: 2.1, 7: 2.0})


def crystal(symbols: str) -> BlockMatrix:
    """Random blocks in a cell so small that atoms meet many images of each other and of themselves."""
    random = np.random.default_rng(0)
    positions = random.random((len(symbols), 3)) * 2 + [0, 0, 1]
    atoms = Atoms(list(symbols), positions, cell=[2.0, 3.0, 9.0], pbc=[True, True, False])
    graph = build_graph(atoms, BASIS)
    matrix = empty_matrix(BASIS, graph.numbers, graph.pairs)
    return matrix.with_values(random.normal(size=matrix.values.shape))


def summed(matrix: BlockMatrix, phases: np.ndarray) -> np.ndarray:
    """Dense sum over all stored blocks and the adjoints of pairs, one block after the other."""
    out = np.zeros((matrix.n_orbitals, matrix.n_orbitals), complex)
    for k, (i, j) in enumerate(matrix.keys[:, :2]):
        rows, cols = (slice(*matrix.orbital_starts[[a, a + 1]]) for a in (i, j))
        block = matrix.values[0, matrix.offsets[k] : matrix.offsets[k + 1]]
        block = phases[k] * block.reshape(rows.stop - rows.start, -1)
        out[rows, cols] += block
        if k >= len(matrix.numbers):
            out[cols, rows] += block.conj().T
    return out


def random_phases(matrix: BlockMatrix) -> np.ndarray:
    return np.exp(2j * np.pi * matrix.keys[:, 2:] @ [0.1, -0.3, 0.0])


@pytest.mark.parametrize("chunk", [1, 40, block_rows.CHUNK])
@pytest.mark.parametrize("symbols", ["BNBB", "BB", "N"])
def test_csr(symbols, chunk, monkeypatch):
    monkeypatch.setattr(block_rows, "CHUNK", chunk)
    matrix = crystal(symbols)
    values, phases = matrix.values[0], random_phases(matrix)
    sparse = matrix.rows.csr(values, values, phases)
    np.testing.assert_allclose(sparse.toarray(), summed(matrix, phases), atol=1e-13)
    assert sparse.has_canonical_format
    real = matrix.rows.csr(values, values)
    np.testing.assert_allclose(real.toarray(), summed(matrix, np.ones(len(matrix.keys))).real, atol=1e-13)
    assert real.dtype == np.float64


@pytest.mark.parametrize("chunk", [1, block_rows.CHUNK])
def test_bsr(chunk, monkeypatch):
    monkeypatch.setattr(block_rows, "CHUNK", chunk)
    matrix = crystal("BBB")
    values, phases = matrix.values[0], random_phases(matrix)
    sparse = matrix.rows.bsr(values, values, phases)
    assert sparse.blocksize == (4, 4)
    np.testing.assert_allclose(sparse.toarray(), summed(matrix, phases), atol=1e-13)
    assert matrix.rows.bsr(values, values, dtype=np.float32).dtype == np.float32


def test_sizes():
    assert (crystal("BBB").rows.size, crystal("BBB").rows.block_size) == (12, 4)
    assert (crystal("BN").rows.size, crystal("BN").rows.block_size) == (5, None)
    empty = BlockRows(np.zeros(0, int), np.zeros((0, 5), int), np.zeros(1, int))
    assert (empty.size, empty.block_size) == (0, None)
