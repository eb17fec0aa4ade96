"""Weights of states on atoms, elements or shells (Mulliken, J. Chem. Phys. 23, 1833 (1955)).

    w_g = sum_{a in g} Re( c_a^* (S c)_a ),        sum_g w_g = c^dagger S c = 1

Single weights may be a little below 0 or above 1: a non-orthogonal basis has no sharper division.
"""

from collections.abc import Callable

import numpy as np

from harmose.core.basis import LETTERS, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.species import atomic_number_of, symbol_of
from harmose.errors import ConfigError
from harmose.spin import Spin

Groups = dict[str, np.ndarray]
"""Label of each group -> True for each orbital of the home cell that belongs to it (n_orbitals,)."""


def by_element(operator: BlockMatrix) -> Groups:
    """Return one group for each element: "C", "H"."""
    symbols = _per_atom(operator, [_element(z) for z in operator.numbers])
    return _groups(symbols)


def by_atom(operator: BlockMatrix) -> Groups:
    """Return one group for each atom, counted from 0: "C 0", "C 1"."""
    return _groups(_per_atom(operator, [f"{_element(z)} {k}" for k, z in enumerate(operator.numbers)]))


def by_shell(operator: BlockMatrix) -> Groups:
    """Return one group for each shell of each element: "C 2s", "C 3p"."""
    return _by_name_of_shell(operator, str)


def by_l(operator: BlockMatrix) -> Groups:
    """Return one group for each angular momentum of each element: "C s", "C p"."""
    return _by_name_of_shell(operator, lambda shell: LETTERS[shell.l])


def _by_name_of_shell(operator: BlockMatrix, name: Callable[[Shell], str]) -> Groups:
    basis = operator.basis
    labels = {
        z: [f"{_element(z)} {name(shell)}" for shell in basis.shells[z] for _ in range(shell.n_orbitals)]
        for z in basis.elements
    }
    return _groups(_per_element(operator, labels))


GROUPINGS: dict[str, Callable[[BlockMatrix], Groups]] = {
    "element": by_element,
    "atom": by_atom,
    "shell": by_shell,
    "l": by_l,
}
"""Functions that divide the orbitals into groups, by name."""


def grouping(name: str) -> Callable[[BlockMatrix], Groups]:
    """Return the function of `GROUPINGS`; raises `ConfigError` for another name."""
    if name not in GROUPINGS:
        raise ConfigError(f"projection: expected one of {', '.join(GROUPINGS)}, got {name!r}")
    return GROUPINGS[name]


def mulliken(coefficients: np.ndarray, overlap: np.ndarray, groups: Groups, spin: Spin) -> np.ndarray:
    """Return the weights (..., n_groups, n_bands) of states `coefficients` (..., n, n_bands) with `overlap` (..., n, n).

    The weights of all orbitals add up to 1 for every state. A spinor's up and down parts are added.
    """
    orbitals = np.array(list(groups.values()), dtype=float)  # (n_groups, n_orbitals)
    if spin is Spin.SPINOR:
        orbitals = np.concatenate([orbitals, orbitals], axis=1)
    return orbitals @ np.real(coefficients.conj() * (overlap @ coefficients))


def _element(species: int) -> str:
    return symbol_of(atomic_number_of(species))


def _per_atom(operator: BlockMatrix, labels: list[str]) -> np.ndarray:
    return np.repeat(np.array(labels, dtype=object), operator.orbital_counts)


def _per_element(operator: BlockMatrix, labels: dict[int, list[str]]) -> np.ndarray:
    """Return the label of each orbital (n_orbitals,), from the labels of the orbitals of each element."""
    out = np.empty(operator.n_orbitals, dtype=object)
    for z in set(np.asarray(operator.numbers).tolist()):
        starts = operator.orbital_starts[:-1][operator.numbers == z]
        out[starts[:, None] + np.arange(len(labels[z]))] = labels[z]
    return out


def _groups(labels: np.ndarray) -> Groups:
    return {name: labels == name for name in dict.fromkeys(labels.tolist())}
