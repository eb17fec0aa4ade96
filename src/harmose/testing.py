"""Checks for the tests of a new model or a new reader: `assert_equivariant` and `assert_round_trip`.

Both raise `AssertionError` with the largest error and its place, and return nothing when the check holds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.core.species import species_of, symbol_of
from harmose.errors import MatrixError
from harmose.so3.wigner import random_rotation


@runtime_checkable
class Predictor(Protocol):
    """An object with a method `predict`, such as `harmose.Model`."""

    def predict(self, atoms: Atoms) -> BlockMatrix: ...


def assert_equivariant(
    model: Predictor | Callable[[Atoms], BlockMatrix],
    atoms: Atoms,
    tolerance: float = 1e-6,
    inversion: bool = True,
    seed: int = 0,
) -> None:
    """Check that a predicted matrix transforms with its structure.

    Four copies of the structure are predicted and compared with the prediction for `atoms`:

        rotated by Q     H'[i, j, R] = D(Q) H[i, j, R] D(Q)^T
        inverted         H'[i, j, -R] = (-1)^(l1 + l2) H[i, j, R]
        translated       H'[i, j, R] = H[i, j, R]
        atoms permuted   H'[i, j, R] = H[p(i), p(j), R]

    D(Q) is block diagonal, with the Wigner matrix of degree l for each shell of degree l; l1 and l2 are the degrees of
    the shells of row and column; atom i of the permuted copy is atom p(i) of `atoms`. A periodic structure is rotated
    together with its cell; inversion leaves the lattice as it is.

    Args:
        model: Object with `predict(atoms)`, or a function of the atoms, that returns a `BlockMatrix` in eV.
        atoms: Molecule or crystal. Take one without symmetry: a symmetric structure hides errors.
        tolerance: Largest absolute difference of two matrix elements, in eV.
        inversion: Check inversion, too. Switch it off for a model that is equivariant under rotations alone.
        seed: Seed of the random rotation, translation and permutation.

    Raises:
        AssertionError: If an element differs by more than `tolerance`, if a copy has other blocks, or if a value is
            not finite. The message gives the law, the largest difference, its atoms, cell, row and column.

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> from harmose.testing import assert_equivariant
        >>> water = molecule("H2O")
        >>> water.rattle(0.05, seed=0)
        >>> assert_equivariant(harmose.load("water-pbe-def2svp"), water, tolerance=1e-4)
    """
    predict = model.predict if isinstance(model, Predictor) else model
    assert callable(predict), f"expected a function or an object with a method predict, got {type(model).__name__}"
    rng = np.random.default_rng(seed)
    h = predict(atoms.copy())

    rotation = random_rotation(rng)
    rotated = atoms.copy()
    rotated.set_cell(atoms.cell.array @ rotation.T)
    rotated.positions = atoms.positions @ rotation.T
    _assert_same_blocks("rotation", predict(rotated), h.rotate(rotation), tolerance)
    if inversion:
        inverted = atoms.copy()
        inverted.positions *= -1
        _assert_same_blocks("inversion", predict(inverted), _inverted(h), tolerance, sign=-1)
    translated = atoms.copy()
    translated.positions += rng.uniform(-3, 3, size=3)
    _assert_same_blocks("translation", predict(translated), h, tolerance)
    order = rng.permutation(len(atoms))
    _assert_same_blocks("permutation", predict(atoms[order]), h, tolerance, order)


def _inverted(h: BlockMatrix) -> BlockMatrix:
    """H of the inverted structure: the sign of an orbital of degree l changes by (-1)^l, a spin does not change."""
    degrees = [l for z in h.numbers for l in h.basis.degrees(int(z)) for _ in range(2 * l + 1)]
    sign = (-1.0) ** np.array(degrees)
    _, row, col = h.indices
    return h.with_values(h.values * sign[row] * sign[col])


def _assert_same_blocks(
    law: str,
    got: BlockMatrix,
    expected: BlockMatrix,
    tolerance: float,
    order: np.ndarray | None = None,
    sign: int = 1,
) -> None:
    """Compare each block (i, j, R) of `got` with the block (order[i], order[j], sign * R) of `expected`."""
    assert got.spin is expected.spin, f"{law}: expected spin {expected.spin}, got {got.spin}"
    assert len(got.keys) == len(expected.keys), f"{law}: expected {len(expected.keys)} blocks, got {len(got.keys)}"
    atom_of = np.arange(len(got.numbers)) if order is None else order
    worst, place = -1.0, ""
    for i, j, *cell in got.keys.tolist():
        block = got.block(i, j, (cell[0], cell[1], cell[2]))
        other = _block(law, expected, int(atom_of[i]), int(atom_of[j]), *(sign * k for k in cell))
        assert np.isfinite(block).all(), f"{law}: block ({i}, {j}, {tuple(cell)}) has values that are not finite"
        error = np.abs(block - other)
        if error.max() > worst:
            worst = float(error.max())
            row, column = (int(k) for k in np.unravel_index(error.argmax(), error.shape)[-2:])
            place = f"block ({i}, {j}, {tuple(cell)}), row {row}, column {column}"
    assert worst <= tolerance, f"{law}: elements differ by up to {worst:.2e} eV (tolerance {tolerance:.0e}) in {place}"


def _block(law: str, matrix: BlockMatrix, i: int, j: int, x: int, y: int, z: int) -> np.ndarray:
    try:
        return matrix.block(i, j, (x, y, z))
    except MatrixError as error:
        raise AssertionError(f"{law}: expected the same blocks as before, got others ({error})") from None


def assert_round_trip(
    read: Callable[[Path], Sample],
    write: Callable[[Path, Sample], Any],
    sample: Sample,
    path: str | Path,
    tolerance: float = 1e-6,
) -> None:
    """Check that a sample that is written and read again is the same.

    The structure, the spin, the shells of each element, H and S must come back. What a format may have no place for
    (H0, number of electrons, Fermi level, total energy, orbital energies) must come back unchanged or as None, never as
    another value. Radii of orbitals may change: a block that only one of both matrices has must be zero there.

    Args:
        read: Function of a path that returns a `Sample`, such as `harmose.read`.
        write: Function of a path and a sample, such as `harmose.write`.
        sample: Sample to write.
        path: File or folder to write to. It must not exist.
        tolerance: Largest absolute difference of two numbers: eV for energies, angstrom for positions and cell vectors.

    Raises:
        AssertionError: If something differs. The message names the field, the largest difference and its place.

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> from harmose.testing import assert_round_trip
        >>> water = molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> assert_round_trip(harmose.read, harmose.write, harmose.Sample("water", water, h.basis, h), "water.npz")
    """
    path = Path(path)
    assert not path.exists(), f"expected a path that does not exist yet, got {path}"
    write(path, sample)
    assert path.exists(), f"write: expected a file or folder at {path}, got none"
    back = read(path)
    _assert_same_structure(back.structure, sample.structure, tolerance)
    assert back.spin is sample.spin, f"spin: expected {sample.spin}, got {back.spin}"
    for z in sorted(set(species_of(sample.structure).tolist())):
        expected, got = sample.basis.degrees(z), back.basis.degrees(z)
        assert got == expected, f"basis: expected shells of degrees {expected} for {symbol_of(z)}, got {got}"
    for field in ("hamiltonian", "overlap", "prior"):
        expected, got = getattr(sample, field), getattr(back, field)
        if got is None:
            assert expected is None or field == "prior", f"{field}: expected a matrix, got None"
            continue
        assert expected is not None, f"{field}: expected None, got a matrix"
        _assert_same_matrix(field, got, expected, tolerance)
    for field in ("n_electrons", "fermi_level", "energy", "orbital_energies"):
        expected, got = getattr(sample, field), getattr(back, field)
        if got is None:
            continue
        assert expected is not None, f"{field}: expected None, got {got}"
        _assert_close(field, np.asarray(got), np.asarray(expected), tolerance)


def _assert_same_structure(got: Atoms, expected: Atoms, tolerance: float) -> None:
    same = np.array_equal(species_of(got), species_of(expected))
    assert same, f"structure: expected the atoms {expected.symbols}, got {got.symbols}"
    assert np.array_equal(got.pbc, expected.pbc), f"structure: expected pbc {expected.pbc}, got {got.pbc}"
    _assert_close("positions", got.positions, expected.positions, tolerance)
    if expected.pbc.any():
        _assert_close("cell", got.cell.array, expected.cell.array, tolerance)


def _assert_close(field: str, got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert got.shape == expected.shape, f"{field}: expected shape {expected.shape}, got {got.shape}"
    error = np.abs(got - expected)
    # Written so that NaN fails, too.
    if not np.all(error <= tolerance):
        where = np.unravel_index(np.nan_to_num(error, nan=np.inf).argmax(), error.shape)
        place = f" at index {tuple(int(k) for k in where)}" if error.ndim else ""
        values = f"expected {expected[where]}, got {got[where]}"
        raise AssertionError(f"{field}: {values}{place} (tolerance {tolerance:.0e})")


def _assert_same_matrix(field: str, got: BlockMatrix, expected: BlockMatrix, tolerance: float) -> None:
    """Compare two matrices by block; a block that only one of them has must be zero."""
    assert got.spin is expected.spin, f"{field}: expected spin {expected.spin}, got {got.spin}"
    ours = {_canonical(key) for key in expected.keys.tolist()}
    theirs = {_canonical(key) for key in got.keys.tolist()}
    for key in sorted(ours | theirs):
        i, j, cell = key[0], key[1], key[2:]
        a = got.block(i, j, cell) if key in theirs else None
        b = expected.block(i, j, cell) if key in ours else None
        some = a if a is not None else b
        assert some is not None
        a, b = np.zeros_like(some) if a is None else a, np.zeros_like(some) if b is None else b
        _assert_close(f"{field}: block ({i}, {j}, {cell})", a, b, tolerance)


def _canonical(key: list[int]) -> tuple[int, int, int, int, int]:
    """The lesser of (i, j, R) and (j, i, -R): both name the same stored block."""
    i, j, x, y, z = key
    return min((i, j, x, y, z), (j, i, -x, -y, -z))
