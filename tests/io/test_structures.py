"""Structures from files: what ASE reads, checked, with errors that name file and frame."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from harmose.errors import FormatError, StructureError
from harmose.io.structures import read_structures


@pytest.fixture
def frames() -> list[Atoms]:
    found = [molecule(name) for name in ("H2O", "CH4", "HCN")]
    for atoms in found:
        atoms.rattle(0.02, rng=np.random.default_rng(1))
    return found


@pytest.mark.parametrize("name", ["set.xyz", "set.extxyz", "set.traj", "set.db", "set.json"])
def test_all_frames_of_a_file(tmp_path, frames, name):
    write(tmp_path / name, frames)
    found = read_structures(tmp_path / name)
    assert [a.get_chemical_formula() for a in found] == ["H2O", "CH4", "CHN"]
    np.testing.assert_allclose(found[1].positions, frames[1].positions, atol=1e-8)
    assert found[2].info["source"] == f"{name}, frame 2"
    assert found[0].calc is None


def test_folder(tmp_path, frames):
    write(tmp_path / "b.xyz", frames[0])
    write(tmp_path / "a.xyz", frames[1:])
    (tmp_path / ".hidden").write_text("not a structure")
    sources = [a.info["source"] for a in read_structures(tmp_path)]
    assert sources == ["a.xyz, frame 0", "a.xyz, frame 1", "b.xyz, frame 0"]


def test_some_frames(tmp_path, frames):
    write(tmp_path / "set.xyz", frames)
    assert [len(a) for a in read_structures(f"{tmp_path}/set.xyz@1:")] == [5, 3]
    assert [len(a) for a in read_structures(f"{tmp_path}/set.xyz@-1")] == [3]


def test_kept_information(tmp_path):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -1, "name": "hydroxide", "group": 7, "noise": 3})
    write(tmp_path / "one.xyz", [atoms, bulk("Si")], format="extxyz")
    ion, crystal = read_structures(tmp_path / "one.xyz")
    assert ion.info == {"charge": -1, "name": "hydroxide", "group": 7, "source": "one.xyz, frame 0"}
    assert crystal.pbc.all()
    np.testing.assert_allclose(crystal.cell.array, bulk("Si").cell.array, atol=1e-7)


def test_charges_and_moments_of_atoms_are_kept(tmp_path):
    atoms = Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], info={"spin": 2, "charge": 0}, charges=[0.5, -0.5], magmoms=[1, 1])
    write(tmp_path / "one.xyz", atoms, format="extxyz")
    [oxygen] = read_structures(tmp_path / "one.xyz")
    assert oxygen.info == {"charge": 0, "spin": 2, "source": "one.xyz, frame 0"}
    assert oxygen.get_initial_charges().tolist() == [0.5, -0.5]
    assert oxygen.get_initial_magnetic_moments().tolist() == [1, 1]


def test_words_of_other_programs(tmp_path):
    info = {"total_charge": 1, "multiplicity": 2}
    write(tmp_path / "one.xyz", Atoms("OH", [[0, 0, 0], [0, 0, 1]], info=info), format="extxyz")
    [ion] = read_structures(tmp_path / "one.xyz")
    assert ion.info == {"charge": 1, "spin": 1, "source": "one.xyz, frame 0"}


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": 0, "total_charge": 1}, "frame 0: expected total_charge that agrees with charge=0, got 1"),
        ({"multiplicity": 1, "spin_multiplicity": 3}, "expected spin_multiplicity that agrees with spin=0, got 3"),
        ({"total_charge": "one"}, "expected a whole number as total_charge, got 'one'"),
    ],
)
def test_words_that_contradict_each_other(tmp_path, info, message):
    write(tmp_path / "one.xyz", Atoms("OH", [[0, 0, 0], [0, 0, 1]], info=info), format="extxyz")
    with pytest.raises(StructureError, match=re.escape(message)):
        read_structures(tmp_path / "one.xyz")


DISORDERED = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1 O 0 0 0 0.5
N1 N 0 0 0 0.5
C1 C 0.5 0.5 0.5 1.0
"""


def test_disordered_crystals(tmp_path):
    (tmp_path / "mixed.cif").write_text(DISORDERED)
    with pytest.raises(StructureError, match=r"mixed\.cif, frame 0: expected sites .* got occupancy O 0\.5 and N 0\.5"):
        read_structures(tmp_path / "mixed.cif")
    ordered = DISORDERED.replace("O 0 0 0 0.5\nN1 N 0 0 0 0.5", "O 0 0 0 1.0")
    (tmp_path / "ordered.cif").write_text(ordered)
    assert read_structures(tmp_path / "ordered.cif")[0].get_chemical_formula() == "CO"


def test_bad_structures(tmp_path, frames):
    frames[1].positions[2] = frames[1].positions[0] + 0.01
    write(tmp_path / "set.xyz", frames)
    with pytest.raises(StructureError, match=r"set\.xyz, frame 1: expected atoms at least 0\.3 angstrom apart"):
        read_structures(tmp_path / "set.xyz")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.xyz", b"", "expected structures that ASE reads"),
        ("short.xyz", b"3\n\nO 0 0 0\nH 0 0 1\n", "expected structures that ASE reads"),
        ("words.xyz", b"to be or not to be\n", "expected structures that ASE reads"),
        ("unknown.xyz", b"1\n\nQq 0 0 0\n", "expected symbols of chemical elements, got Qq"),
        ("number.xyz", b"1\n\n119 0 0 0\n", "expected symbols of chemical elements, got 119"),
        ("bytes.bin", bytes(range(256)), "expected structures that ASE reads"),
        ("half.traj", b"- of UlmASE-Trajectory", "expected structures that ASE reads"),
    ],
)
def test_other_files(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=text) as caught:
        read_structures(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(FormatError, match="no such file or folder"):
        read_structures(tmp_path / "none.xyz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match="empty folder"):
        read_structures(tmp_path / "folder")


def test_a_folder_with_what_is_no_file(tmp_path):
    """Nothing is left out in silence; links to files are files."""
    write(tmp_path / "water.xyz", molecule("H2O"))
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "größe.xyz").symlink_to(tmp_path / "water.xyz")
    assert [str(atoms.symbols) for atoms in read_structures(folder)] == ["OH2"]
    (folder / "more").mkdir()
    with pytest.raises(FormatError, match=r"all: expected files with structures only, got folders .* \(more\)"):
        read_structures(folder)
    (folder / "more").rmdir()
    (folder / "gone.xyz").symlink_to(tmp_path / "gone.xyz")
    with pytest.raises(FormatError, match=r"links that lead nowhere \(gone.xyz\)"):
        read_structures(folder)


def test_a_site_that_is_half_occupied(shared_data):
    with pytest.raises(StructureError, match=r"occ.cif, frame 0: expected sites that one element occupies fully.* 0.5"):
        read_structures(shared_data / "cases" / "15-partial-occupancy" / "occ.cif")
