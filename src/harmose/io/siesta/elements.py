"""The elements of a SIESTA run, which several of its files state: they must agree, or one of them is of another run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harmose.core.species import symbol_of
from harmose.errors import FormatError
from harmose.io.siesta.basis import Species, find_ion, ion_file, read_atomic_numbers
from harmose.io.siesta.matrices import needed
from harmose.io.siesta.run import Run, input_file, species_of_input
from harmose.io.siesta.stored import Stored
from harmose.io.species import element_of

REMEDY = "one of them is of another run; remove it, or copy the files of the run again"


def atomic_numbers(run: Run, stored: Stored, species: Sequence[Species], which: np.ndarray) -> np.ndarray:
    """Return the atomic numbers (N,): of the file, of `.XV`, or of the species by ion file, input or label.

    `species` are those of the run, `which` (N,) is the index of each atom's. `FormatError`, with both files, where two of
    them state different elements for one species.
    """
    if stored.numbers is not None:
        return stored.numbers
    of_atoms = _of_positions(run, stored)
    if of_atoms is not None and of_atoms.min() < 1:
        raise _no_nuclei(run, int(of_atoms.min()))
    used = np.unique(which).tolist()
    numbers = np.zeros(len(species), dtype=np.int64)
    for k in used:
        numbers[k] = _agreed(run, species[k], [] if of_atoms is None else np.unique(of_atoms[which == k]).tolist())
    if numbers[used].min() < 1:
        raise _no_nuclei(run, int(numbers[used].min()))
    return numbers[which]


def check_orbitals(run: Run, kind: Species) -> None:
    """`FormatError` if the ion file of a species, which says how far its orbitals reach, has other shells."""
    ion = find_ion(run.matrix.parent, kind.label)
    if ion is not None and [shell.l for shell in ion.shells] != [shell.l for shell in kind.shells]:
        wanted, got = (" ".join(map(str, shells)) for shells in (kind.shells, ion.shells))
        raise FormatError(
            f"{ion_file(run.matrix.parent, kind.label)}: expected the shells of {run.matrix.name} ({wanted}), got {got}: {REMEDY}"
        )


def check_count(run: Run, ending: str, count: int, expected: int) -> None:
    """`FormatError` if a file of the run has another number of atoms than its matrices."""
    if count != expected:
        raise FormatError(f"{run.beside(ending)}: expected the {expected} atoms of {run.matrix.name}, got {count}")


def _of_positions(run: Run, stored: Stored) -> np.ndarray | None:
    """Return the atomic numbers (N,) of `.XV`; None without the file, which only old kinds of matrix files need."""
    if stored.species is not None and not run.beside(".XV").is_file():
        return None
    numbers = read_atomic_numbers(needed(run, ".XV"))
    check_count(run, ".XV", len(numbers), len(stored.counts))
    return numbers


def _agreed(run: Run, kind: Species, of_atoms: Sequence[int]) -> int:
    """Return the atomic number of a species; `of_atoms` are the different ones of its atoms in `.XV`."""
    stated: list[tuple[Path, int]] = [(run.beside(".XV"), number) for number in of_atoms]
    ion, path = find_ion(run.matrix.parent, kind.label), ion_file(run.matrix.parent, kind.label)
    if ion is not None and path is not None:
        stated.append((path, ion.number))
    of_input, source = species_of_input(run), input_file(run)
    if source is not None and kind.label in of_input:
        stated.append((source, of_input[kind.label]))
    by_label = element_of(kind.label)
    if len(stated) < 2 and by_label is not None:  # a label is only a name where two files say the element
        stated.append((run.matrix, by_label))
    if not stated:
        raise FormatError(
            f"{run.matrix}: expected {run.label}.XV beside it, since the label {kind.label!r} names no element"
        )
    (first, number), *others = stated
    for other, different in others:
        if different != number and min(number, different) > 0:
            raise FormatError(
                f"{first}: expected species {kind.label} to be {_symbol(different)}, as in {other.name}, got "
                f"{_symbol(number)}: {REMEDY}"
            )
    return min(number for _, number in stated) if any(n < 1 for _, n in stated) else number


def _symbol(number: int) -> str:
    try:
        return symbol_of(number)
    except (IndexError, KeyError, ValueError):
        return f"number {number}"


def _no_nuclei(run: Run, number: int) -> FormatError:
    return FormatError(f"{run.matrix}: expected atoms with nuclei, got a ghost or an alloy (number {number})")
