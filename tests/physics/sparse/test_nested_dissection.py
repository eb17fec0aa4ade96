"""Factors by nested dissection against dense solutions."""

import numpy as np
import pytest
from scipy import sparse

from harmose.errors import SingularMatrix
from harmose.physics.sparse import nested_dissection as dissection
from harmose.physics.sparse.nested_dissection import Dissection, parts


def torus(n: int) -> sparse.csr_matrix:
    """Places on an n x n torus that touch those up to two steps away."""
    ring = sum(sparse.eye_array(n, k=k) for k in (-n + 2, -n + 1, -2, -1, 0, 1, 2, n - 2, n - 1))
    return sparse.kron(ring, ring).tocsr()


def hermitian(n: int, size: int, kind: str) -> sparse.bsr_matrix:
    """Random blocks with the pattern of a torus, as indefinite as H - E S is."""
    generator = np.random.default_rng(1)
    pattern = torus(n).tobsr((1, 1))
    blocks = generator.normal(size=(len(pattern.data), size, size)).astype(kind)
    if np.iscomplexobj(blocks):
        blocks = blocks + 1j * generator.normal(size=blocks.shape)
    matrix = sparse.bsr_matrix((blocks, pattern.indices, pattern.indptr), shape=(n * n * size,) * 2)
    return (matrix + matrix.conj().T + sparse.diags_array(np.tile([50.0, -50.0], n * n * size // 2))).tobsr(
        (size, size)
    )


@pytest.fixture(params=["double", "single", "single, on disk"], autouse=True)
def precision(request, monkeypatch):
    monkeypatch.setattr(dissection, "LEAF", 40)
    monkeypatch.setattr(dissection, "STRIP", 50)
    if request.param != "double":
        monkeypatch.setattr(dissection, "SINGLE", 0)
    if "disk" in request.param:
        monkeypatch.setattr(dissection, "IN_MEMORY", 0)
    return request.param


@pytest.mark.parametrize("kind", ["d", "D"])
@pytest.mark.parametrize("form", ["bsr", "csr"])
def test_solutions_are_those_of_a_dense_solver(kind, form, precision):
    matrix = hermitian(10, 4, kind).asformat(form)
    factors = Dissection(matrix)
    b = np.random.default_rng(2).normal(size=400).astype(kind)
    np.testing.assert_allclose(factors.solve(b), np.linalg.solve(matrix.toarray(), b), rtol=0, atol=1e-8)
    assert factors._dtype == np.dtype(kind if precision == "double" else {"d": "f", "D": "F"}[kind])
    assert sum(lu.size + across.size for lu, _, across in factors._factors) == factors.n_values < 400**2


@pytest.mark.parametrize("leaf", [1, 7, 1000])
def test_parts_touch_only_what_is_eliminated_later(leaf):
    graph = torus(12)
    found = parts(graph, leaf)
    owned = np.concatenate([part.own for part in found])
    np.testing.assert_array_equal(np.sort(owned), np.arange(144))
    filled = graph.toarray() != 0
    for k, part in enumerate(found):
        later = owned[np.count_nonzero(np.isin(owned, np.concatenate([p.own for p in found[: k + 1]]))) :]
        touched = later[filled[part.own][:, later].any(axis=0)]
        assert set(touched) <= set(part.border)
        assert set(part.border) <= set(later)
        assert all(set(found[i].border) <= set(part.own) | set(part.border) for i in part.below)
        filled[np.ix_(part.border, part.border)] = True


def test_pieces_that_do_not_touch():
    one = hermitian(6, 3, "d")
    both = sparse.block_diag([one, 2 * one]).tobsr((3, 3))
    b = np.random.default_rng(0).normal(size=216)
    np.testing.assert_allclose(both @ Dissection(both).solve(b), b, atol=1e-9)


def test_halves_save_memory():
    """On a torus of n^2 places factors hold some n^2 log n values, without halves n^4."""
    sizes = [sum(len(p.own) * (len(p.own) + len(p.border)) for p in parts(torus(n), 20)) for n in (20, 40)]
    assert sizes[1] < 8 * sizes[0]


def test_a_matrix_without_an_inverse():
    matrix = hermitian(6, 2, "d").toarray()
    values, vectors = np.linalg.eigh(matrix)
    values[30] = 0
    singular = sparse.bsr_matrix(vectors @ np.diag(values) @ vectors.T, blocksize=(2, 2))
    with pytest.raises(SingularMatrix):
        Dissection(singular).solve(np.ones(72))
