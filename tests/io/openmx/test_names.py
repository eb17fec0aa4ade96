"""Names of basis sets and pseudopotentials."""

import pytest

from harmose.errors import FormatError
from harmose.io.openmx.names import element_of_species, parse_pao


@pytest.mark.parametrize(
    ("text", "file", "cutoff", "primitives", "shells"),
    [
        ("C6.0-s2p2d1", "C6.0", 6.0, (2, 2, 1), "1s 2s 2p 3p 3d"),
        ("Fe6.0H-s3p2d1", "Fe6.0H", 6.0, (3, 2, 1), "1s 2s 3s 2p 3p 3d"),
        ("H5-s1", "H5", 5.0, (1,), "1s"),
        ("C4.5-s52p41", "C4.5", 4.5, (5, 4), "1s 2s 2p"),
        ("H5.0-s4>2p3>1", "H5.0", 5.0, (4, 3), "1s 2s 2p"),
        ("Ce8.0-s2p2d2f1g1", "Ce8.0", 8.0, (2, 2, 2, 1, 1), "1s 2s 2p 3p 3d 4d 4f 5g"),
        ("Bi8.0-s2d1", "Bi8.0", 8.0, (2, 0, 1), "1s 2s 3d"),
        ("own-p1s2", "own", None, (2, 1), "1s 2s 2p"),
    ],
)
def test_basis_sets(text, file, cutoff, primitives, shells):
    name = parse_pao(text)
    assert (name.text, name.file, name.cutoff, name.primitives) == (text, file, cutoff, primitives)
    assert " ".join(map(str, name.shells)) == shells
    assert name.n_orbitals == sum(shell.n_orbitals for shell in name.shells)


@pytest.mark.parametrize(
    "text", ["C6.0", "C6.0-", "-s2", "C6.0-s2p", "C6.0-s2s1", "C6.0-s0", "C6.0-s23", "C6.0-s2x1", ""]
)
def test_other_texts(text):
    with pytest.raises(FormatError, match="expected"):
        parse_pao(text)


@pytest.mark.parametrize(
    ("label", "pao", "vps", "number"),
    [
        ("C", "C6.0-s2p2d1", "C_PBE19", 6),
        ("Fe_up", "Fe6.0H-s3p2d1", "Fe_PBE19H", 26),
        ("Car", "C6.0-s2p2", "C_PBE19", 6),
        ("N", "C6.0-s2p2", "C_PBE19", 6),
        ("proj", "H6.0-s2", "H_CA13", 1),
        ("EC", "C6.0-s2p2", "E", 0),
        ("C1", "C6.0-s2p2", "mine", 6),
        ("C1", "N6.0-s2p2", "mine", None),
        ("X", "N6.0-s2p2", "mine", None),
        ("H", "H6.0-s2", "H1.25_PBE19", None),
    ],
)
def test_elements(label, pao, vps, number):
    assert element_of_species(label, pao, vps) == number
