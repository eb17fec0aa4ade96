"""Charge and unpaired electrons: those of a model's training set, and the check that a structure has them.

A model predicts the H of labels with certain total charges and spin states. H of an ion or of a triplet is another one, so a
structure that states such a charge or spin (`harmose.core.electrons`) is refused unless the training set had it.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms

from harmose.core.electrons import (
    initial_moments,
    moment_signs,
    stated_charge,
    stated_moments,
    total_charge,
    unpaired_electrons,
)
from harmose.errors import ModelError, StructureError
from harmose.inference.card import Card
from harmose.spin import Spin


def training_electrons(
    structures: Iterable[Atoms], spin: Spin
) -> tuple[tuple[int | float, ...], tuple[int | float, ...] | None]:
    """Return the `charges` and `unpaired` electrons of a training set, as its model's card states them.

    Collinear labels have the numbers of unpaired electrons that their structures state; initial moments state them for
    molecules only, if their electrons can have the sum. Labels of spin none and spinor labels, which are symmetric under
    time reversal, have as few as possible: molecules 0 or 1, crystals 0.

    Args:
        structures: structures of all training samples.
        spin: spin kind of their labels.

    Returns:
        Total charges and numbers of unpaired electrons, each sorted and without repetition; None in place of the
        second if a collinear label does not state it.

    Raises:
        StructureError: a structure states a charge or spin that is no number.
    """
    charges: set[int | float] = set()
    unpaired: set[int | float | None] = set()
    for atoms in structures:
        charges.add(total_charge(atoms))
        if spin is Spin.COLLINEAR:
            stated = _unpaired_of(atoms)
            unpaired.add(None if stated is None else abs(stated))
        else:
            unpaired.add(0 if atoms.pbc.any() else _n_electrons(atoms) % 2)
    known = [n for n in unpaired if n is not None]
    return tuple(sorted(charges)), tuple(sorted(known)) if len(known) == len(unpaired) else None


def check_electrons(card: Card, atoms: Atoms, where: str = "structure") -> None:
    """Check that the training set of a model had the charge and the unpaired electrons of a structure.

    A structure that states no charge is neutral. One that states no spin may have any spin of the training set that its
    number of electrons allows; a collinear model must have learned only one of these. In molecules a number of electrons
    that is odd needs an odd number of unpaired electrons, so a model of closed shells refuses it. The same holds for
    spinor models: with an odd number of electrons one Kramers pair is half filled, and labels of even numbers say nothing
    about that. In crystals with partly filled bands the number of electrons may be odd for every model. Initial magnetic
    moments break time reversal, so only a collinear model accepts them. One that reads them (`inputs.moments`) needs them,
    and knows each element with the signs only that it has learned.

    Args:
        card: card of the model.
        atoms: structure.
        where: first words of an error.

    Raises:
        ModelError: the training set had no such charge, moments or numbers of unpaired electrons, or it had several.
        StructureError: charge, spin, initial charges, initial moments and number of electrons contradict each other.
    """
    _check_charge(card.charges, atoms, where)
    if card.inputs.moments:
        _check_moments(card, atoms, where)
        return
    if card.spin is not Spin.COLLINEAR and (moments := initial_moments(atoms)) is not None:
        largest = np.abs(moments).max()
        raise ModelError(
            f"{where}: expected no initial magnetic moments for a model of spin {card.spin}, got moments up to {largest:g}; "
            f"remove them, or use a model of spin collinear"
        )
    n = None if card.periodic or atoms.pbc.any() else _n_electrons(atoms)
    if n is not None and n < 1:
        raise StructureError(f"{where}: expected at least one electron, got {n} ({_formula(atoms)})")
    stated = _unpaired_of(atoms, where)
    if stated is None:
        _check_unstated(card, atoms, n, where)
        return
    if n is not None and ((n - stated) % 2 or not 0 <= stated <= n):
        raise StructureError(
            f"{where}: expected a number of unpaired electrons that {n} electrons can have, got {stated:g} (spin, which "
            f"is not the multiplicity); correct it"
        )
    if card.unpaired is not None and stated not in card.unpaired:
        raise ModelError(
            f"{where}: expected {_listed(card.unpaired)} unpaired electrons, as in the training set, got {stated:g} "
            f"(spin); a model for them needs labels with this spin"
        )


def _unpaired_of(atoms: Atoms, where: str = "structure") -> int | float | None:
    """Return what a structure states; None for a sum of initial moments that is a start of the SCF only.

    These are sums of crystals, whose moments are of any size, and sums that the electrons of a molecule cannot have.
    """
    if atoms.info.get("spin") is not None:
        return unpaired_electrons(atoms, where)
    summed = None if atoms.pbc.any() else unpaired_electrons(atoms, where)
    return summed if summed is not None and (_n_electrons(atoms) - summed) % 2 == 0 else None


def _check_moments(card: Card, atoms: Atoms, where: str) -> None:
    """Check the moments of a structure for a model that reads them."""
    moments = stated_moments(atoms)
    if moments is None:
        raise ModelError(
            f"{where}: expected the initial magnetic moment of each atom, which the model reads, got none; state them by "
            f"atoms.set_initial_magnetic_moments([...]) or as a column initial_magmoms of an extended xyz file"
        )
    if moments.ndim > 1:
        raise ModelError(
            f"{where}: expected an up or down magnetic moment of each atom for a collinear model, got vectors; remove them"
        )
    signs = moment_signs(atoms)
    try:
        card.space.species(atoms.numbers, signs)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    stated = _unpaired_of(atoms, where)
    if stated is not None and card.unpaired is not None and not atoms.pbc.any() and abs(stated) not in card.unpaired:
        raise ModelError(
            f"{where}: expected {_listed(card.unpaired)} unpaired electrons, as in the training set, got {abs(stated):g} (spin, or "
            f"the sum of the moments); a model for them needs labels with this spin"
        )


def _check_charge(charges: Sequence[float], atoms: Atoms, where: str) -> None:
    charge = total_charge(atoms, where)
    if not any(abs(charge - learned) < 1e-6 for learned in charges):
        source = "charge" if atoms.info.get("charge") is not None else "sum of the initial charges"
        source = "none is stated" if stated_charge(atoms) is None else source
        raise ModelError(
            f"{where}: expected a total charge of {_listed(charges)}, as in the training set, got {charge:g} ({source}); "
            f"a model for it needs labels with this charge"
        )


def _check_unstated(card: Card, atoms: Atoms, n: int | None, where: str) -> None:
    """Check a structure of n electrons (None for crystals) that does not state its number of unpaired electrons."""
    if card.unpaired is None:
        return
    possible = [learned for learned in card.unpaired if n is None or (n - learned) % 2 == 0]
    if n is not None and not possible:
        wanted = "an odd" if n % 2 == 0 else "an even"
        shells = " (closed shells)" if card.unpaired == (0,) else ""
        raise ModelError(
            f"{where}: expected {wanted} number of electrons, got {n} ({_formula(atoms)}): the training set had "
            f"{_listed(card.unpaired)} unpaired electrons{shells}; use a model for such molecules"
        )
    if card.spin is Spin.COLLINEAR and len(possible) > 1:
        raise ModelError(
            f"{where}: expected the number of unpaired electrons, since the training set had {_listed(possible)}, got none; "
            f'state it as atoms.info["spin"], or as spin=... in an extended xyz file'
        )


def _n_electrons(atoms: Atoms) -> int:
    """Return the number of electrons, counted without core potentials, whose cores are closed shells."""
    return int(atoms.numbers.sum()) - round(total_charge(atoms))


def _formula(atoms: Atoms) -> str:
    return f"{atoms.get_chemical_formula()} with charge {total_charge(atoms):g}"


def _listed(numbers: Sequence[float]) -> str:
    return " or ".join(f"{number:g}" for number in numbers)
