"""The text of an input."""

import pytest

from harmose.errors import FormatError
from harmose.io.openmx.input import parse_input

TEXT = """
# <Atoms.SpeciesAndCoordinates
System.Name   one   # of several
SCF.kgrid     4 4 2
scf.criterion 1.0d-7
scf.hubbard.u ON
<definition.of.atomic.species
 C  C6.0-s2p2d1  C_PBE19 # carbon
Definition.of.Atomic.Species>
<Atoms.SpeciesAndCoordinates     # angstrom
 1 C 0.0 0.0 0.0  2.5 1.5  90.0 0.0
 2 C 1.0 0.0 0.0  2.0 2.0
Atoms.SpeciesAndCoordinates>
scf.maxIter
"""


def test_keywords_and_blocks():
    text = parse_input(TEXT.splitlines(), "a.dat")
    assert text.is_complete
    assert text.word("system.name", "none") == "one"
    assert text.whole_numbers("scf.Kgrid", (1, 1, 1)) == [4, 4, 2]
    assert text.number("scf.criterion", 1e-6) == 1e-7
    assert (text.is_on("scf.Hubbard.U"), text.is_on("scf.SpinOrbit.Coupling")) == (True, False)
    assert (text.number("scf.maxIter", 40), text.word("nothing", "default")) == (40, "default")
    assert [row[1] for row in text.atoms()] == ["C", "C"]
    assert text.species()["C"].pao.text == "C6.0-s2p2d1"
    assert text.initial_electrons() == [(2.5, 1.5), (2.0, 2.0)]
    assert text.initial_directions() == [(90.0, 0.0), (0.0, 0.0)]


def test_texts_that_lack_something():
    empty = parse_input([], "a.dat")
    assert not empty.is_complete
    with pytest.raises(FormatError, match=r"a.dat: expected rows of label, basis set and pseudopotential"):
        empty.species()
    with pytest.raises(FormatError, match=r"a.dat: expected rows of atoms"):
        empty.atoms()
    short = parse_input(["<Atoms.SpeciesAndCoordinates", "1 C 0 0 0", "Atoms.SpeciesAndCoordinates>"], "a.dat")
    assert short.initial_electrons() == []
