"""Species: the elements of a structure, numbered further where one element has several sets of orbitals.

A surface may have atoms of one element with a large and with a small basis set. The number of a species is the atomic number
Z for the first set of orbitals of an element, which is mostly the only one, and Z + 1000 k for the k-th further one. Basis
sets, graphs and block matrices count by species. A structure keeps its atomic numbers, and k of each atom in the array
`orbital_set`; without this array every k is 0.
"""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

STEP = 1000
"""Species that differ by a multiple of this number are sets of orbitals of one element."""

MOST_SETS = 32
"""Largest number of sets of orbitals of an element, so that a species fits into two bytes."""

ARRAY = "orbital_set"
"""Array of a structure with the set of orbitals of each atom, from 0."""


def species_of(atoms: Atoms) -> np.ndarray:
    """Return the species of each atom (N,), int64."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    further = atoms.arrays.get(ARRAY)
    return numbers if further is None else numbers + STEP * np.asarray(further, dtype=np.int64)


def with_species(atoms: Atoms, species: np.ndarray) -> Atoms:
    """Return a copy of a structure of these elements whose atoms have these species (N,)."""
    placed, sets = atoms.copy(), np.asarray(species, dtype=np.int64) // STEP
    if ARRAY in placed.arrays:
        del placed.arrays[ARRAY]
    if sets.any():
        placed.set_array(ARRAY, sets)
    return placed


def species_number(element: int, k: int) -> int:
    """Return the species of the k-th set of orbitals of an element, k from 0."""
    return element + STEP * k


def atomic_numbers_of(species: np.ndarray) -> np.ndarray:
    """Return the atomic numbers of species, any shape."""
    return np.asarray(species) % STEP


def atomic_number_of(species: int) -> int:
    """Return the atomic number of a species."""
    return int(species) % STEP


def symbol_of(species: int) -> str:
    """Return the symbol of a species: C for the first set of orbitals of carbon, C(2) for the second."""
    k, element = divmod(int(species), STEP)
    if not 0 < element < len(chemical_symbols) or not 0 <= k < MOST_SETS:
        return f"atomic number {species}"
    return chemical_symbols[element] + (f"({k + 1})" if k else "")


def is_species(species: int) -> bool:
    """True for the number of a species."""
    return 0 < species % STEP < len(chemical_symbols) and 0 <= species < MOST_SETS * STEP
