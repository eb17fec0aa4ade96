"""The reference of a structure: the same geometry, and the same order of magnetic moments where both state one."""

from dataclasses import replace

import pytest
from ase.build import molecule

import harmose
from harmose.data.checks import check
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.evaluate.comparison import Comparison, counted_electrons, find_structure


@pytest.fixture
def orders(tmp_path, water_sample):
    """A store with a geometry without moments, with moments up, and with moments down."""
    sample = water_sample(0)
    with Store.create(tmp_path / "store", sample.basis) as store:
        for name, moment in (("none", None), ("up", 1.0), ("down", -1.0)):
            atoms = sample.structure.copy()
            if moment is not None:
                atoms.set_initial_magnetic_moments([moment, 0, 0])
            store.append(replace(sample, name=name, structure=atoms), check=False)
    return tmp_path / "store"


def test_orders_of_moments_are_other_references(orders, water_sample):
    atoms = water_sample(0).structure.copy()
    assert find_structure(orders, atoms, "down").name == "down"  # a structure without moments takes the one of its name
    atoms.set_initial_magnetic_moments([-1.0, 0, 0])
    assert find_structure(orders, atoms, "down").name == "down"
    atoms.set_initial_magnetic_moments([1.0, 0, 0])
    assert find_structure(orders, atoms, "up").name == "up"


def test_nothing_with_these_moments(tmp_path, water_sample):
    sample = water_sample(0)
    atoms = sample.structure.copy()
    atoms.set_initial_magnetic_moments([1.0, 0, 0])
    with Store.create(tmp_path / "store", sample.basis) as store:
        store.append(replace(sample, structure=atoms), check=False)
    atoms.set_initial_magnetic_moments([-1.0, 0, 0])
    with pytest.raises(FormatError, match="has the structure, with its initial moments, of 'mine'"):
        find_structure(tmp_path / "store", atoms, "mine")
    with pytest.raises(FormatError, match="has the structure of 'mine'"):
        find_structure(tmp_path / "store", molecule("H2O"), "mine")


def test_orders_of_moments_are_no_duplicates(orders):
    with Store.open(orders) as store:
        assert not [p for p in check(store) if "the same structure" in p.text]


def test_electrons_by_the_valence_of_the_atoms(water_sample):
    """Where the file does not say the number, the pseudopotentials do, less the charge that the structure states."""
    valence = {"valence": {"O": 6.0, "H": 1.0}}
    sample = water_sample(0, n_electrons=None, provenance=valence)
    assert Comparison(sample).filling(sample) == {"n_electrons": 8}
    charged = sample.structure.copy()
    charged.info["charge"] = 1
    assert counted_electrons(replace(sample, structure=charged)) == 7
    assert counted_electrons(replace(sample, n_electrons=10.0)) == 10
    assert counted_electrons(replace(sample, provenance={"valence": {"O": 6.0}})) is None
    assert counted_electrons(replace(sample, provenance={})) is None


def test_bands_of_a_run_whose_file_has_no_electrons(shared_data):
    """Six hydrogen atoms in a row, half filled. sisl wrote H with its zero at SIESTA's Fermi level."""
    sample = harmose.read(shared_data / "cases" / "13-gamma-only-large-cell" / "chain")
    filling = Comparison(sample).filling(sample)
    assert filling == {"n_electrons": 6}
    bands = harmose.bands(sample.hamiltonian, sample.overlap, structure=sample.structure, **filling)
    assert bands.fermi_level == pytest.approx(0, abs=1e-3)
