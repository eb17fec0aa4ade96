"""`BlockMatrix` against plain loops over blocks: values, layouts, Hermiticity, rotation, and the mistakes it refuses."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.linalg import block_diag, expm
from scipy.spatial.transform import Rotation

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, block_values, empty_matrix
from harmose.core.graph import build_graph
from harmose.errors import MatrixError, StructureError
from harmose.so3.wigner import random_rotation, wigner_d
from harmose.spin import Spin

BASIS = BasisSet(
    "test",
    {1: (Shell(1, 0), Shell(2, 1)), 8: (Shell(1, 0), Shell(2, 0), Shell(2, 1), Shell(3, 2)), 14: (Shell(3, 1),)},
    {1: 1.2, 8: 1.5, 14: 2.6},
)
STRUCTURES = {
    "atom": Atoms("O"),
    "molecule": molecule("H2O"),
    "two molecules out of reach": Atoms("OHHO", positions=[[0, 0, 0], [0, 0, 1], [0, 0, 9], [0, 0.5, 9.8]]),
    "crystal": bulk("Si"),
    "one-atom crystal": Atoms("H", cell=[2.0, 2.1, 2.2], pbc=True),
    "two elements": Atoms("HO", positions=[[0, 0, 0], [0.9, 0.2, 0.1]], cell=[[3, 0, 0], [1, 2.9, 0], [0, 0.4, 3.1]], pbc=True),
}  # fmt: skip
CASES = [(s, c) for s in Spin for c in STRUCTURES]


def random_matrix(case, spin=Spin.NONE, seed=0):
    """Random values, on-site blocks Hermitian."""
    atoms = STRUCTURES[case]
    graph = build_graph(atoms, BASIS)
    empty = empty_matrix(BASIS, graph.numbers, graph.pairs, spin)
    generator = np.random.default_rng(seed)
    values = generator.normal(size=empty.values.shape).astype(spin.dtype)
    if spin is Spin.SPINOR:
        values = values + 1j * generator.normal(size=values.shape)
    for i in range(graph.n_atoms):
        n, at = empty.orbital_counts[i], slice(empty.offsets[i], empty.offsets[i + 1])
        block = values[:, at].reshape(-1, n, n)
        values[:, at] = (block + spin.adjoint(block)).reshape(-1, n * n) / 2
    return empty.with_values(values)


def loops(matrix):
    """{(i, j, R): (components, n_i, n_j)} for both directions, cut out of `values` one block after the other."""
    starts, counts = 0, [BASIS.n_orbitals(int(z)) for z in matrix.numbers]
    blocks = {}
    keys = [(i, i, 0, 0, 0) for i in range(len(counts))] + [tuple(map(int, pair)) for pair in matrix.pairs]
    for i, j, x, y, z in keys:
        size = counts[i] * counts[j]
        block = matrix.values[:, starts : starts + size].reshape(-1, counts[i], counts[j])
        starts += size
        blocks[i, j, x, y, z] = block
        if (i, j, x, y, z) != (j, i, -x, -y, -z):
            blocks[j, i, -x, -y, -z] = matrix.spin.adjoint(block)
    assert starts == matrix.values.shape[1]
    return blocks


def dense_by_loops(matrix):
    starts = np.concatenate([[0], np.cumsum([BASIS.n_orbitals(int(z)) for z in matrix.numbers])])
    out = np.zeros((matrix.spin.n_components, starts[-1], starts[-1]), matrix.spin.dtype)
    for (i, j, *_), block in loops(matrix).items():
        out[:, starts[i] : starts[i + 1], starts[j] : starts[j + 1]] += block
    if matrix.spin is Spin.NONE:
        return out[0]
    return out if matrix.spin is Spin.COLLINEAR else np.block([[out[0], out[1]], [out[2], out[3]]])


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_dense(spin, case):
    matrix = random_matrix(case, spin)
    dense, n = matrix.dense(), matrix.n_orbitals
    assert dense.shape == {"none": (n, n), "collinear": (2, n, n), "spinor": (2 * n, 2 * n)}[spin]
    assert dense.dtype == spin.dtype
    np.testing.assert_allclose(dense, dense_by_loops(matrix), atol=1e-13)


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_dense_is_hermitian(spin, case):
    dense = random_matrix(case, spin).dense()
    np.testing.assert_allclose(dense, np.swapaxes(dense, -1, -2).conj(), atol=1e-13)


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_every_block_and_its_adjoint(spin, case):
    matrix = random_matrix(case, spin)
    for (i, j, *cell), expected in loops(matrix).items():
        block = matrix.block(i, j, tuple(cell))
        assert np.array_equal(block, expected[0] if spin is Spin.NONE else expected)
        adjoint = matrix.block(j, i, tuple(-c for c in cell))
        adjoint = adjoint[None] if spin is Spin.NONE else adjoint
        assert np.array_equal(spin.adjoint(adjoint), expected)


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_multiplicity_counts_blocks_of_the_whole_matrix(spin, case):
    matrix = random_matrix(case, spin)
    block, _, _ = matrix.indices
    whole = sum(np.sum(np.abs(b) ** 2) for b in loops(matrix).values())
    np.testing.assert_allclose((matrix.multiplicity[block] * np.abs(matrix.values) ** 2).sum(), whole, rtol=1e-13)
    assert matrix.multiplicity.sum() == len(loops(matrix))


def test_block_defaults_to_the_home_cell():
    matrix = random_matrix("two elements")
    assert np.array_equal(matrix.block(0, 1), matrix.block(0, 1, (0, 0, 0)))
    i, j, *cell = matrix.pairs[-1]
    assert np.array_equal(matrix.block(i, j, cell), matrix.block(int(i), int(j), tuple(map(int, cell))))


def test_error_names_missing_block():
    matrix = random_matrix("molecule")
    with pytest.raises(MatrixError, match=r"no block for atoms 0, 1 in cell \(1, 0, 0\)"):
        matrix.block(0, 1, (1, 0, 0))
    with pytest.raises(MatrixError, match="no block for atoms 0, 7"):
        matrix.block(0, 7)


@pytest.mark.parametrize("case", STRUCTURES)
def test_csr_is_dense(case):
    matrix = random_matrix(case)
    sparse = matrix.csr()
    assert sparse.shape == (matrix.n_orbitals, matrix.n_orbitals)
    np.testing.assert_allclose(sparse.toarray(), matrix.dense(), atol=1e-13)


@pytest.mark.parametrize("spin", [Spin.COLLINEAR, Spin.SPINOR])
def test_csr_with_spin_raises(spin):
    with pytest.raises(MatrixError, match=rf"csr\(\) holds one matrix, this operator has spin {spin}"):
        random_matrix("molecule", spin).csr()


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_offsets_keys_and_indices(spin, case):
    matrix = random_matrix(case, spin)
    assert matrix.keys.shape == (len(matrix.numbers) + len(matrix.pairs), 5)
    assert matrix.offsets[0] == 0
    assert matrix.offsets[-1] == matrix.values.shape[1]
    block, row, col = matrix.indices
    k = 0
    for b, (i, j, *_) in enumerate(matrix.keys.tolist()):
        assert matrix.offsets[b] == k
        for r in range(matrix.orbital_counts[i]):
            for c in range(matrix.orbital_counts[j]):
                assert (block[k], row[k], col[k]) == (b, matrix.orbital_starts[i] + r, matrix.orbital_starts[j] + c)
                assert matrix.is_onsite[k] == (b < len(matrix.numbers))
                k += 1
    assert k == len(row)


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_groups_hold_every_block_once(spin, case):
    matrix = random_matrix(case, spin)
    visited, blocks = [], loops(matrix)
    for (z1, z2), index, where in matrix.groups():
        assert where.shape == (len(index), BASIS.n_orbitals(z1), BASIS.n_orbitals(z2))
        for k, at in zip(index, where):
            i, j, *cell = matrix.keys[k].tolist()
            assert (matrix.numbers[i], matrix.numbers[j]) == (z1, z2)
            assert np.array_equal(matrix.values[:, at], blocks[i, j, *cell])
        visited += index.tolist()
    assert sorted(visited) == list(range(len(matrix.keys)))


def rotation_by_loops(matrix, rotation):
    """D(Q) of each atom from single shells."""
    d = {}
    for z in set(matrix.numbers.tolist()):
        parts = [wigner_d(l, rotation) for l in BASIS.degrees(z)]
        d[z] = block_diag(*parts)
    return {
        key: d[matrix.numbers[key[0]]] @ block @ d[matrix.numbers[key[1]]].T for key, block in loops(matrix).items()
    }


@pytest.mark.parametrize(("spin", "case"), [c for c in CASES if c[0] is not Spin.SPINOR])
def test_rotation_of_blocks(spin, case):
    matrix, rotation = random_matrix(case, spin), random_rotation(np.random.default_rng(3))
    turned = matrix.rotate(rotation)
    for key, expected in rotation_by_loops(matrix, rotation).items():
        block = turned.block(*key[:2], key[2:])
        np.testing.assert_allclose(block, expected[0] if spin is Spin.NONE else expected, atol=1e-12)


def test_rotations_compose_and_invert():
    matrix = random_matrix("two elements")
    q1, q2 = (random_rotation(np.random.default_rng(s)) for s in (4, 5))
    once, twice = matrix.rotate(q1 @ q2), matrix.rotate(q2).rotate(q1)
    np.testing.assert_allclose(once.values, twice.values, atol=1e-12)
    np.testing.assert_allclose(matrix.rotate(q1).rotate(q1.T).values, matrix.values, atol=1e-12)


def test_rotation_keeps_the_spectrum():
    matrix = random_matrix("molecule")
    turned = matrix.rotate(random_rotation(np.random.default_rng(6)))
    np.testing.assert_allclose(np.linalg.eigvalsh(turned.dense()), np.linalg.eigvalsh(matrix.dense()), atol=1e-12)


def test_rotate_by_another_matrix_raises():
    with pytest.raises(StructureError, match="expected a proper 3x3 rotation matrix"):
        random_matrix("molecule").rotate(-np.eye(3))


def test_rotation_of_spin():
    """U D H D^T U^dagger with the SU(2) matrix of a turn by an angle about an axis, U = exp(-i angle axis . sigma / 2)."""
    matrix, axis, angle = random_matrix("molecule", Spin.SPINOR), np.array([2.0, -1.0, 2.0]) / 3, 1.1
    turned = matrix.rotate(Rotation.from_rotvec(angle * axis).as_matrix())
    sigma = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    u = expm(-0.5j * angle * np.tensordot(axis, sigma, 1))
    space = Rotation.from_rotvec(angle * axis).as_matrix()
    d = [wigner_d(l, space) for z in matrix.numbers for l in BASIS.degrees(int(z))]
    whole = np.kron(u, block_diag(*d))
    np.testing.assert_allclose(turned.dense(), whole @ matrix.dense() @ whole.conj().T, atol=1e-12)


@pytest.mark.parametrize("case", ["molecule", "two elements"])
def test_spinor_rotations_compose(case):
    matrix = random_matrix(case, Spin.SPINOR)
    q1, q2 = (random_rotation(np.random.default_rng(s)) for s in (4, 5))
    np.testing.assert_allclose(matrix.rotate(q1 @ q2).values, matrix.rotate(q2).rotate(q1).values, atol=1e-12)


def test_sums_and_differences():
    a, b = random_matrix("two elements", seed=1), random_matrix("two elements", seed=2)
    np.testing.assert_allclose((a + b).dense(), a.dense() + b.dense(), atol=1e-13)
    np.testing.assert_allclose((a - b).dense(), a.dense() - b.dense(), atol=1e-13)
    with pytest.raises(MatrixError, match="expected matrices with the same atoms and pairs, got different ones"):
        a + random_matrix("molecule")
    with pytest.raises(MatrixError, match="expected the same basis and spin, got test/none and test/collinear"):
        a - random_matrix("two elements", Spin.COLLINEAR)
    other = BasisSet("other", BASIS.shells, BASIS.radii)
    with pytest.raises(MatrixError, match="expected the same basis and spin, got test/none and other/none"):
        a + BlockMatrix(other, a.numbers, a.pairs, a.values)


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR])
@pytest.mark.parametrize("case", ["atom", "molecule", "two molecules out of reach"])
def test_block_values_round_trip(case, spin):
    matrix = random_matrix(case, spin)
    again = block_values(matrix.dense(), matrix)
    assert np.array_equal(again.values, matrix.values)
    assert np.array_equal(block_values(matrix.dense().tolist(), matrix).values, matrix.values)


def test_block_values_averages_small_asymmetry():
    matrix = random_matrix("molecule")
    noisy = matrix.dense()
    noisy[2, 5] += 2e-9
    np.testing.assert_allclose(block_values(noisy, matrix).dense()[[2, 5], [5, 2]], matrix.dense()[2, 5] + 1e-9, atol=0)


def bad_dense():
    matrix = random_matrix("two molecules out of reach")
    good = matrix.dense()
    asymmetric, far, nan = good.copy(), good.copy(), good.copy()
    asymmetric[0, 3] += 0.01
    first, last = matrix.orbital_starts[1], matrix.orbital_starts[3]
    far[first + 1, last + 2] = far[last + 2, first + 1] = 0.5
    nan[3, 3] = np.nan
    n = len(good)
    return matrix, {
        "too small": (good[:-1, :-1], rf"H2: expected shape \({n}, {n}\), got \({n - 1}, {n - 1}\)"),
        "not square": (good[:, :-1], rf"H2: expected shape \({n}, {n}\), got \({n}, {n - 1}\)"),
        "two matrices": (np.stack([good, good]), rf"H2: expected shape \({n}, {n}\), got \(2, {n}, {n}\)"),
        "flat": (good.ravel(), r"H2: expected shape .*, got \("),
        "a number": (3.0, r"H2: expected shape .*, got \(\)"),
        "nothing": (np.zeros((0, 0)), r"H2: expected shape .*, got \(0, 0\)"),
        "complex": (good + 0j, "H2: expected a real matrix for spin none, got a complex one"),
        "NaN": (nan, "H2: expected finite values, got NaN or infinity"),
        "not Hermitian": (asymmetric, "H2: expected a Hermitian matrix, got an asymmetry of 1.00e-02"),
        "out of reach": (
            far,
            "H2: a value of 5.00e-01 lies in the block of atoms 1 and 3, which are out of each other's reach in basis test",
        ),
    }


@pytest.mark.parametrize("case", bad_dense()[1])
def test_block_values_errors(case):
    layout, cases = bad_dense()
    dense, message = cases[case]
    with pytest.raises(MatrixError, match=message):
        block_values(dense, layout, name="H2")


def test_block_values_without_a_tail():
    """Values outside the blocks up to `dropped`, such as those of exact exchange in long molecules."""
    layout, cases = bad_dense()
    kept = block_values(cases["out of reach"][0], layout, dropped=0.6)
    np.testing.assert_array_equal(kept.values, block_values(layout.dense(), layout).values)
    with pytest.raises(MatrixError, match=r"a value of 5\.00e-01 lies in the block of atoms 1 and 3"):
        block_values(cases["out of reach"][0], layout, dropped=0.4)


def test_block_values_of_a_crystal_raises():
    crystal = random_matrix("crystal")
    with pytest.raises(MatrixError, match="matrix: expected the layout of a molecule, got one with periodic images"):
        block_values(crystal.dense(), crystal)


@pytest.mark.parametrize("spin", Spin)
def test_block_values_of_every_spin(spin):
    matrix = random_matrix("molecule", spin)
    np.testing.assert_allclose(block_values(matrix.dense(), matrix).values, matrix.values, atol=1e-13)


def test_block_values_of_another_spin_raises():
    both = random_matrix("molecule", Spin.COLLINEAR)
    with pytest.raises(MatrixError, match=r"matrix: expected shape \(2, 18, 18\), got \(18, 18\)"):
        block_values(both.dense()[0], both)


WRONG_PAIRS = {
    "doubled": ([[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]], "expected every pair once and in ascending order, got"),
    "unsorted": ([[0, 2, 0, 0, 0], [0, 1, 0, 0, 0]], r"got \[0, 2, 0, 0, 0\] before \[0, 1, 0, 0, 0\]"),
    "turned": ([[1, 0, 0, 0, 0]], r"expected pairs in canonical direction, got \[1, 0, 0, 0, 0\]"),
    "turned image": ([[1, 1, 0, 0, -1]], r"expected pairs in canonical direction, got \[1, 1, 0, 0, -1\]"),
    "on-site": ([[1, 1, 0, 0, 0]], "expected pairs in canonical direction"),
    "no such atom": ([[0, 3, 0, 0, 0]], "expected pairs of 3 atoms, got 0 to 3"),
    "negative atom": ([[-1, 2, 0, 0, 0]], "expected pairs of 3 atoms, got -1 to 2"),
    "wrong shape": ([[0, 1]], r"expected pairs \(i, j, Rx, Ry, Rz\) of shape \(P, 5\), got \(1, 2\)"),
}


@pytest.mark.parametrize(("pairs", "message"), WRONG_PAIRS.values(), ids=WRONG_PAIRS)
def test_bad_pairs_raise(pairs, message):
    with pytest.raises(MatrixError, match=message):
        BlockMatrix(BASIS, np.array([8, 1, 1]), np.array(pairs), np.zeros((1, 10)))


def test_values_of_another_shape_raise():
    matrix = random_matrix("molecule")
    size = matrix.values.shape[1]
    expected = rf"expected values of shape \(1, {size}\) for 3 atoms and 3 pairs, got \(1, {size - 1}\)"
    with pytest.raises(MatrixError, match=expected):
        matrix.with_values(matrix.values[:, :-1])
    with pytest.raises(MatrixError, match=rf"expected values of shape \(1, {size}\)"):
        matrix.with_values(matrix.values[0])


def test_with_values():
    a, b = random_matrix("two elements", seed=1), random_matrix("two elements", seed=2)
    first, indices = a.dense(), a.indices
    again = a.with_values(b.values)
    assert again.indices is indices
    assert np.array_equal(again.dense(), b.dense())
    assert np.array_equal(again.block(0, 1), b.block(0, 1))
    assert np.array_equal(a.dense(), first)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_any_integer_type_of_numbers_and_pairs(dtype):
    matrix = random_matrix("molecule")
    small = BlockMatrix(BASIS, matrix.numbers.astype(dtype), matrix.pairs.astype(dtype), matrix.values)
    assert np.array_equal(small.dense(), matrix.dense())
    assert np.array_equal((small + matrix).values, 2 * matrix.values)


@pytest.mark.parametrize(("spin", "case"), CASES)
def test_pickle(spin, case):
    matrix = random_matrix(case, spin)
    matrix.dense()  # fills the caches, which stay at home
    sent = pickle.dumps(matrix)
    again = pickle.loads(sent)  # noqa: S301 - our own bytes, as dask sends them
    assert len(sent) < matrix.values.nbytes + matrix.pairs.nbytes + 2000
    assert np.array_equal(again.dense(), matrix.dense())
    assert (again.basis, again.spin) == (matrix.basis, matrix.spin)


def test_a_single_atom_has_one_block():
    matrix = random_matrix("atom")
    assert len(matrix.pairs) == 0
    assert np.array_equal(matrix.block(0, 0), matrix.dense())
    assert matrix.is_onsite.all()


def test_zeros():
    graph = build_graph(STRUCTURES["crystal"], BASIS)
    for spin in Spin:
        matrix = empty_matrix(BASIS, graph.numbers, graph.pairs, spin)
        assert matrix.values.shape == (spin.n_components, 9 * (graph.n_atoms + graph.n_pairs))
        assert matrix.values.dtype == spin.dtype
        assert not matrix.values.any()


def test_order_of_values():
    """The layout that docs/conventions.md promises."""
    graph = build_graph(molecule("H2O"), BASIS)
    matrix = empty_matrix(BASIS, graph.numbers, graph.pairs)
    matrix = matrix.with_values(np.arange(matrix.values.size, dtype=float)[None])
    assert matrix.block(0, 1)[1, 2] == matrix.offsets[3] + 1 * 4 + 2
    assert [b - a for a, b in pairwise(matrix.offsets)] == [100, 16, 16, 40, 40, 16]
