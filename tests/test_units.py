"""The constants against other packages' tables."""

import pytest
from ase import units as ase_units
from pyscf.data import nist
from scipy import constants

from harmose import units


def test_energy_and_length_agree_with_codata():
    assert pytest.approx(constants.value("Hartree energy in eV"), rel=1e-8) == units.HARTREE
    assert pytest.approx(1e10 * constants.value("Bohr radius"), rel=1e-8) == units.BOHR


def test_they_agree_with_pyscf_and_ase():
    assert pytest.approx(nist.HARTREE2EV, rel=1e-7) == units.HARTREE
    assert pytest.approx(nist.BOHR, rel=1e-7) == units.BOHR
    assert pytest.approx(ase_units.Hartree, rel=1e-7) == units.HARTREE
    assert pytest.approx(ase_units.Bohr, rel=1e-7) == units.BOHR
    assert pytest.approx(ase_units.Rydberg, rel=1e-7) == units.RYDBERG


def test_names_of_error_units():
    assert units.ERROR_UNITS == {"uEh": 1e-6 * units.HARTREE, "meV": 1e-3, "eV": 1.0, "Ha": units.HARTREE}
