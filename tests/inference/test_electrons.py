"""Charge and unpaired electrons: what a card learns, what every spin kind accepts, and that every method checks it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.errors import ModelError, OutsideDomain, StructureError
from harmose.inference.card import Card
from harmose.inference.electrons import check_electrons, training_electrons
from harmose.nn.stage1.inputs import InputSettings
from harmose.spin import Spin

BASIS = BasisSet("s", {1: (Shell(1, 0),), 8: (Shell(1, 0),)}, {1: 3.0, 8: 3.0})


def card(spin: Spin = Spin.NONE, charges=(0,), unpaired=(0,), periodic: bool = False) -> Card:
    return Card(BASIS, spin, None, 0, charges=charges, unpaired=unpaired, periodic=periodic)


def structure(formula: str, charges=None, moments=None, pbc: bool = False, **info) -> Atoms:
    n = len(Atoms(formula))
    atoms = Atoms(formula, [[0, 0, 1.2 * k] for k in range(n)], cell=[9, 9, 9], pbc=pbc, info=info)
    if charges is not None:
        atoms.set_initial_charges(charges)
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    return atoms


CLOSED, IONS, CRYSTALS = card(), card(charges=(-1, 0, 1)), card(periodic=True)
SINGLETS_AND_TRIPLETS = card(Spin.COLLINEAR, unpaired=(0, 2))
OPEN, UNKNOWN = card(Spin.COLLINEAR, unpaired=(0, 1)), card(Spin.COLLINEAR, unpaired=None)
SPINOR = card(Spin.SPINOR)

MAGNETIC = replace(
    card(Spin.COLLINEAR, unpaired=(0,)), inputs=InputSettings(moments=True), moments={"O": (-1, 1), "H": (0,)}
)

ACCEPTED = [
    (CLOSED, structure("OH2")),
    (CLOSED, structure("OH2", charge=0, spin=0)),
    (CLOSED, structure("OH2", charges=[-0.8, 0.4, 0.4])),  # polar, but neutral
    (IONS, structure("OH", charge=-1)),
    (IONS, structure("OH3", charges=[1, 0, 0, 0])),
    (CRYSTALS, structure("OH", pbc=True)),
    (OPEN, structure("OH", moments=[0.6, 0.2])),
    (card(Spin.COLLINEAR, unpaired=None, periodic=True), structure("O2", moments=[2, -2], pbc=True)),
    (MAGNETIC, structure("O2", moments=[1, -1])),
    (MAGNETIC, structure("O2H2", moments=[-0.3, 0.3, 0, 0.01], pbc=True)),
    (CRYSTALS, structure("OH")),
    (SINGLETS_AND_TRIPLETS, structure("O2", spin=2)),
    (SINGLETS_AND_TRIPLETS, structure("O2", moments=[1, 1])),
    (OPEN, structure("O2")),
    (OPEN, structure("OH")),
    (OPEN, structure("OH", moments=[1, 0])),
    (UNKNOWN, structure("OH")),
    (UNKNOWN, structure("OH", spin=3)),
    (SPINOR, structure("OH2")),
    (card(Spin.SPINOR, unpaired=(0, 1)), structure("OH")),
    (card(Spin.SPINOR, periodic=True), structure("OH", pbc=True)),
    (card(unpaired=(1,)), structure("OH", spin=1)),  # restricted labels of radicals
    (card(Spin.COLLINEAR, unpaired=(2.5,), periodic=True), structure("O", moments=[2.5], pbc=True)),
]


@pytest.mark.parametrize(("card", "atoms"), ACCEPTED)
def test_what_the_training_set_had(card, atoms):
    assert check_electrons(card, atoms) is None


REFUSED = [
    (CLOSED, structure("OH2", charge=2), "expected a total charge of 0, as in the training set, got 2 (charge)"),
    (CLOSED, structure("OH2", charges=[2, 0, 0]), "got 2 (sum of the initial charges)"),
    (CLOSED, structure("OH", charge=-1), "expected a total charge of 0, as in the training set, got -1 (charge)"),
    (CRYSTALS, structure("OH2", pbc=True, charge=1), "expected a total charge of 0"),
    (IONS, structure("OH2", charge=2), "expected a total charge of -1 or 0 or 1, as in the training set, got 2"),
    (card(charges=(1,)), structure("OH2"), "expected a total charge of 1, as in the training set, got 0 (none is stated)"),
    (CLOSED, structure("OH"), "expected an even number of electrons, got 9 (HO with charge 0)"),
    (CLOSED, structure("OH3"), "the training set had 0 unpaired electrons (closed shells)"),
    (SPINOR, structure("OH"), "expected an even number of electrons, got 9"),
    (card(unpaired=(1,)), structure("OH2"), "expected an odd number of electrons, got 10"),
    (CLOSED, structure("OH2", spin=2), "expected 0 unpaired electrons, as in the training set, got 2 (spin)"),
    (CRYSTALS, structure("OH2", pbc=True, spin=2), "expected 0 unpaired electrons, as in the training set, got 2"),
    (CLOSED, structure("O2", moments=[1, 1]), "no initial magnetic moments for a model of spin none, got moments up to 1"),
    (CLOSED, structure("O2", moments=[1, -1]), "no initial magnetic moments for a model of spin none"),
    (SPINOR, structure("O2", moments=np.eye(3)[:2]), "no initial magnetic moments for a model of spin spinor"),
    (SINGLETS_AND_TRIPLETS, structure("O2", spin=4), "expected 0 or 2 unpaired electrons, as in the training set, got 4"),
    (SINGLETS_AND_TRIPLETS, structure("O2"), "the training set had 0 or 2, got none; state it as"),
    (SINGLETS_AND_TRIPLETS, structure("OH"), "expected an even number of electrons, got 9"),
    (MAGNETIC, structure("O2"), "expected the initial magnetic moment of each atom, which the model reads, got none; state"),
    (MAGNETIC, structure("O2", moments=np.eye(3)[:2]), "expected an up or down magnetic moment of each atom for a collinear"),
    (MAGNETIC, structure("O2", moments=[0, 0]), "of the training set for O (moment down or moment up), got no moment"),
    (MAGNETIC, structure("OH2", moments=[1, 1, 0]), "for H (no moment), got moment up"),
    (MAGNETIC, structure("O2", moments=[1, 1]), "expected 0 unpaired electrons, as in the training set, got 2"),
]  # fmt: skip

CONTRADICTIONS = [
    (CLOSED, structure("OH2", spin=1), "that 10 electrons can have, got 1 (spin, which is not the multiplicity)"),
    (OPEN, structure("OH", spin=2), "that 9 electrons can have, got 2 (spin, which is not the multiplicity)"),
    (UNKNOWN, structure("OH2", spin=12), "that 10 electrons can have, got 12"),
    (CLOSED, structure("OH2", charges=[1, 0, 0], charge=0), 'initial charges whose sum is atoms.info["charge"], 0, got 1'),
    (card(charges=(1,)), structure("H", charge=1), "expected at least one electron, got 0 (H with charge 1)"),
    (CLOSED, structure("OH2", charge="plus"), "expected a finite number as charge, got 'plus'"),
]  # fmt: skip


@pytest.mark.parametrize(("card", "atoms", "words"), REFUSED)
def test_what_the_training_set_had_not(card, atoms, words):
    with pytest.raises(ModelError) as error:
        check_electrons(card, atoms, "here")
    assert words in str(error.value)
    assert str(error.value).startswith("here: expected ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("card", "atoms", "words"), CONTRADICTIONS)
def test_contradictions(card, atoms, words):
    with pytest.raises(StructureError) as error:
        check_electrons(card, atoms, "here")
    assert words in str(error.value)
    assert str(error.value).startswith("here: expected ")


@pytest.mark.parametrize(
    ("structures", "spin", "charges", "unpaired"),
    [
        ([structure("OH2"), structure("O2")], Spin.NONE, (0,), (0,)),
        ([structure("OH2"), structure("OH", charge=-1), structure("OH3", charges=[1, 0, 0, 0])], Spin.NONE, (-1, 0, 1), (0,)),
        ([structure("OH"), structure("OH2")], Spin.NONE, (0,), (0, 1)),
        ([structure("OH", pbc=True)], Spin.NONE, (0,), (0,)),
        ([structure("OH", spin=1), structure("O2", spin=2)], Spin.COLLINEAR, (0,), (1, 2)),
        ([structure("OH", spin=1), structure("O2")], Spin.COLLINEAR, (0,), None),
        ([structure("OH"), structure("O2")], Spin.SPINOR, (0,), (0, 1)),
        ([structure("O2", moments=[1, 1]), structure("O2", moments=[1, -1])], Spin.COLLINEAR, (0,), (0, 2)),
        ([structure("OH", moments=[0.6, 0.2])], Spin.COLLINEAR, (0,), None),  # where the SCF began
        ([structure("O", moments=[2.5], pbc=True)], Spin.COLLINEAR, (0,), None),
    ],
)  # fmt: skip
def test_electrons_of_a_training_set(structures, spin, charges, unpaired):
    assert training_electrons(structures, spin) == (charges, unpaired)
    if unpaired is not None:
        learned = card(spin, charges, unpaired, periodic=bool(structures[0].pbc.any()))
        for atoms in structures:
            check_electrons(learned, atoms)


@pytest.fixture(scope="module")
def water():
    return harmose.load("water-pbe-def2svp")


METHODS: dict[str, Callable[[harmose.Model, Atoms], object]] = {
    "predict": lambda model, atoms: model.predict(atoms),
    "predict in parts": lambda model, atoms: model.predict(atoms, partition=2),
    "predict_many": lambda model, atoms: model.predict_many([molecule("H2O"), atoms]),
    "predict_stages": lambda model, atoms: model.predict_stages([atoms]),
    "uncertainty": lambda model, atoms: model.uncertainty(atoms),
    "uncertainty_many": lambda model, atoms: model.uncertainty_many([atoms]),
    "expected_errors": lambda model, atoms: model.expected_errors([atoms]),
    "compare_scf": lambda model, atoms: harmose.pyscf.compare_scf(model, atoms),
}
BAD = {
    "charge": (structure("OH2", charge=2), "expected a total charge of 0"),
    "initial charges": (structure("OH2", charges=[2, 0, 0]), "expected a total charge of 0"),
    "odd": (structure("OH"), "even number of electrons, got 9"),
    "spin": (structure("OH2", spin=2), "expected 0 unpaired electrons"),
    "moments": (structure("O2", moments=[1, 1]), "expected (no initial magnetic moments|0 unpaired electrons)"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BAD)
def test_every_method_refuses(water, method, case):
    atoms, words = BAD[case]
    with pytest.raises(ModelError, match=words):
        METHODS[method](water, atoms)


def test_sites_and_elements_are_checked_by_predictions(water):
    shared = molecule("H2O")
    shared.info["occupancy"] = {"0": {"O": 0.5, "N": 0.5}}
    close, dummy, heavy = molecule("H2O"), molecule("H2O"), molecule("H2O")
    close.positions[1] = close.positions[0] + [0, 0, 0.1]
    dummy.numbers[0], heavy.numbers[0] = 0, 119
    for atoms, words in (
        (shared, "expected sites that one element occupies fully, got occupancy O 0.5 and N 0.5"),
        (close, "expected atoms at least 0.3 angstrom apart, got 0.100 between atoms 0 and 1"),
        (dummy, "expected chemical elements, got atomic number 0 for atom 0"),
        (heavy, "expected chemical elements, got atomic number 119 for atom 0"),
    ):
        with pytest.raises(StructureError, match=f"^structure: {words}"):
            water.predict(atoms)
        with pytest.raises(StructureError, match=f"^structure 1: {words}"):
            water.predict_many([molecule("H2O"), atoms])


def test_ions_of_the_training_set_are_predicted(water):
    ions = replace(water, card=replace(water.card, charges=(-1, 0)))
    with pytest.warns(OutsideDomain):
        assert ions.predict(structure("OH", charge=-1)).n_orbitals == 19


def test_shipped_models(water):
    assert (water.card.charges, water.card.unpaired) == ((0,), (0,))
    graphene = harmose.load("graphene-pbe-dzvp")
    assert len(graphene.graphs([bulk("C", "fcc", a=3.5)])) == 1
    charged = bulk("C", "fcc", a=3.5)
    charged.info["charge"] = 1
    with pytest.raises(ModelError, match="expected a total charge of 0"):
        graphene.graphs([charged])
