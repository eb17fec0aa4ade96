"""Factors by nested dissection against dense solutions."""

import numpy as np
import pytest
from scipy import sparse

from harmose.errors import SingularMatrix
from harmose.physics.sparse.nested_dissection import NestedDissection, factorize_ldl, fronts, solve_ldl
from harmose.physics.sparse.settings import SparseSettings


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


SMALL = {"leaf_rows": 40, "pivot_rows": 32, "strip_columns": 50}
SETTINGS = {
    "double": SparseSettings(**SMALL),
    "single": SparseSettings(**SMALL, single_above=0),
    "single, on disk": SparseSettings(**SMALL, single_above=0, memory_bytes=0),
}


@pytest.mark.parametrize("precision", SETTINGS)
@pytest.mark.parametrize("kind", ["d", "D"])
@pytest.mark.parametrize("form", ["bsr", "csr"])
def test_solutions_and_counts(kind, form, precision):
    matrix = hermitian(10, 4, kind).asformat(form)
    factors = NestedDissection(matrix, SETTINGS[precision])
    b = np.random.default_rng(2).normal(size=400).astype(kind)
    np.testing.assert_allclose(factors.solve(b), np.linalg.solve(matrix.toarray(), b), rtol=0, atol=1e-8)
    assert factors.negative() == np.count_nonzero(np.linalg.eigvalsh(matrix.toarray()) < 0)
    assert factors._dtype == np.dtype(kind if precision == "double" else {"d": "f", "D": "F"}[kind])
    assert sum(own.size + across.size for own, across in factors._factors) == factors.n_values < 400**2


@pytest.mark.parametrize("kind", ["d", "D"])
@pytest.mark.parametrize("size", [1, 7, 50])
def test_blocked_ldl(kind, size):
    random = np.random.default_rng(0)
    a = random.normal(size=(30, 30)).astype(kind)
    if kind == "D":
        a += 1j * random.normal(size=(30, 30))
    a = a + a.conj().T + np.diag(np.linspace(-40, 40, 30))
    factors = np.tril(a)
    negative = factorize_ldl(factors, size, 8)
    assert negative == np.count_nonzero(np.linalg.eigvalsh(a) < 0)
    for shape in ((30,), (30, 4)):
        b = random.normal(size=shape).astype(kind)
        x = b.copy()
        solve_ldl(factors, x, size)
        np.testing.assert_allclose(a @ x, b, atol=1e-10)


@pytest.mark.parametrize("leaf", [1, 7, 1000])
def test_fronts_touch_only_what_is_eliminated_later(leaf):
    graph = torus(12)
    found = fronts(graph, leaf)
    owned = np.concatenate([front.own for front in found])
    np.testing.assert_array_equal(np.sort(owned), np.arange(144))
    filled = graph.toarray() != 0
    for k, front in enumerate(found):
        later = owned[sum(len(f.own) for f in found[: k + 1]) :]
        touched = later[filled[front.own][:, later].any(axis=0)]
        assert set(touched) <= set(front.border)
        assert set(front.border) <= set(later)
        assert all(set(found[i].border) <= set(front.own) | set(front.border) for i in front.children)
        filled[np.ix_(front.border, front.border)] = True


def test_disconnected_graph():
    one = hermitian(6, 3, "d")
    both = sparse.block_diag([one, 2 * one]).tobsr((3, 3))
    b = np.random.default_rng(0).normal(size=216)
    np.testing.assert_allclose(both @ NestedDissection(both, SETTINGS["double"]).solve(b), b, atol=1e-9)


def test_number_of_values():
    """On a torus of n^2 places factors hold some n^2 log n values, without halves n^4."""
    sizes = [sum(len(f.own) * (len(f.own) + len(f.border)) for f in fronts(torus(n), 20)) for n in (20, 40)]
    assert sizes[1] < 8 * sizes[0]


def test_singular_matrix():
    matrix = hermitian(6, 2, "d").toarray()
    values, vectors = np.linalg.eigh(matrix)
    values[30] = 0
    singular = sparse.bsr_matrix(vectors @ np.diag(values) @ vectors.T, blocksize=(2, 2))
    with pytest.raises(SingularMatrix):
        NestedDissection(singular).solve(np.ones(72))
