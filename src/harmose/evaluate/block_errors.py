"""Errors by type of block: which pair of shells, of which elements, on one atom or between two, is how well predicted.

    MAE(type) = sum over elements of all blocks of the type of |H_predicted - H_DFT| / number of these elements

over the whole matrix, the reverse of each stored pair included. (a, b) and (b, a) are one type, since H is Hermitian.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from ase.data import chemical_symbols

from harmose.core.basis import Shell
from harmose.core.blocks import BlockMatrix
from harmose.evaluate.evaluation import BlockErrors

Atom = tuple[int, tuple[Shell, ...]]
Sums = Mapping[tuple[Atom, Atom, bool], np.ndarray]
"""By (element and shells, the other's, on-site?), heavier element first: sums of the two stages' absolute errors over
elements of the whole matrix, and the number of these elements, shape (3, shells, shells)."""


def block_sums(layout: BlockMatrix, error: np.ndarray) -> Sums:
    """The sums of one sample; `error` (2, n_components, size) holds absolute errors in the layout of `values`."""
    out: dict[tuple[Atom, Atom, bool], np.ndarray] = {}
    for (z1, z2), index, where in layout.groups():
        left, right = (z1, layout.basis.shells[z1]), (z2, layout.basis.shells[z2])
        for onsite in (True, False):
            chosen = where[(index < len(layout.numbers)) == onsite]
            if not len(chosen):
                continue
            values = error[:, :, chosen]  # (2, n_components, B, n1, n2)
            sums = np.concatenate([values, np.ones_like(values[:1])]).sum(axis=(1, 2))
            sums = np.add.reduceat(sums, _starts(left), axis=1)
            sums = np.add.reduceat(sums, _starts(right), axis=2)
            key, sums = _whole_matrix(left, right, onsite, sums)
            out[key] = out.get(key, 0) + sums
    return out


def total(sums: Iterable[Sums]) -> Sums:
    """The sums over several samples."""
    out: dict[tuple[Atom, Atom, bool], np.ndarray] = {}
    for one in sums:
        for key, value in one.items():
            out[key] = out.get(key, 0) + value
    return out


def block_errors(sums: Sums) -> tuple[BlockErrors, ...]:
    """One entry for each type of block, on-site first, heavy elements first, shells in the order of the basis set."""
    out = []
    for left, right, onsite in sorted(sums, key=lambda key: (not key[2], -key[0][0], -key[1][0])):
        table = sums[left, right, onsite]
        symbols = chemical_symbols[left[0]], chemical_symbols[right[0]]
        for a, shell in enumerate(left[1]):
            for b, other in enumerate(right[1]):
                if left == right and b < a:
                    continue
                both = table[:, a, b] + (table[:, b, a] if left == right and a != b else 0)
                names = str(shell), str(other)
                stage1, full, n = map(float, both)
                out.append(BlockErrors(symbols, names, onsite, int(n), stage1 / n, full / n))
    return tuple(out)


def _starts(atom: Atom) -> np.ndarray:
    sizes = [shell.n_orbitals for shell in atom[1]]
    return np.cumsum(sizes) - sizes


def _whole_matrix(left: Atom, right: Atom, onsite: bool, sums: np.ndarray):
    """Sums over stored blocks -> over the whole matrix, with the heavier element first."""
    if left == right:
        return (left, right, onsite), sums if onsite else sums + sums.swapaxes(1, 2)
    if left[0] < right[0]:
        left, right, sums = right, left, sums.swapaxes(1, 2)
    return (left, right, onsite), 2 * sums
