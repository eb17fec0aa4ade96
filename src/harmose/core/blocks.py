"""`BlockMatrix`: one operator (H, S, H0, a density matrix) as real-space blocks, Hermitian by construction.

The on-site blocks are stored in the order of atoms, then one block for each pair of a graph in the graph's order. The
block of the reversed pair is the adjoint: `H[j, i, -R] = H[i, j, R]^dagger`. Values lie flat, block after block,
row-major: rows are orbitals of atom i in the home cell, columns are orbitals of atom j in cell R. Energies are in eV,
orbitals m = -l..l.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # imports its subpackages on first use
from ase.symbols import Symbols

from harmose.core.basis import BasisSet
from harmose.core.block_rows import BlockRows
from harmose.core.species import atomic_numbers_of
from harmose.errors import MatrixError
from harmose.so3.wigner import check_rotation, shells_wigner
from harmose.spin import PAULI, Spin


@dataclass(frozen=True, eq=False, repr=False)
class BlockMatrix:
    """One Hermitian operator of a structure: a block of orbitals x orbitals for each atom and each pair of atoms.

    Attributes:
        basis: basis set of rows and columns.
        numbers: atomic numbers, shape (N,); further sets of orbitals of an element by `core.species`.
        pairs: pairs of atoms as (i, j, Rx, Ry, Rz), shape (P, 5): i < j, or i == j and R lexicographically positive;
            ascending, each once.
        values: all blocks one after the other, row-major, shape (spin.n_components, size): the N on-site blocks, then
            those of the P pairs. In eV for H and H0; without unit for S and density matrices.
        spin: spin kind.

    Raises:
        MatrixError: for pairs in another order, or values of another shape.

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> h = harmose.load("water-pbe-def2svp").predict(molecule("H2O"))
        >>> h
        BlockMatrix(H2O, 24 orbitals, blocks of 3 atoms and 3 pairs, spin none, basis 'def2-svp')
        >>> h.block(0, 1).shape  # rows: the orbitals of O, columns: those of the first H
        (14, 5)
        >>> h.dense().shape
        (24, 24)
    """

    basis: BasisSet
    numbers: np.ndarray
    pairs: np.ndarray
    values: np.ndarray
    spin: Spin = Spin.NONE

    def __post_init__(self) -> None:
        _check_pairs(np.asarray(self.pairs), len(self.numbers))
        self._check_size()

    def _check_size(self) -> None:
        expected = (self.spin.n_components, int(self.offsets[-1]))
        if self.values.shape != expected:
            raise MatrixError(f"expected values of shape {expected} for {len(self.numbers)} atoms and "
                              f"{len(self.pairs)} pairs, got {self.values.shape}")  # fmt: skip

    def __reduce__(self):
        # Without the cached properties, which are several times as large as the values.
        return BlockMatrix, (self.basis, self.numbers, self.pairs, self.values, self.spin)

    def __repr__(self) -> str:
        formula = Symbols(atomic_numbers_of(self.numbers)).get_chemical_formula()
        blocks = f"blocks of {len(self.numbers)} atoms and {len(self.pairs)} pairs"
        return (
            f"BlockMatrix({formula}, {self.n_orbitals} orbitals, {blocks}, spin {self.spin}, basis {self.basis.name!r})"
        )

    @cached_property
    def orbital_counts(self) -> np.ndarray:
        """Number of orbitals of each atom (N,)."""
        return self.basis.counts(self.numbers)

    @cached_property
    def orbital_starts(self) -> np.ndarray:
        """First orbital of each atom in the home cell, and their total at the end (N + 1,)."""
        return np.concatenate([[0], np.cumsum(self.orbital_counts)])

    @property
    def n_orbitals(self) -> int:
        """Number of orbitals of all atoms; rows and columns of the matrix without spin."""
        return int(self.orbital_starts[-1])

    @cached_property
    def keys(self) -> np.ndarray:
        """Key (i, j, Rx, Ry, Rz) of every stored block, on-site blocks first (N + P, 5)."""
        atoms = np.arange(len(self.numbers))
        onsite = np.zeros((len(atoms), 5), dtype=np.int64)
        onsite[:, 0] = onsite[:, 1] = atoms
        return np.concatenate([onsite, np.asarray(self.pairs, dtype=np.int64).reshape(-1, 5)])

    @cached_property
    def offsets(self) -> np.ndarray:
        """Place in `values` at which each block starts, and the total size at the end (N + P + 1,)."""
        rows, cols = self.orbital_counts[self.keys[:, 0]], self.orbital_counts[self.keys[:, 1]]
        return np.concatenate([[0], np.cumsum(rows * cols)])

    @cached_property
    def indices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Block, row orbital and column orbital of each stored value, each (size,); orbitals as in the home cell."""
        sizes = np.diff(self.offsets)
        block = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(self.offsets[-1]) - self.offsets[block]
        width = self.orbital_counts[self.keys[:, 1]][block]
        row = self.orbital_starts[self.keys[block, 0]] + within // np.maximum(width, 1)
        col = self.orbital_starts[self.keys[block, 1]] + within % np.maximum(width, 1)
        return block, row, col

    @property
    def is_onsite(self) -> np.ndarray:
        """True for each stored value of an on-site block (size,)."""
        return np.arange(self.offsets[-1]) < self.offsets[len(self.numbers)]

    @cached_property
    def multiplicity(self) -> np.ndarray:
        """Number of blocks of the whole matrix that each stored block stands for (N + P,).

        1 for an on-site block; 2 for a pair's, which is also the adjoint of the block of the reversed pair. Sums over
        all blocks of the matrix are sums over stored blocks with these weights.
        """
        return np.where(np.arange(len(self.keys)) < len(self.numbers), 1, 2)

    def block(self, i: int, j: int, cell: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
        """One block, stored or the adjoint of a stored one.

        Args:
            i: atom of the rows, in the home cell.
            j: atom of the columns.
            cell: lattice cell R of atom j, in units of the lattice vectors.

        Returns:
            Shape (n_i, n_j), or (n_components, n_i, n_j) for an operator with spin.

        Raises:
            MatrixError: for two atoms out of each other's reach.
        """
        key = (i, j, *map(int, cell))
        index = self._index.get(key)
        reverse = self._index.get((j, i, *(-c for c in key[2:])))
        if index is None and reverse is None:
            raise MatrixError(f"no block for atoms {i}, {j} in cell {tuple(cell)}")
        k = index if index is not None else reverse
        assert k is not None
        a, b = self.keys[k, :2]
        block = self.values[:, self.offsets[k] : self.offsets[k + 1]].reshape(
            -1, self.orbital_counts[a], self.orbital_counts[b]
        )
        block = block if index is not None else self.spin.adjoint(block)
        return block[0] if self.spin is Spin.NONE else block

    @cached_property
    def _index(self) -> dict[tuple[int, ...], int]:
        return {tuple(key): k for k, key in enumerate(self.keys.tolist())}

    def groups(self) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
        """Stored blocks by pair of elements, to loop over pairs of elements instead of blocks.

        Yields:
            Species (z_i, z_j), indices of the B blocks, shape (B,), and places of their elements in `values`,
            shape (B, n_i, n_j).
        """
        elements = np.asarray(self.numbers)[self.keys[:, :2]]
        kinds, which = np.unique(elements, axis=0, return_inverse=True)
        for k, (z1, z2) in enumerate(kinds.tolist()):
            index = np.flatnonzero(which.ravel() == k)
            n1, n2 = self.basis.n_orbitals(z1), self.basis.n_orbitals(z2)
            yield (z1, z2), index, self.offsets[index][:, None, None] + np.arange(n1 * n2).reshape(n1, n2)

    def with_values(self, values: np.ndarray) -> "BlockMatrix":
        """A matrix with the same blocks and other values.

        Args:
            values: shape (spin.n_components, size).

        Returns:
            The matrix; tables that do not depend on values are shared.

        Raises:
            MatrixError: for values of another shape.
        """
        # Pairs are not checked again, and the tables that do not depend on values (keys, offsets, indices) are shared.
        other = object.__new__(BlockMatrix)
        other.__dict__.update(self.__dict__, values=values)
        other._check_size()
        return other

    def _check_same_blocks(self, other: "BlockMatrix") -> None:
        if self.spin is not other.spin or self.basis != other.basis:
            raise MatrixError(f"expected the same basis and spin, got {self.basis.name}/{self.spin} and "
                              f"{other.basis.name}/{other.spin}")  # fmt: skip
        if not (np.array_equal(self.numbers, other.numbers) and np.array_equal(self.pairs, other.pairs)):
            raise MatrixError("expected matrices with the same atoms and pairs, got different ones")

    def __add__(self, other: "BlockMatrix") -> "BlockMatrix":
        self._check_same_blocks(other)
        return self.with_values(self.values + other.values)

    def __sub__(self, other: "BlockMatrix") -> "BlockMatrix":
        self._check_same_blocks(other)
        return self.with_values(self.values - other.values)

    def dense(self) -> np.ndarray:
        """The dense matrix of a molecule, or that of a crystal at the Gamma point, where all cells R are added up.

        Returns:
            Shape (n, n) with n = `n_orbitals`; collinear (2, n, n), up and down; spinor (2n, 2n), complex, with the
            spin blocks [[uu, ud], [du, dd]]. `harmose.physics.bloch` has other k.
        """
        pairs = ~self.is_onsite
        out = self._summed(slice(None)) + self.spin.adjoint(self._summed(pairs))
        if self.spin is Spin.NONE:
            return out[0]
        if self.spin is Spin.COLLINEAR:
            return out
        return np.block([[out[0], out[1]], [out[2], out[3]]])

    def _summed(self, which: np.ndarray | slice) -> np.ndarray:
        """The stored values `which`, added up over R at their rows and columns: (n_components, n, n)."""
        _, row, col = self.indices
        shape = (self.n_orbitals, self.n_orbitals)
        at = (row[which], col[which])
        return np.stack([scipy.sparse.coo_matrix((v[which], at), shape=shape).toarray() for v in self.values])

    def csr(self) -> "scipy.sparse.csr_matrix":
        """The matrix `dense()` in sparse form, made without a dense one; `harmose.physics.sparse.bloch` has other k.

        Returns:
            Shape (n, n); for a periodic structure the sum over R, at the Gamma point.

        Raises:
            MatrixError: for an operator with spin.
        """
        if self.spin is not Spin.NONE:
            raise MatrixError(f"csr() holds one matrix, this operator has spin {self.spin}")
        return self.rows.csr(self.values[0], self.values[0])

    @cached_property
    def rows(self) -> BlockRows:
        """Places of the blocks in the rows of a sparse matrix."""
        return BlockRows(self.orbital_counts, self.keys, self.offsets)

    def rotate(self, rotation: np.ndarray) -> "BlockMatrix":
        """The operator of the rotated structure: each block becomes `D(Q) H D(Q)^T`.

        Spin rotates with space: the components H_k of a spinor operator `H_0 1 + sum_k H_k sigma_k` also become
        `sum_l Q_kl H_l`, which is U H U^dagger with the SU(2) matrix U of Q. Collinear spins have no direction.

        Args:
            rotation: proper rotation Q of positions (x, y, z), shape (3, 3).

        Returns:
            A matrix with the same blocks.

        Raises:
            StructureError: for any other matrix.
        """
        d = {z: shells_wigner(self.basis.degrees(z), rotation) for z in set(np.asarray(self.numbers).tolist())}
        values = np.empty_like(self.values)
        for (z1, z2), _, where in self.groups():
            values[:, where] = d[z1] @ self.values[:, where] @ d[z2].T
        if self.spin is Spin.SPINOR:
            order = [1, 2, 0]
            turn = np.eye(4)
            turn[1:, 1:] = check_rotation(rotation)[order][:, order]
            values = PAULI.conj().T @ turn @ PAULI @ values
        return self.with_values(values)


def _check_pairs(pairs: np.ndarray, n_atoms: int) -> None:
    """Raise `MatrixError` unless pairs (P, 5) are of existing atoms, in canonical direction, ascending, each once."""
    if pairs.ndim != 2 or pairs.shape[1] != 5:
        raise MatrixError(f"expected pairs (i, j, Rx, Ry, Rz) of shape (P, 5), got {pairs.shape}")
    pairs = pairs.astype(np.int64)
    if pairs[:, :2].min(initial=0) < 0 or pairs[:, :2].max(initial=-1) >= n_atoms:
        raise MatrixError(f"expected pairs of {n_atoms} atoms, got {pairs[:, :2].min()} to {pairs[:, :2].max()}")
    # i < j, or i == j and R lexicographically positive
    turned = ~_lexicographically_positive(np.column_stack([pairs[:, 1] - pairs[:, 0], pairs[:, 2:]]))
    if turned.any():
        raise MatrixError(f"expected pairs in canonical direction, got {pairs[turned][0].tolist()}")
    unsorted = ~_lexicographically_positive(np.diff(pairs, axis=0))
    if unsorted.any():
        first, second = pairs[np.argmax(unsorted) :][:2].tolist()
        raise MatrixError(f"expected every pair once and in ascending order, got {first} before {second}")


def _lexicographically_positive(rows: np.ndarray) -> np.ndarray:
    """True for each row whose first component that is not zero is positive."""
    first = np.argmax(rows != 0, axis=1)
    return rows[np.arange(len(rows)), first] > 0


def block_values(
    matrix: np.ndarray,
    layout: BlockMatrix,
    tolerance: float = 1e-6,
    name: str = "matrix",
    dropped: float | None = None,
) -> BlockMatrix:
    """Blocks of a molecule's dense matrix.

    Args:
        matrix: shape (n, n), collinear (2, n, n), spinor (2n, 2n) with all up orbitals first; n orbitals.
        layout: an operator of the same basis, atoms, pairs and spin; its values are not used.
        tolerance: largest asymmetry, relative to the largest element.
        name: name of the matrix in error messages.
        dropped: largest value outside the blocks, default `tolerance`.

    Raises:
        MatrixError: for another shape, and for a matrix that is not Hermitian or has values outside the blocks.
    """
    if np.asarray(layout.pairs)[:, 2:].any():
        raise MatrixError(f"{name}: expected the layout of a molecule, got one with periodic images")
    if np.iscomplexobj(matrix) and layout.spin is not Spin.SPINOR:
        raise MatrixError(f"{name}: expected a real matrix for spin {layout.spin}, got a complex one")
    m = np.asarray(matrix, dtype=layout.spin.dtype)
    n = layout.n_orbitals
    shape = {Spin.NONE: (n, n), Spin.COLLINEAR: (2, n, n), Spin.SPINOR: (2 * n, 2 * n)}[layout.spin]
    if m.shape != shape:
        raise MatrixError(f"{name}: expected shape {shape}, got {m.shape}")
    if layout.spin is Spin.SPINOR:
        m = m.reshape(2, n, 2, n).swapaxes(1, 2)
    m = m.reshape(-1, n, n)
    if not np.isfinite(m).all():
        raise MatrixError(f"{name}: expected finite values, got NaN or infinity")
    adjoint = layout.spin.adjoint(m)
    asymmetry = np.abs(m - adjoint).max(initial=0.0)
    if asymmetry > tolerance * max(1.0, np.abs(m).max(initial=0.0)):
        raise MatrixError(f"{name}: expected a Hermitian matrix, got an asymmetry of {asymmetry:.2e}")
    m = (m + adjoint) / 2
    _, row, col = layout.indices
    outside = np.abs(m)
    outside[:, row, col] = 0
    outside[:, col, row] = 0
    if outside.max(initial=0.0) > (tolerance if dropped is None else dropped):
        _, r, c = np.unravel_index(np.argmax(outside), outside.shape)
        i, j = np.searchsorted(layout.orbital_starts, [r, c], side="right") - 1
        raise MatrixError(
            f"{name}: a value of {outside.max():.2e} lies in the block of atoms {i} and {j}, which are out of each "
            f"other's reach in basis {layout.basis.name}"
        )
    return layout.with_values(m[:, row, col])


def empty_matrix(basis: BasisSet, numbers: np.ndarray, pairs: np.ndarray, spin: Spin = Spin.NONE) -> BlockMatrix:
    """A matrix of zeros with the blocks of a graph: `empty_matrix(basis, graph.numbers, graph.pairs)`."""
    counts = basis.counts(numbers)
    size = int((counts**2).sum() + (counts[pairs[:, 0]] * counts[pairs[:, 1]]).sum())
    return BlockMatrix(basis, np.asarray(numbers), pairs, np.zeros((spin.n_components, size), spin.dtype), spin)
