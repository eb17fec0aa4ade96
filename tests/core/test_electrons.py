"""Charge and unpaired electrons that a structure states: in `info`, in initial charges and moments, and contradictions."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from harmose.core.electrons import initial_charge, stated_charge, total_charge, unpaired_electrons
from harmose.errors import StructureError


def water(charges=None, moments=None, **info) -> Atoms:
    atoms = molecule("H2O")
    atoms.info.update(info)
    if charges is not None:
        atoms.set_initial_charges(charges)
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "stated"),
    [
        (water(), None),
        (water(charge=None), None),
        (water(charge=0), 0),
        (water(charge=2), 2),
        (water(charge=np.int64(-1)), -1),
        (water(charge="1"), 1),
        (water(charge=0.5), 0.5),
        (water([0, 0, 0]), None),
        (water([2, 0, 0]), 2),
        (water([-0.667, 0.333, 0.333]), 0),  # rounded charges of atoms
        (water([-0.7, 0.3, 0.3]), -0.1),
        (water([0.5, 0.25, 0.25], charge=1), 1),
    ],
)
def test_charge(atoms, stated):
    assert stated_charge(atoms) == pytest.approx(stated)
    assert total_charge(atoms) == pytest.approx(stated or 0)


def test_a_whole_charge_is_an_int():
    assert isinstance(total_charge(water(charge=1.0)), int)
    assert isinstance(initial_charge(water([0.5, 0.25, 0.25])), int)


@pytest.mark.parametrize(
    ("atoms", "stated"),
    [
        (water(), None),
        (water(spin=0), 0),
        (water(spin=2), 2),
        (water(moments=[0, 0, 0]), None),
        (water(moments=[1, 1, 0]), 2),
        (water(moments=[1, -1, 0]), 0),
        (water(moments=[1.5, 0.5, 0], spin=2), 2),
    ],
)
def test_unpaired_electrons(atoms, stated):
    assert unpaired_electrons(atoms) == stated


@pytest.mark.parametrize(
    ("read", "atoms", "text"),
    [
        (total_charge, water(charge="much"), "here: expected a finite number as charge, got 'much'"),
        (total_charge, water(charge=float("nan")), "here: expected a finite number as charge, got nan"),
        (total_charge, water([np.nan, 0, 0]), "here: expected a finite number as charge, got nan"),
        (total_charge, water([1, 0, 0], charge=0), r'initial charges whose sum is atoms.info\["charge"\], 0, got 1'),
        (unpaired_electrons, water(spin=[1, 2]), r"here: expected a finite number as spin, got \[1, 2\]"),
        (unpaired_electrons, water(moments=[1, 0, 0], spin=2), r'moments whose sum is atoms.info\["spin"\], 2, got 1'),
        (unpaired_electrons, water(moments=np.eye(3)), "an up or down magnetic moment of each atom, got vectors"),
    ],
)
def test_contradictions(read, atoms, text):
    with pytest.raises(StructureError, match=text) as error:
        read(atoms, "here")
    assert "\n" not in str(error.value)
