"""List the elements of a `BlockMatrix` for other codes: both directions of every pair, orbitals in the code's order.

    all_elements    single matrix elements with row, column and cell (sisl, Wannier90)
    all_blocks      whole blocks, each with its key (i, j, Rx, Ry, Rz) (DeepH)

This is the inverse of `io.assembly`.
"""

from dataclasses import dataclass

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import reversed_pairs
from harmose.so3.conventions import E3NN, Convention


@dataclass(frozen=True)
class Blocks:
    """keys (B, 5); shapes (B, 2); values (n_components, size), block after block, each by rows."""

    keys: np.ndarray
    shapes: np.ndarray
    values: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Index of the first value of each block, and the number of values (B + 1,)."""
        return np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1))])

    def largest(self) -> np.ndarray:
        """Return the largest absolute value of each block (B,)."""
        if not len(self.keys):
            return np.zeros(0)
        return np.maximum.reduceat(np.abs(self.values).max(axis=0), self.offsets[:-1])

    def selected(self, which: np.ndarray) -> "Blocks":
        """Return the blocks for which the mask (B,) is true."""
        return Blocks(self.keys[which], self.shapes[which], self.values[:, np.repeat(which, self.shapes.prod(axis=1))])


def all_elements(operator: BlockMatrix) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (size,), columns (size,), cells (size, 3) and values (n_components, size) of all elements."""
    block, row, col = operator.indices
    cell, off = operator.keys[block, 2:], ~operator.is_onsite
    return (
        np.concatenate([row, col[off]]),
        np.concatenate([col, row[off]]),
        np.concatenate([cell, -cell[off]]),
        np.concatenate([operator.values, _adjoints(operator, off)], axis=1),
    )


def all_blocks(operator: BlockMatrix, convention: Convention = E3NN) -> Blocks:
    """Return the stored blocks, then those of the reversed pairs, in the order and signs of `convention`."""
    keys = np.concatenate([operator.keys, reversed_pairs(operator.keys[len(operator.numbers) :])])
    counts = operator.orbital_counts
    shapes = np.column_stack([counts[keys[:, 0]], counts[keys[:, 1]]])
    starts = np.cumsum(shapes.prod(axis=1)) - shapes.prod(axis=1)

    block, row, col = operator.indices
    atoms, off = operator.keys[block, :2], ~operator.is_onsite
    index, sign = _code_orbitals(operator, convention)
    a, b = index[row] - operator.orbital_starts[atoms[:, 0]], index[col] - operator.orbital_starts[atoms[:, 1]]
    signs = sign[row] * sign[col]
    reverse = block[off] + len(operator.pairs)
    values = np.empty((operator.spin.n_components, int(shapes.prod(axis=1).sum())), dtype=operator.values.dtype)
    values[:, starts[block] + a * shapes[block, 1] + b] = operator.values * signs
    values[:, starts[reverse] + b[off] * shapes[reverse, 1] + a[off]] = _adjoints(operator, off) * signs[off]
    return Blocks(keys, shapes, values)


def _adjoints(operator: BlockMatrix, which: np.ndarray) -> np.ndarray:
    return operator.spin.adjoint(operator.values[:, which, None, None])[..., 0, 0]


def _code_orbitals(operator: BlockMatrix, convention: Convention) -> tuple[np.ndarray, np.ndarray]:
    """Return index (n,) and sign (n,): orbital k of harmose is `sign[k]` times orbital `index[k]` of the code.

    Both count atom after atom.
    """
    numbers = np.asarray(operator.numbers)
    starts = operator.orbital_starts[:-1]
    index, sign = np.empty(operator.n_orbitals, dtype=np.int64), np.empty(operator.n_orbitals)
    for z in np.unique(numbers).tolist():
        within, signs = convention.indices(operator.basis.degrees(z))
        ours = starts[numbers == z][:, None] + np.arange(len(within))
        index[ours] = starts[numbers == z][:, None] + within
        sign[ours] = signs
    return index, sign
