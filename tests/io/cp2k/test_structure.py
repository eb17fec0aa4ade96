"""Structures of CP2K runs: other spellings of an input, and invalid cells."""

import numpy as np
import pytest
from tests.io.cp2k.cp2k_runs import replace_in

from harmose.errors import FormatError
from harmose.io.cp2k.cp2k import read_cp2k
from harmose.io.cp2k.output import read_output
from harmose.io.cp2k.structure import parse_input, structure_of

OUT, INP = "harmose.out", "harmose.inp"


def test_other_spellings_of_an_input(chain):
    expected = read_cp2k(chain).structure
    replace_in(
        chain / INP,
        ("A 4.1 0 0", "@SET WIDTH 4.1\n a [nm] 0.41 0 0 ! nanometre"),
        ("&COORD", "&COORD\n SCALED"),
        ("H 0.10 0.20 6.10", "H " + " ".join(map(repr, expected.get_scaled_positions(wrap=False)[0].tolist()))),
        ("H 0.75 -0.15 6.30", "H " + " ".join(map(repr, expected.get_scaled_positions(wrap=False)[1].tolist()))),
    )
    other = read_cp2k(chain).structure
    np.testing.assert_allclose(other.positions, expected.positions, atol=1e-12)
    np.testing.assert_allclose(other.cell, expected.cell, atol=1e-12)


def test_left_handed_cell(chain):
    replace_in(chain / INP, ("C 0 0 12.5", "C 0 0 -12.5"))
    replace_in(
        chain / OUT,
        ("CELL| Vector c [angstrom]:       0.000     0.000    12.500", "CELL| Vector c [angstrom]: 0 0 -12.5"),
    )
    assert structure_of(read_output(chain / OUT)).cell.handedness == -1


def test_sections_keywords_and_variables(tmp_path):
    (tmp_path / "x.inp").write_text(
        "@SET N 4\n&A one\n  &b ! comment\n    key ${N} 5\n    KEY $N\n  &END b\n&END A\n&A two\n&END\n"
    )
    root = parse_input(tmp_path / "x.inp")
    assert root.find("A").parameter == "one"
    assert root.find("A", "B").keywords == [("KEY", "4 5"), ("KEY", "4")]
    assert root.find("A", "B").get("KEY") == "4"
    assert root.find("A", "C").get("KEY") is None


def test_bad_inputs(tmp_path):
    (tmp_path / "x.inp").write_text("&A\n&END A\n&END B\n")
    with pytest.raises(FormatError, match="expected balanced sections, got an &END too many"):
        parse_input(tmp_path / "x.inp")
    with pytest.raises(FormatError, match=r"none\.inp: CP2K's input, which has the cell, cannot be read"):
        parse_input(tmp_path / "none.inp")
