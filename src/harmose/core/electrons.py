"""The total charge and the number of unpaired electrons that a structure states.

`atoms.info["charge"]` is the total charge in elementary charges, `atoms.info["spin"]` the number of unpaired electrons, which
is not the multiplicity. Where they are missing, ASE's initial charges and initial magnetic moments of the atoms state them
by their sums. A structure with none of these states nothing.
"""

import numpy as np
from ase import Atoms

from harmose.errors import StructureError

SMALL_MOMENT = 0.05
"""Initial magnetic moments (Bohr magnetons) up to this count as none."""

ROUNDING = 0.01
"""A sum of initial charges or moments within this of a whole number is that number: files round charges of atoms."""


def total_charge(atoms: Atoms, where: str = "structure") -> int | float:
    """Return the total charge, 0 where the structure states none.

    Args:
        atoms: structure.
        where: first words of an error.

    Returns:
        The charge in elementary charges, an int if it is whole.

    Raises:
        StructureError: for a charge that is not a number, and for one that contradicts the initial charges.
    """
    stated = stated_charge(atoms, where)
    return 0 if stated is None else stated


def stated_charge(atoms: Atoms, where: str = "structure") -> int | float | None:
    """Return `total_charge`, but None where the structure states none."""
    return _agreed(atoms, "charge", "initial charges", initial_charge(atoms), where)


def unpaired_electrons(atoms: Atoms, where: str = "structure") -> int | float | None:
    """Return the number of unpaired electrons, up minus down, None where the structure states none.

    Args:
        atoms: structure.
        where: first words of an error.

    Returns:
        The number, an int if it is whole.

    Raises:
        StructureError: for a number that is none, for one that contradicts the initial magnetic moments, and for moments
            that are vectors.
    """
    moments = initial_moments(atoms)
    if moments is not None and moments.ndim > 1:
        raise StructureError(f"{where}: expected an up or down magnetic moment of each atom, got vectors; remove them")
    summed = None if moments is None else _whole(float(moments.sum()), ROUNDING)
    return _agreed(atoms, "spin", "initial magnetic moments", summed, where)


def stated_unpaired(atoms: Atoms, where: str = "structure") -> int | float | None:
    """Return what `atoms.info["spin"]` states, else None: initial moments alone are a start of the SCF, not its result.

    Raises `StructureError` as `unpaired_electrons` does, but not for vectors.
    """
    if atoms.info.get("spin") is None:
        return None
    moments = initial_moments(atoms)
    if moments is not None and moments.ndim > 1:
        return _agreed(atoms, "spin", "initial magnetic moments", None, where)
    return unpaired_electrons(atoms, where)


def initial_charge(atoms: Atoms) -> int | float | None:
    """Return the sum of ASE's initial charges, None if all of them are zero."""
    charges = atoms.arrays.get("initial_charges")
    return None if charges is None or not charges.any() else _whole(float(charges.sum()), ROUNDING)


def initial_moments(atoms: Atoms) -> np.ndarray | None:
    """Return ASE's initial magnetic moments, (N,) or (N, 3), None if all of them are zero."""
    moments = atoms.arrays.get("initial_magmoms")
    return None if moments is None or not moments.any() else moments


def stated_moments(atoms: Atoms) -> np.ndarray | None:
    """Return ASE's initial magnetic moments, (N,) or (N, 3), also zeros; None where the structure does not state them."""
    return atoms.arrays.get("initial_magmoms")


def moment_signs(atoms: Atoms) -> np.ndarray | None:
    """Return the sign of each atom's initial moment, (N,): 1 up, -1 down, 0 none; None where not stated, or for vectors."""
    moments = stated_moments(atoms)
    if moments is None or moments.ndim > 1:
        return None
    return np.where(np.abs(moments) > SMALL_MOMENT, np.sign(moments), 0).astype(np.int64)


def _agreed(atoms: Atoms, key: str, title: str, summed: float | None, where: str) -> int | float | None:
    """Return `info[key]`, or else the sum of the atoms' values; `StructureError` if they contradict each other."""
    value = summed if atoms.info.get(key) is None else atoms.info[key]
    if value is None:
        return None
    try:
        stated = float(value)
    except (TypeError, ValueError):
        stated = np.nan
    if not np.isfinite(stated):
        raise StructureError(f"{where}: expected a finite number as {key}, got {value!r}")
    if summed is not None and not abs(stated - summed) <= ROUNDING:
        raise StructureError(
            f'{where}: expected {title} whose sum is atoms.info["{key}"], {stated:g}, got {summed:g}; correct one of them'
        )
    return _whole(stated, 0.0)


def _whole(value: float, tolerance: float) -> int | float:
    near = round(value) if np.isfinite(value) else value
    return near if abs(value - near) <= tolerance else value
