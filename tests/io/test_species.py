"""Labels of species, and one set of shells for each element."""

import pytest

from harmose.core.basis import Shell
from harmose.errors import BasisError
from harmose.io.species import element_of, element_of_file, shells_of_elements


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


def test_shells_of_elements():
    s, p = (Shell(2, 0),), (Shell(2, 0), Shell(2, 1))
    assert shells_of_elements([(6, "C1", s), (8, "O", p), (6, "C2", s)], "run") == {6: s, 8: p}
    with pytest.raises(
        BasisError, match="run: expected the same orbitals on all atoms of an element, got others for C2"
    ):
        shells_of_elements([(6, "C1", s), (6, "C2", p)], "run")
