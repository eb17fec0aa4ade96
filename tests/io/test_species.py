"""Labels of species, and the sets of orbitals of each element."""

import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError
from harmose.io.species import element_of, element_of_file, number_species


@pytest.mark.parametrize(
    ("label", "number"),
    [("Fe", 26), ("Fe1", 26), ("fe_up", 26), ("C1", 6), ("Cl", 17), ("42", None), ("", None), ("X", None)]
    # carbon or calcium, hydroxyl or holmium; no element; no nucleus
    + [(label, None) for label in ("CA", "HO", "Car", "Hx", "Siab", "bulkC", "Si_ghost", "C_empty", "H-vacancy")],
)
def test_element_of_label(label, number):
    assert element_of(label) == number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("C_ONCV_PBE-1.0.upf", 6),
        ("Mo_DZP/Mo_gga_8au_100Ry_4s2p2d1f.orb", 42),
        ("ce-sp.PD04.PBE.UPF", 58),
        ("pseudo.upf", None),
        ("", None),
    ],
)
def test_element_of_file(name, number):
    assert element_of_file(name) == number


S, SP = (Shell(2, 0),), (Shell(2, 0), Shell(2, 1))


def test_species_are_numbered_from_the_largest_set_of_orbitals():
    assert number_species([(6, S), (8, SP), (6, SP), (6, S)], None, "run") == [1006, 8, 6, 1006]
    assert number_species([(6, SP), (6, SP)], None, "run") == [6, 6]
    many = [(6, (Shell(n, 0),)) for n in range(1, 34)]
    with pytest.raises(BasisError, match="run: expected at most 32 sets of orbitals of C, got 33"):
        number_species(many, None, "run")


def test_species_of_a_given_basis():
    basis = BasisSet("x", {6: S, 1006: SP}, {6: 2.0, 1006: 2.0})
    assert number_species([(6, SP), (6, S)], basis, "run") == [1006, 6]
    with pytest.raises(BasisError, match=r"run: expected C with the shells of basis x \(2s or 2s 2p\), got 3d"):
        number_species([(6, (Shell(3, 2),))], basis, "run")
    with pytest.raises(BasisError, match=r"run: expected H with the shells of basis x \(none\), got 2s"):
        number_species([(1, S)], basis, "run")
