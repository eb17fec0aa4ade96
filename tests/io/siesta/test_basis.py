"""SIESTA's files of orbitals and atoms: ORB_INDX, XV and ion files."""

import numpy as np
import pytest

from harmose.core.basis import Shell
from harmose.errors import FormatError
from harmose.io.siesta.basis import Species, find_ion, read_atomic_numbers, read_orbital_table
from harmose.units import BOHR

ORBITALS = [("O", 2, 0, 1, 4.0), ("O", 2, 1, 1, 5.0), ("H", 1, 0, 1, 3.0), ("H", 1, 0, 2, 2.0)]
"""Label, n, l, zeta and reach (Bohr) of each shell of an O and a H."""


def write_table(path, labels=("O", "H", "H")):
    rows = []
    for atom, label in enumerate(labels, start=1):
        for symbol, n, l, zeta, reach in ORBITALS:
            for m in range(-l, l + 1) if symbol == label else ():
                k = len(rows) + 1
                rows.append(f"{k} {atom} 1 {label} 1 {n} {l} {m} {zeta} F s {reach} 0 0 0 {k}")
    path.write_text("\n".join([f"{len(rows)} {len(rows)} = orbitals", "", "io ia is", *rows]) + "\n")


def test_orbital_table(tmp_path):
    write_table(tmp_path / "x.ORB_INDX")
    table = read_orbital_table(tmp_path / "x.ORB_INDX")
    assert table.atom.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    species, which = table.species()
    assert species == [
        Species("H", (Shell(1, 0, 1), Shell(1, 0, 2))),
        Species("O", (Shell(2, 0), Shell(2, 1))),
    ]
    assert which.tolist() == [1, 0, 0]
    assert [kind.n_orbitals for kind in species] == [2, 4]
    assert table.reaches == {"H": pytest.approx(3 * BOHR), "O": pytest.approx(5 * BOHR)}


@pytest.mark.parametrize("text", ["", "4 4\n\nio\n1 2 3\n", "-1 5\n", "x y\n"])
def test_damaged_orbital_table(tmp_path, text):
    (tmp_path / "x.ORB_INDX").write_text(text)
    with pytest.raises(FormatError, match=r"x\.ORB_INDX: expected a SIESTA table of orbitals"):
        read_orbital_table(tmp_path / "x.ORB_INDX")


def test_atomic_numbers(tmp_path):
    path = tmp_path / "x.XV"
    cell, atoms = "1 0 0 0 0 0\n" * 3, "1 8 0 0 0 0 0 0\n2 1 0 0 1 0 0 0\n"
    path.write_text(f"{cell}2\n{atoms}")
    np.testing.assert_array_equal(read_atomic_numbers(path), [8, 1])
    for text in (cell, f"{cell}3\n{atoms}", f"{cell}0\n"):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"x\.XV: expected SIESTA's positions and velocities"):
            read_atomic_numbers(path)


def test_species_without_ion_file(tmp_path):
    assert find_ion(tmp_path, "C") is None
