"""Sparse H(k) against the dense one, for every spin, at Gamma and elsewhere."""

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import empty_matrix
from harmose.core.graph import build_graph
from harmose.errors import MatrixError
from harmose.physics.bloch import bloch_sum
from harmose.physics.sparse.bloch import sparse_at
from harmose.spin import Spin

KPOINTS = [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.1, -0.3, 0.25)]


def random_crystal(spin: Spin, symbols: str = "BN", seed: int = 0):
    """A Hermitian operator in a cell so small that atoms meet many images of each other and of themselves."""
    sizes = {5: (Shell(1, 0), Shell(2, 1)), 7: (Shell(1, 0),)}
    basis = BasisSet("random", sizes, {5: 2.1, 7: 2.0})
    atoms = Atoms(symbols, np.random.default_rng(1).random((len(Atoms(symbols)), 3)) * 2 + [0, 0, 1], pbc=(1, 1, 0))
    atoms.cell = np.diag([2.0, 3.0, 9.0])
    graph = build_graph(atoms, basis)
    matrix = empty_matrix(basis, graph.numbers, graph.pairs, spin)
    random = np.random.default_rng(seed)
    values = random.normal(size=matrix.values.shape).astype(spin.dtype)
    if spin is Spin.SPINOR:
        values += 1j * random.normal(size=values.shape)
    for _, index, where in matrix.groups():
        onsite = where[index < len(atoms)]
        if len(onsite) and onsite.shape[1] == onsite.shape[2]:
            values[:, onsite] = (values[:, onsite] + spin.adjoint(values[:, onsite])) / 2
    return matrix.with_values(values)


@pytest.mark.parametrize("symbols", ["BNBB", "BB"])
@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("k", KPOINTS)
def test_sparse_is_dense(spin, k, symbols):
    operator = random_crystal(spin, symbols)
    dense = bloch_sum(operator, k)
    found = sparse_at(operator, k)
    assert len(found) == (2 if spin is Spin.COLLINEAR else 1)
    for one, expected in zip(found, dense.reshape(-1, *dense.shape[-2:]), strict=True):
        np.testing.assert_allclose(one.toarray(), expected, atol=1e-12)
        assert one.has_sorted_indices
        assert np.iscomplexobj(one.data) == (spin is Spin.SPINOR or k == KPOINTS[2])


@pytest.mark.parametrize("k", KPOINTS)
def test_bsr(k):
    operator = random_crystal(Spin.NONE, "BBB")
    (found,) = sparse_at(operator, k, blocked=True)
    assert found.format == "bsr"
    assert found.blocksize == (4, 4)
    assert len(found.indices) == 9  # three atoms that all meet: images add up
    np.testing.assert_allclose(found.toarray(), bloch_sum(operator, k)[0], atol=1e-12)
    (single,) = sparse_at(operator, k, blocked=True, dtype=np.float32)
    assert single.data.dtype == (np.complex64 if k == KPOINTS[2] else np.float32)


def test_spin_of_an_overlap():
    s = random_crystal(Spin.NONE)
    up, down = sparse_at(s, KPOINTS[2], Spin.COLLINEAR)
    assert (up != down).nnz == 0
    (both,) = sparse_at(s, KPOINTS[2], Spin.SPINOR)
    n = s.n_orbitals
    np.testing.assert_allclose(both.toarray()[:n, :n], up.toarray())
    np.testing.assert_allclose(both.toarray()[n:, n:], up.toarray())
    assert both[:n, n:].nnz == 0


def test_bad_input():
    with pytest.raises(MatrixError, match="expected one k-point, got 2"):
        sparse_at(random_crystal(Spin.NONE), np.zeros((2, 3)))
    with pytest.raises(MatrixError, match="expected an operator of spin none or collinear, got spinor"):
        sparse_at(random_crystal(Spin.SPINOR), spin=Spin.COLLINEAR)
