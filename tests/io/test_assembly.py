"""Matrix elements and blocks of a code -> `BlockMatrix`: every order and triangle gives the same, every gap is named."""

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.io.assembly import (
    Rules,
    covering_radii,
    element_keys,
    from_blocks,
    from_elements,
    hamiltonian_rules,
    inside_orbitals,
    overlap_rules,
    zeros,
)
from harmose.physics.bloch import bloch_sum
from harmose.so3.conventions import Convention
from harmose.spin import Spin

BASIS = BasisSet("test", {6: (Shell(2, 0), Shell(2, 1)), 8: (Shell(2, 0), Shell(2, 1), Shell(3, 2))}, {6: 2.0, 8: 2.5})
RULES = hamiltonian_rules("file: H")


@pytest.fixture
def crystal() -> Atoms:
    return Atoms(
        "COC",
        [[0.1, 0.0, 0.0], [1.4, 0.3, -0.2], [0.2, 1.9, 2.2]],
        cell=[[3.4, 0, 0], [0.5, 3.8, 0], [0, 0, 4.1]],
        pbc=True,
    )


def random_operator(crystal: Atoms, spin: Spin) -> BlockMatrix:
    """Random values, Hermitian on site."""
    rng = np.random.default_rng(3)
    operator = zeros(crystal, BASIS, spin)
    values = rng.normal(size=operator.values.shape)
    if spin is Spin.SPINOR:
        values = values + 1j * rng.normal(size=values.shape)
    for start, end, n in zip(operator.offsets, operator.offsets[1:], operator.orbital_counts):
        block = values[:, start:end].reshape(-1, n, n)
        values[:, start:end] = ((block + spin.adjoint(block)) / 2).reshape(len(values), -1)
    return operator.with_values(values.astype(spin.dtype))


def elements(operator: BlockMatrix) -> tuple[np.ndarray, ...]:
    """Both triangles, in random order: rows, columns, cells, values."""
    block, row, col = operator.indices
    cell, off = operator.keys[block, 2:], ~operator.is_onsite
    adjoint = operator.spin.adjoint(operator.values[:, off, None, None])[..., 0, 0]
    order = np.random.default_rng(4).permutation(len(row) + off.sum())
    return (
        np.concatenate([row, col[off]])[order],
        np.concatenate([col, row[off]])[order],
        np.concatenate([cell, -cell[off]])[order],
        np.concatenate([operator.values, adjoint], axis=1)[:, order],
    )


@pytest.mark.parametrize("spin", list(Spin))
def test_elements_of_both_triangles(crystal, spin):
    operator = random_operator(crystal, spin)
    again = from_elements(crystal, BASIS, *elements(operator), RULES, spin)
    assert np.array_equal(again.pairs, operator.pairs)
    np.testing.assert_allclose(again.values, operator.values, atol=1e-14, rtol=0)


@pytest.mark.parametrize("spin", list(Spin))
def test_elements_of_one_triangle(crystal, spin):
    """As FHI-aims writes: rows not above columns, in all cells; elements (a, a, R) and (a, a, -R) are both there."""
    operator = random_operator(crystal, spin)
    rows, cols, cells, values = elements(operator)
    lower = rows >= cols
    one = (rows[lower], cols[lower], cells[lower], values[:, lower])
    again = from_elements(crystal, BASIS, *one, Rules("H", one_triangle=True), spin)
    np.testing.assert_allclose(again.values, operator.values, atol=1e-14, rtol=0)
    with pytest.raises(MatrixError, match=r"expected block .* to be the adjoint of .*is written in .* and not in"):
        from_elements(crystal, BASIS, *one, RULES, spin)


def test_bloch_sum_agrees_with_sparse_matrix(crystal):
    """H(k) added up from the elements themselves, without blocks."""
    operator = random_operator(crystal, Spin.NONE)
    rows, cols, cells, values = elements(operator)
    k = np.array([0.13, -0.4, 0.27])
    expected = np.zeros((operator.n_orbitals,) * 2, dtype=complex)
    np.add.at(expected, (rows, cols), values[0] * np.exp(2j * np.pi * cells @ k))
    again = from_elements(crystal, BASIS, rows, cols, cells, values[0], RULES)
    np.testing.assert_allclose(bloch_sum(again, k)[0], expected, atol=1e-12)


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("every_other_turned", [False, True])
def test_blocks(crystal, spin, every_other_turned):
    operator = random_operator(crystal, spin)
    keys, blocks = operator.keys.copy(), [operator.block(i, j, tuple(cell)) for i, j, *cell in operator.keys.tolist()]
    if every_other_turned:
        keys[::2] = np.column_stack([keys[::2, 1], keys[::2, 0], -keys[::2, 2:]])
        blocks[::2] = [operator.block(i, j, tuple(cell)) for i, j, *cell in keys[::2].tolist()]
    order = np.random.default_rng(5).permutation(len(keys))
    flat = np.concatenate([blocks[k].reshape(spin.n_components, -1) for k in order], axis=1)
    shapes = np.array([blocks[k].shape[-2:] for k in order])
    one = Rules("H", one_triangle=True, complete=True)
    again = from_blocks(crystal, BASIS, keys[order], flat, one, spin, shapes=shapes)
    np.testing.assert_allclose(again.values, operator.values, atol=1e-14, rtol=0)
    with pytest.raises(MatrixError, match=r"file: H: expected block"):
        from_blocks(crystal, BASIS, keys[order], flat, RULES, spin)


def test_convention_of_elements_and_blocks(crystal):
    convention = Convention("other", {1: (2, 0, 1), 2: (4, 0, 3, 1, 2)}, {1: (1, -1, 1), 2: (1, 1, -1, 1, -1)})
    operator = random_operator(crystal, Spin.NONE)
    rows, cols, cells, values = elements(operator)
    degrees = [l for z in crystal.numbers.tolist() for l in BASIS.degrees(z)]
    index, sign = convention.indices(degrees)
    # the code's orbital index[k] is ours k, times the sign
    as_code = (index[rows], index[cols], cells, values * sign[rows] * sign[cols])
    again = from_elements(crystal, BASIS, *as_code, RULES, convention=convention)
    np.testing.assert_allclose(again.values, operator.values, atol=1e-14, rtol=0)

    position, signs = inside_orbitals(BASIS, crystal.numbers, convention)
    assert np.array_equal(position[index], np.arange(len(index)))
    assert np.array_equal(signs[index], sign)

    flat = np.concatenate(
        [
            convention.from_inside(
                _square(operator.block(i, j, tuple(cell))), BASIS.degrees(crystal.numbers[i])
            ).ravel()
            for i, j, *cell in operator.keys.tolist()
            if crystal.numbers[i] == crystal.numbers[j] == 6
        ]
    )
    carbon = (crystal.numbers[operator.keys[:, :2]] == 6).all(axis=1)
    partly = from_blocks(
        crystal, BASIS, operator.keys[carbon], flat, Rules("H", one_triangle=True), convention=convention
    )
    kept = carbon[operator.indices[0]]
    np.testing.assert_allclose(partly.values[0], np.where(kept, operator.values[0], 0), atol=1e-14, rtol=0)


def _square(block: np.ndarray) -> np.ndarray:
    assert block.shape[0] == block.shape[1]
    return block


def test_value_outside_the_graph(crystal):
    rows, cols, cells, values = elements(random_operator(crystal, Spin.NONE))

    def with_far(value):
        far = [(0, 0, 3), (0, 0, -3)]
        return (
            np.append(rows, [4, 4]),
            np.append(cols, [4, 4]),
            np.concatenate([cells, far]),
            np.append(values[0], [value, value]),
        )

    from_elements(crystal, BASIS, *with_far(9e-7), RULES)
    with pytest.raises(
        MatrixError, match=r"1.10e-06 lies in block \(i=1, j=1, R=\[0, 0, 3\]\).*12.300 angstrom.*5.000"
    ):
        from_elements(crystal, BASIS, *with_far(1.1e-6), RULES)
    with pytest.raises(MatrixError, match=r"9.00e-07 lies in"):
        from_elements(crystal, BASIS, *with_far(9e-7), overlap_rules())
    absurd = (
        np.append(rows, 0),
        np.append(cols, 0),
        np.concatenate([cells, [(2**40, 0, 0)]]),
        np.append(values[0], 1.0),
    )
    with pytest.raises(MatrixError, match="1099511627776"):
        from_elements(crystal, BASIS, *absurd, RULES)


def test_missing_image_and_wrong_adjoint(crystal):
    rows, cols, cells, values = elements(random_operator(crystal, Spin.NONE))
    kept = ~((cells == [1, 0, 0]).all(axis=1) & (rows < 4) & (cols < 4))
    with pytest.raises(
        MatrixError, match=r"written in \(i=0, j=0, R=\[-1, 0, 0\]\) and not in \(i=0, j=0, R=\[1, 0, 0\]\)"
    ):
        from_elements(crystal, BASIS, rows[kept], cols[kept], cells[kept], values[0, kept], RULES)
    wrong = values[0].copy()
    at = int(np.flatnonzero((rows == 0) & (cols == 5) & ~cells.any(axis=1))[0])
    wrong[at] += 2e-5
    with pytest.raises(MatrixError, match=r"\(i=0, j=1, R=\[0, 0, 0\]\) to be the adjoint.*differ by 2.00e-05"):
        from_elements(crystal, BASIS, rows, cols, cells, wrong, RULES)


def test_blocks_not_written(crystal):
    operator = random_operator(crystal, Spin.NONE)
    onsite = operator.keys[:3]
    values = operator.values[0, operator.is_onsite]
    sparse = from_blocks(crystal, BASIS, onsite, values, RULES)
    assert not sparse.values[0, ~operator.is_onsite].any()
    with pytest.raises(
        MatrixError, match=r"missing blocks: \d+ of \d+ within reach .*nearest is \(i=0, j=1, R=\[0, 0, 0\]\)"
    ):
        from_blocks(crystal, BASIS, onsite, values, Rules("H", complete=True))


@pytest.mark.parametrize("rules", [hamiltonian_rules, overlap_rules])
def test_missing_diagonal_is_a_cut_file(crystal, rules):
    """A list that ends early lacks the last orbitals' diagonal elements, also where each element stands for its adjoint."""
    rows, cols, cells, values = elements(random_operator(crystal, Spin.NONE))
    kept = ~((rows == rows.max()) & (cols == rows.max()) & ~cells.any(axis=1))
    one = (rows[kept], cols[kept], cells[kept], values[0, kept])
    last = BASIS.counts(crystal.numbers)[-1] - 1
    with pytest.raises(
        MatrixError, match=rf"diagonal .* none of orbital {last} of atom 2: the file is cut off .* copy it"
    ):
        from_elements(crystal, BASIS, *one, rules("x", one_triangle=True))
    from_elements(crystal, BASIS, *one, rules("x", diagonal=False))
    onsite = random_operator(crystal, Spin.NONE).keys[:2]
    zeros = np.zeros(int((BASIS.counts(crystal.numbers)[:2] ** 2).sum()))
    with pytest.raises(MatrixError, match="none of orbital 0 of atom 2"):
        from_blocks(crystal, BASIS, onsite, zeros, rules("x"))


def test_bad_input(crystal):
    rows, cols, cells, values = elements(random_operator(crystal, Spin.NONE))
    cases = [
        ((rows + 8, cols, cells, values), "expected rows of 17 orbitals, got 8 to 24"),
        ((rows, cols - 1, cells, values), "expected columns of 17 orbitals, got -1 to 15"),
        ((rows, cols, cells[:-1], values), "expected as many columns and cells"),
        ((rows, cols, cells, values[:, 1:]), "expected values of shape"),
        ((rows, cols, cells, np.where(values == values[0, 0], np.nan, values)), "finite"),
        ((rows, cols, cells, values + 0j), "expected real values"),
        ((np.append(rows, rows[0]), np.append(cols, cols[0]), np.concatenate([cells, cells[:1]]), np.append(values[0], 0)), "twice"),
    ]  # fmt: skip
    for arguments, text in cases:
        with pytest.raises(MatrixError, match=text):
            from_elements(crystal, BASIS, *arguments, RULES)
    key, block = np.zeros((1, 5), dtype=int), np.eye(4).ravel()
    with pytest.raises(MatrixError, match=r"expected blocks of 3 atoms, got atoms 3 to 3"):
        from_blocks(crystal, BASIS, key + [3, 3, 0, 0, 0], block, RULES)
    with pytest.raises(MatrixError, match=r"of shape \(4, 4\) by the basis set, got \(9, 9\)"):
        from_blocks(crystal, BASIS, key, block, RULES, shapes=np.array([[9, 9]]))
    with pytest.raises(MatrixError, match="expected values of shape"):
        from_blocks(crystal, BASIS, key, block[1:], RULES)


def test_element_keys(crystal):
    keys = element_keys(np.array([4, 9, 4]), np.array([0, 3, 4, 16]), np.array([12, 13, 0, 3]), np.eye(4, 3, dtype=int))
    assert keys.tolist() == [[0, 1, 1, 0, 0], [0, 2, 0, 1, 0], [1, 0, 0, 0, 1], [2, 0, 0, 0, 0]]


def test_covering_radii(crystal):
    keys = zeros(crystal, BASIS).pairs
    radii = covering_radii(crystal, keys)
    covered = zeros(crystal, BasisSet("measured", BASIS.shells, radii))
    assert {tuple(key) for key in keys.tolist()} <= {tuple(key) for key in covered.pairs.tolist()}
    assert all(round(r * 10) == pytest.approx(r * 10, abs=1e-9) for r in radii.values())
    assert covering_radii(crystal, keys[::-1]) == radii

    # exactly at a multiple of the step the pair must still be inside
    pair = Atoms("CO", [[0, 0, 0], [0, 0, 4.0]])
    assert covering_radii(pair, np.array([[0, 1, 0, 0, 0]])) == {6: 2.1, 8: 2.1}
    assert covering_radii(pair, np.array([[0, 1, 0, 0, 0]]), least={6: 3.05, 8: 0.5}) == {6: 3.4, 8: 0.8}
    assert covering_radii(pair, np.zeros((0, 5))) == {6: 1.0, 8: 1.0}
    with pytest.raises(
        MatrixError,
        match=r"file: .* at most 50 angstrom apart, got \(i=0, j=0, R=\[20, 0, 0\]\) at 68.0",
    ):
        covering_radii(crystal, np.array([[0, 0, 20, 0, 0]]), where="file")
