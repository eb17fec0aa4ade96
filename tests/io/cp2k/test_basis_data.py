"""CP2K's data files: shells as CP2K counts them, potentials of the right number of electrons, and what is not there."""

from pathlib import Path

import pytest

from harmose.errors import BasisError, FormatError
from harmose.io.cp2k.basis_data import basis_set, counted_shells, find_kinds

MOLOPT = """\
# a comment
 C  DZVP-MOLOPT-SR-GTH DZVP-MOLOPT-SR-GTH-q4
 1
 2 0 2 5 2 2 1
      5.605330751705  0.111532881900  0.466507483200 -0.064868978500 -0.055475693400  0.029952774600
      2.113016390533  0.153142194100  0.144113212800 -0.200470255700 -0.216165175200  0.070784458800
      0.769911454810 -0.321396879400  0.029364880900 -0.413141730100 -0.436624272300  0.674601058600
      0.348157086385 -0.610926421600  0.929470388400 -0.415337139200  0.784000698400  0.173652061800
      0.128212254710 -0.133990862800  1.066914331200 -0.288527673600  0.987908135000  1.036317024700
#
 Cl SPLIT-GTH SPLIT-GTH-q7
 2
 3 0 1 1 2 2
      0.5 1.0 0.3 1.0 0.3
 3 2 2 1 1
      0.6 1.0
 Si BROKEN-GTH
 1
 three 0 1 1 1 1
"""

POTENTIALS = """\
C GTH-PBE-q4 GTH-PBE
    2    2
     0.33847124    2    -8.80367398     1.33921085
#
Cl GTH-PBE-q17
    4   10    3
     0.4    0
Cl GTH-PBE-q7 GTH-PBE
    2    5
     0.41000000    1    -6.39208181
Si GTH-BLYP-q4
    2    2
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "BASIS_MOLOPT").write_text(MOLOPT)
    (tmp_path / "GTH_POTENTIALS").write_text(POTENTIALS)
    return tmp_path


def test_shells_and_potentials(folder):
    kinds = find_kinds([6], "dzvp-molopt-sr-gth", "gth-pbe", folder)
    carbon = kinds[6]
    assert " ".join(map(str, carbon.shells)) == "2s 3s 2p 3p 3d"
    assert (carbon.basis, carbon.basis_file) == ("DZVP-MOLOPT-SR-GTH-q4", "BASIS_MOLOPT")
    assert (carbon.potential, carbon.potential_file, carbon.n_electrons) == ("GTH-PBE-q4", "GTH_POTENTIALS", 4)
    basis = basis_set("DZVP-MOLOPT-SR-GTH", kinds, 9.0)
    assert (basis.elements, basis.radii[6]) == ((6,), 4.5)


def test_several_sets_and_number_of_electrons(folder):
    chlorine = find_kinds([17], "SPLIT-GTH", "GTH-PBE", folder)[17]
    assert " ".join(map(str, chlorine.shells)) == "3s 4s 3p 4p 3d"
    assert (chlorine.potential, chlorine.n_electrons) == ("GTH-PBE-q7", 7)
    assert find_kinds([17], "SPLIT-GTH", "GTH-PBE-q17", folder)[17].n_electrons == 17


def test_numbering_of_shells():
    printed = [(2, 0), (3, 0), (3, 1), (4, 1), (4, 2)]
    assert [(s.n, s.l) for s in counted_shells(printed)] == [(2, 0), (3, 0), (2, 1), (3, 1), (3, 2)]


@pytest.mark.parametrize(
    ("elements", "basis", "potential", "message"),
    [
        ([92], "DZVP-MOLOPT-SR-GTH", "GTH-PBE", "CP2K has no DZVP-MOLOPT-SR-GTH for U in BASIS_MOLOPT of"),
        ([6], "TZVP-GTH", "GTH-PBE", "basis TZVP-GTH: CP2K has no TZVP-GTH for C"),
        ([6, 17], "DZVP-MOLOPT-SR-GTH", "GTH-PBE", "no DZVP-MOLOPT-SR-GTH for Cl"),
        ([6], "DZVP-MOLOPT-SR-GTH", "GTH-BLYP", "potential GTH-BLYP: CP2K has none for C"),
    ],
)
def test_unknown_names(folder, elements, basis, potential, message):
    with pytest.raises(BasisError, match=message):
        find_kinds(elements, basis, potential, folder)


def test_damaged_and_missing_files(folder, tmp_path):
    with pytest.raises(FormatError, match="BASIS_MOLOPT: cannot read the basis set BROKEN-GTH of Si"):
        find_kinds([14], "BROKEN-GTH", "GTH-BLYP", folder)
    with pytest.raises(FormatError, match="expected CP2K's data files"):
        find_kinds([6], "DZVP-MOLOPT-SR-GTH", "GTH-PBE", tmp_path / "nowhere")
