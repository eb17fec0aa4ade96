"""FHI-aims' geometry.in and control.in: settings, species, ghosts, and what is refused."""

import numpy as np
import pytest

from harmose.errors import FormatError
from harmose.io.aims_input import read_control, read_geometry

CONTROL = """
# species Ge
xc pbe0
charge -1.5   # two
 species Si_top
   nucleus 14
   cut_pot 3.5 1.5 1.0
 species Si
   nucleus 14.0d0
   cut_pot 4.0 2.0 1.0
 species O   # no confinement
   nucleus 8
relativistic atomic_zora scalar
"""


@pytest.fixture
def control(tmp_path):
    (tmp_path / "control.in").write_text(CONTROL)
    return read_control(tmp_path / "control.in")


def test_control(control):
    assert (control.charge, control.has_spin_orbit) == (-1.5, False)
    assert control.settings["xc"] == "pbe0"
    assert control.settings["relativistic"] == "atomic_zora scalar"
    assert [control.element(label, "here") for label in ("Si_top", "Si", "O", "C")] == [14, 14, 8, 6]
    assert control.radii() == {14: 6.0}  # the longest of both species


def test_no_control(tmp_path):
    control = read_control(tmp_path / "control.in")
    assert (control.exists, control.charge, control.radii()) == (False, None, {})


@pytest.mark.parametrize(
    ("text", "has"),
    [("", False), ("include_spin_orbit", True), ("include_spin_orbit non_self_consistent", True),
     ("include_spin_orbit .false.", False), ("calculate_perturbative_soc", True), ("# include_spin_orbit", False)],
)  # fmt: skip
def test_spin_orbit(tmp_path, text, has):
    (tmp_path / "control.in").write_text(f"xc pbe\n{text}\n")
    assert read_control(tmp_path / "control.in").has_spin_orbit is has


def test_geometry(tmp_path, control):
    path = tmp_path / "geometry.in"
    vectors = "lattice_vector 0 2 2\nlattice_vector 2 0 2\nlattice_vector 2 2 0\n"
    path.write_text(f"{vectors}atom_frac 0.5 0 0 Si_top\n  constrain_relaxation .true.\natom 1 1 1.5 Si\n")
    atoms = read_geometry(path, control)
    assert atoms.numbers.tolist() == [14, 14]
    assert atoms.pbc.all()
    np.testing.assert_allclose(atoms.positions, [[0, 1, 1], [1, 1, 1.5]])
    path.write_text("atom 0 0 0 O\natom 0 0 1.2 O\n")
    assert not read_geometry(path, control).pbc.any()


BAD = {
    "empty sites": ("atom 0 0 0 O\nempty 0 0 2 O\n", "expected atoms with nuclei, got `empty` sites"),
    "two vectors": (
        "lattice_vector 3 0 0\nlattice_vector 0 3 0\natom 0 0 0 O\n",
        "three lattice vectors or none, got 1",
    ),
    "no atoms": ("hello\n", "with atoms and .*, got 0 atoms"),
    "fractions without a cell": ("atom_frac 0 0 0 O\n", "atom_frac: expected lattice vectors"),
    "words": ("atom 0 0 x O\n", "atom: expected three numbers, got '0 0 x'"),
    "no species": ("atom 0 0 0\n", "atom: expected three coordinates and a species"),
    "unknown species": ("atom 0 0 0 top\n", "expected control.in beside it with `species top`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_geometries(tmp_path, control, case):
    text, message = BAD[case]
    (tmp_path / "geometry.in").write_text(text)
    with pytest.raises(FormatError, match=rf"geometry\.in: .*{message}"):
        read_geometry(tmp_path / "geometry.in", control)


@pytest.mark.parametrize("nucleus", ["0", "0.5", "119"])
def test_ghosts_and_mixed_atoms(tmp_path, nucleus):
    (tmp_path / "control.in").write_text(f"species H\n nucleus {nucleus}\n")
    with pytest.raises(FormatError, match=r"control.in: species H: expected the nucleus of an element, got"):
        read_control(tmp_path / "control.in").element("H", "geometry.in")


def test_a_charge_that_is_no_number(tmp_path):
    (tmp_path / "control.in").write_text("charge none\n")
    with pytest.raises(FormatError, match=r"control.in: charge: expected a number, got 'none'"):
        _ = read_control(tmp_path / "control.in").charge
