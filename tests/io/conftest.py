"""What the tests of readers share: symmetries that hold in the right orbital order only, and operators to write."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.basis import BasisSet, Shell
from harmose.blocks import BlockMatrix
from harmose.graph import pair_vectors
from harmose.io.assembly import zeros
from harmose.sample import Sample
from harmose.so3.wigner import edge_wigner, shells_wigner
from harmose.spin import Spin


@pytest.fixture(scope="session")
def unequal_m() -> Callable[[Atoms, BlockMatrix], float]:
    """`unequal_m(structure, overlap)`: the largest element of S between different m in the frame of the two atoms; must vanish."""

    def largest(structure: Atoms, overlap: BlockMatrix) -> float:
        worst = 0.0
        vectors = pair_vectors(structure, overlap.pairs)
        for (z1, z2), index, where in overlap.groups():
            pairs = index >= len(structure)
            frame = torch.as_tensor(vectors[index[pairs] - len(structure)])
            blocks = overlap.values[0, where[pairs]]
            row = 0
            for l1 in overlap.basis.degrees(z1):
                col = 0
                for l2 in overlap.basis.degrees(z2):
                    block = blocks[:, row : row + 2 * l1 + 1, col : col + 2 * l2 + 1]
                    turned = edge_wigner(l1, frame).numpy() @ block @ edge_wigner(l2, frame).numpy().transpose(0, 2, 1)
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


@pytest.fixture(scope="session")
def random_crystal() -> Callable[[Spin], Sample]:
    """`random_crystal(spin)`: three atoms of two elements, with s, p, d and f shells, and random Hermitian operators.

    The atoms are not sorted by element; S is one matrix for both spins and positive definite.
    """

    def make(spin: Spin = Spin.NONE) -> Sample:
        structure = Atoms(
            "COC",
            [[0.1, 0.0, 0.0], [1.4, 0.3, -0.2], [0.2, 1.9, 2.2]],
            cell=[[3.4, 0, 0], [0.5, 3.8, 0], [0, 0.1, 4.1]],
            pbc=True,
        )
        shells = {6: (Shell(2, 0), Shell(2, 1)), 8: (Shell(2, 0), Shell(2, 1), Shell(3, 2), Shell(4, 3))}
        basis = BasisSet("random", shells, {6: 2.0, 8: 2.5})
        h = _hermitian(zeros(structure, basis, spin), np.random.default_rng(3))
        s = _hermitian(zeros(structure, basis), np.random.default_rng(4))
        _, row, col = s.elements
        diagonal = s.is_onsite & (row == col)
        s = s.with_values(np.where(diagonal, 1.0, 0.002 * s.values))
        return Sample(
            "random",
            structure,
            basis,
            h,
            overlap=s,
            spin=spin,
            n_electrons=14.0,
            fermi_level=-1.25,
            provenance={"code": "none"},
        )

    return make


def _hermitian(operator: BlockMatrix, rng: np.random.Generator) -> BlockMatrix:
    values = rng.normal(size=operator.values.shape)
    if operator.spin is Spin.SPINOR:
        values = values + 1j * rng.normal(size=values.shape)
    for start, end, n in zip(operator.offsets, operator.offsets[1:], operator.orbital_counts):
        block = values[:, start:end].reshape(-1, n, n)
        values[:, start:end] = ((block + operator.spin.adjoint(block)) / 2).reshape(len(values), -1)
    return operator.with_values(values.astype(operator.spin.dtype))
