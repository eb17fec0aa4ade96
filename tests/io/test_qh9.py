"""QH9's orders: what its databases hold is PySCF's, what its loader hands out is ours."""

import numpy as np
from ase.build import molecule

from harmose.blocks import block_values
from harmose.io import pyscf as io
from harmose.io.qh9 import QH9, QH9_LOADER
from harmose.so3.conventions import Convention
from harmose.so3.wigner import random_rotation

# The tables of QH9's public code: `new[k] = old[map[k]]` within a shell, no signs.
TO_LOADER = {"s": [0], "p": [1, 2, 0], "d": [0, 1, 2, 3, 4]}
BACK_TO_PYSCF = {"s": [0], "p": [2, 0, 1], "d": [0, 1, 2, 3, 4]}
SHELLS = {1: "ssp", 6: "sssppd", 7: "sssppd", 8: "sssppd", 9: "sssppd"}


def qh9_transform(matrix: np.ndarray, numbers: np.ndarray, table: dict[str, list[int]]) -> np.ndarray:
    index, start = [], 0
    for shell in "".join(SHELLS[z] for z in numbers.tolist()):
        index += [start + k for k in table[shell]]
        start += len(table[shell])
    return matrix[np.ix_(index, index)]


def inside(atoms, stored: np.ndarray, convention: Convention):
    layout = io.layout(atoms, io.basis_set("def2-svp", set(atoms.numbers.tolist())))
    degrees = [l for z in atoms.numbers.tolist() for l in layout.basis.degrees(z)]
    return block_values(convention.to_inside(stored, degrees), layout)


def kinetic_energy(atoms) -> np.ndarray:
    return io.molecule(atoms, "def2-svp").intor("int1e_kin")


def test_stored_and_loaded_matrices_are_covariant_once_inside():
    rotation = random_rotation(np.random.default_rng(3))
    atoms = molecule("HCN")
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    for convention, table in ((QH9, None), (QH9_LOADER, TO_LOADER)):
        before, after = (kinetic_energy(a) for a in (atoms, turned))
        if table:
            before, after = (qh9_transform(m, atoms.numbers, table) for m in (before, after))
        h, h_turned = inside(atoms, before, convention), inside(turned, after, convention)
        np.testing.assert_allclose(h.rotate(rotation).values, h_turned.values, atol=1e-10)


def test_our_order_goes_back_to_pyscf_by_their_table():
    atoms = molecule("H2O")
    stored = kinetic_energy(atoms)
    back = qh9_transform(inside(atoms, stored, QH9).dense(), atoms.numbers, BACK_TO_PYSCF)
    np.testing.assert_allclose(back, stored, atol=1e-14)
