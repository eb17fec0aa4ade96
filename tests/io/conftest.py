"""Symmetries of H and S that hold in the right order and signs of orbitals only."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import pair_vectors
from harmose.so3.wigner import edge_wigner, shells_wigner


@pytest.fixture(scope="session")
def unequal_m() -> Callable[[Atoms, BlockMatrix], float]:
    """`unequal_m(structure, overlap)`: the largest element of S between different m in the frame of the two atoms; it is 0."""

    def largest(structure: Atoms, overlap: BlockMatrix) -> float:
        worst = 0.0
        vectors = pair_vectors(structure, overlap.pairs)
        for (z1, z2), index, where in overlap.groups():
            pairs = index >= len(structure)
            frame = vectors[index[pairs] - len(structure)]
            blocks = overlap.values[0, where[pairs]]
            row = 0
            for l1 in overlap.basis.degrees(z1):
                col = 0
                for l2 in overlap.basis.degrees(z2):
                    block = blocks[:, row : row + 2 * l1 + 1, col : col + 2 * l2 + 1]
                    turned = edge_wigner(l1, frame) @ block @ edge_wigner(l2, frame).transpose(0, 2, 1)
                    m1, m2 = np.arange(-l1, l1 + 1), np.arange(-l2, l2 + 1)
                    worst = max(worst, np.abs(np.where(m1[:, None] == m2, 0.0, turned)).max(initial=0.0))
                    col += 2 * l2 + 1
                row += 2 * l1 + 1
        return worst

    return largest


@pytest.fixture(scope="session")
def asymmetry() -> Callable[..., float]:
    """`asymmetry(structure, operator, Q, t)`: the largest change of the operator under x -> Q x + t, a symmetry of the crystal.

    Q may be improper: the inversion multiplies a block of shells l1, l2 by (-1)^(l1 + l2).
    """

    def largest(structure: Atoms, operator: BlockMatrix, q: np.ndarray, t: np.ndarray) -> float:
        cell, positions = structure.cell.array, structure.positions
        image, shift = [], []
        for x in positions:
            offsets = (q @ x + t - positions) @ np.linalg.inv(cell)
            near = np.abs(offsets - np.round(offsets)).max(axis=1)
            image.append(int(np.argmin(near)))
            assert near[image[-1]] < 1e-4, "not a symmetry of the crystal"
            shift.append(np.round(offsets[image[-1]]))
        cells = np.round(cell @ q.T @ np.linalg.inv(cell))  # whole cells that lattice vectors become
        sign = np.sign(np.linalg.det(q))
        d = {}
        for z in set(structure.numbers.tolist()):
            degrees = operator.basis.degrees(z)
            parity = np.concatenate([np.full(2 * l + 1, sign**l) for l in degrees])
            d[z] = shells_wigner(degrees, sign * q) * parity
        worst = 0.0
        for i, j, *r in operator.keys.tolist():
            r_image = r @ cells + shift[j] - shift[i]
            expected = operator.block(image[i], image[j], tuple(r_image.astype(int).tolist()))
            z1, z2 = structure.numbers[[i, j]].tolist()
            worst = max(worst, np.abs(d[z1] @ operator.block(i, j, tuple(r)) @ d[z2].T - expected).max())
        return worst

    return largest
