"""Errors by type of block: a pair of shells of a pair of elements, on one atom or between two atoms.

    MAE(type) = sum of |H_predicted - H_DFT| over the elements of all blocks of the type / number of these elements

over the whole matrix, so that each stored pair counts together with its reverse. (a, b) and (b, a) are one type, since
H is Hermitian.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harmose.core.basis import Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.species import atomic_number_of, symbol_of
from harmose.evaluate.evaluation import BlockErrors

Atom = tuple[int, tuple[Shell, ...]]
Sums = Mapping[tuple[Atom, Atom, bool], np.ndarray]
"""Keys: (element and shells of both atoms, heavier element first, if on-site). Values (n_stages + 1, shells, shells):
sums of
absolute errors in eV over elements of the whole matrix, one for each stage, and last the number of these elements."""


def block_sums(layout: BlockMatrix, error: np.ndarray) -> Sums:
    """Sums of one sample; `error` (n_stages, n_components, size) holds absolute errors in the layout of `values`."""
    out: dict[tuple[Atom, Atom, bool], np.ndarray] = {}
    for (z1, z2), index, where in layout.groups():
        left, right = (z1, layout.basis.shells[z1]), (z2, layout.basis.shells[z2])
        for onsite in (True, False):
            chosen = where[(index < len(layout.numbers)) == onsite]
            if not len(chosen):
                continue
            values = error[:, :, chosen]  # (n_stages, n_components, blocks, n1, n2)
            sums = np.concatenate([values, np.ones_like(values[:1])]).sum(axis=(1, 2))
            sums = np.add.reduceat(sums, _starts(left), axis=1)
            sums = np.add.reduceat(sums, _starts(right), axis=2)
            key, sums = _whole_matrix(left, right, onsite, sums)
            out[key] = out.get(key, 0) + sums
    return out


def total(sums: Iterable[Sums]) -> Sums:
    """Add up the sums of several samples."""
    out: dict[tuple[Atom, Atom, bool], np.ndarray] = {}
    for one in sums:
        for key, value in one.items():
            out[key] = out.get(key, 0) + value
    return out


def block_errors(sums: Sums, stages: Sequence[str]) -> tuple[BlockErrors, ...]:
    """One entry for each type of block: on-site first, heavy elements first, shells in the order of the basis set."""
    out = []
    for left, right, onsite in sorted(
        sums, key=lambda key: (not key[2], *(-atomic_number_of(atom[0]) for atom in key[:2]))
    ):
        table = sums[left, right, onsite]
        symbols = symbol_of(left[0]), symbol_of(right[0])
        for a, shell in enumerate(left[1]):
            for b, other in enumerate(right[1]):
                if left == right and b < a:
                    continue
                both = table[:, a, b] + (table[:, b, a] if left == right and a != b else 0)
                *errors, n = map(float, both)
                mae = {stage: error / n for stage, error in zip(stages, errors, strict=True)}
                out.append(BlockErrors(symbols, (str(shell), str(other)), onsite, int(n), mae))
    return tuple(out)


def _starts(atom: Atom) -> np.ndarray:
    sizes = [shell.n_orbitals for shell in atom[1]]
    return np.cumsum(sizes) - sizes


def _whole_matrix(left: Atom, right: Atom, onsite: bool, sums: np.ndarray):
    """Turn sums over stored blocks into sums over the whole matrix, with the heavier element first."""
    if left == right:
        return (left, right, onsite), sums if onsite else sums + sums.swapaxes(1, 2)
    if left[0] < right[0]:
        left, right, sums = right, left, sums.swapaxes(1, 2)
    return (left, right, onsite), 2 * sums
