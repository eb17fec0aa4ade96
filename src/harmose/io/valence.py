"""Valence electrons of each element, as a run says them for its atoms or pseudopotentials.

A model that was trained on the run counts the electrons of other structures by them (`inference.energy_zero.n_electrons`).
"""

from collections.abc import Iterable

import numpy as np
from ase import Atoms

from harmose.core.electrons import total_charge

TOLERANCE = 1e-4
"""Largest difference of two numbers of electrons that are the same."""


def valence_of_elements(
    structure: Atoms, electrons: Iterable[float | None], n_electrons: float | None = None
) -> dict[str, dict[str, float]]:
    """Return `{"valence": {symbol: electrons}}` for the provenance of a sample, {} where the run does not say it.

    Args:
        structure: structure of the run.
        electrons: valence electrons of each atom (N,), None for one that is not known.
        n_electrons: electrons of the cell, if the run says them: the sum of its atoms less the charge must be the same.
    """
    known = list(electrons)
    if len(known) != len(structure) or any(count is None for count in known):
        return {}
    counts = np.array(known, dtype=np.float64)
    if not (np.isfinite(counts).all() and (counts > 0).all()):
        return {}
    if n_electrons is not None and abs(counts.sum() - total_charge(structure) - n_electrons) > TOLERANCE:
        return {}
    symbols = np.array(structure.get_chemical_symbols())
    valence = {}
    for symbol in dict.fromkeys(symbols.tolist()):
        own = counts[symbols == symbol]
        if np.ptp(own) > TOLERANCE:
            return {}
        valence[symbol] = round(float(own[0]), 6)
    return {"valence": valence}


def all_electrons(structure: Atoms) -> dict[str, dict[str, float]]:
    """Return `valence_of_elements` of a code without pseudopotentials: every electron of an atom counts."""
    return valence_of_elements(structure, structure.numbers.tolist())
