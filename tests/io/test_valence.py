"""Valence electrons of each element, and initial moments, in what readers return for runs whose files say them."""

import numpy as np
import pytest
from ase import Atoms

import harmose
from harmose.io.valence import all_electrons, valence_of_elements

MOS2 = Atoms("MoS2", [[0, 0, 0], [0, 0, 2], [0, 0, -2]])

RUNS = [
    ("siesta-Si", {"Si": 4}),
    ("siesta-Bi-hex", {"Bi": 15}),
    (
        "siesta-SrTiO3-pol",
        {"Sr": 10, "Ti": 12, "O": 6},
    ),  # in one ratio: they do not follow from the number of electrons
    ("openmx-bisb-soc", {"Bi": 15, "Sb": 15}),
    ("openmx-small-oh-nc", {"O": 6, "H": 1}),
    ("abacus-MoS2", {"Mo": 14, "S": 6}),
]


@pytest.mark.parametrize(("folder", "valence"), RUNS)
def test_what_runs_say(shared_data, folder, valence):
    sample = harmose.read(shared_data / "dft-outputs" / folder)
    assert sample.provenance["valence"] == valence
    assert sum(valence[symbol] for symbol in sample.structure.get_chemical_symbols()) == sample.n_electrons


def test_a_run_of_cp2k(shared_data):
    assert harmose.read(shared_data / "cases" / "08-cp2k-filename" / "run").provenance["valence"] == {"H": 1}


def test_moments_of_openmx(shared_data):
    iron = harmose.read(shared_data / "dft-outputs" / "openmx-fe-col").structure
    np.testing.assert_allclose(iron.get_initial_magnetic_moments(), [2.2], atol=1e-9)
    hydroxyl = harmose.read(shared_data / "dft-outputs" / "openmx-small-oh-col").structure
    np.testing.assert_allclose(hydroxyl.get_initial_magnetic_moments(), [0.6, 0.2], atol=1e-9)


@pytest.mark.parametrize(
    ("electrons", "n_electrons", "charge", "valence"),
    [
        ([14, 6, 6], 26, 0, {"Mo": 14, "S": 6}),
        ([14, 6, 6], 25, 1, {"Mo": 14, "S": 6}),
        ([14, 6, 6], None, 0, {"Mo": 14, "S": 6}),
        ([14, 6, 6], 25, 0, None),  # another number of electrons
        ([14, 6, 5], 25, 0, None),  # two sulfur atoms with different potentials
        ([14, None, 6], 26, 0, None),
        ([14, 6], 26, 0, None),
        ([14, 6, 0], None, 0, None),
    ],
)
def test_only_what_fits(electrons, n_electrons, charge, valence):
    atoms = MOS2.copy()
    atoms.info["charge"] = charge
    assert valence_of_elements(atoms, electrons, n_electrons) == ({} if valence is None else {"valence": valence})


def test_codes_without_pseudopotentials():
    assert all_electrons(MOS2) == {"valence": {"Mo": 42, "S": 16}}
