"""Labels of species, and one set of shells for each element."""

import pytest

from harmose.core.basis import Shell
from harmose.errors import BasisError
from harmose.io.species import element_of, shells_of_elements


@pytest.mark.parametrize(
    ("label", "number"),
    [("Fe", 26), ("Fe1", 26), ("fe_up", 26), ("C1", 6), ("Cl", 17), ("Hx", 1), ("Siab", 14), ("42", None), ("", None)],
)
def test_element_of_label(label, number):
    assert element_of(label) == number


def test_shells_of_elements():
    s, p = (Shell(2, 0),), (Shell(2, 0), Shell(2, 1))
    assert shells_of_elements([(6, "C1", s), (8, "O", p), (6, "C2", s)], "run") == {6: s, 8: p}
    with pytest.raises(
        BasisError, match="run: expected the same orbitals on all atoms of an element, got others for C2"
    ):
        shells_of_elements([(6, "C1", s), (6, "C2", p)], "run")
