"""`harmose orbitals`: of stored samples and of predictions, compared with DFT."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from ase.io import write as write_structures

import harmose
from harmose.cli import main
from harmose.data.store import Store
from harmose.errors import OutsideDomain
from harmose.io.files import write
from harmose.io.structures import read_structures


def test_stored_sample(water_store, water_sample, table_rows, capsys):
    assert main(["orbitals", str(water_store), "water-1", "--reference", str(water_store)]) == 0
    rows = table_rows(capsys.readouterr().out)
    e = water_sample(1).orbital_energies
    assert rows["5 (HOMO)"] == ["2", f"{e[4]:.6f}", f"{e[4]:.6f}", "0.000"]
    assert rows["6 (LUMO)"][:2] == ["0", f"{e[5]:.6f}"]
    assert float(rows["gap"][1]) == pytest.approx(e[5] - e[4], abs=1e-6)


def test_reference_without_the_structure(tmp_path, water_store, water_sample, capsys):
    write(tmp_path / "other", water_sample(30))
    assert main(["orbitals", str(tmp_path / "other"), "water-30", "--reference", str(water_store)]) == 2
    assert "none of its 8 samples has the structure of 'water-30'" in capsys.readouterr().err


def test_other_format(tmp_path, water_store, capsys):
    with Store.open(water_store) as store:
        sample = store["water-0"]
    write(tmp_path / "run", replace(sample, n_electrons=None), format="deeph")
    assert main(["orbitals", str(tmp_path / "run"), "run"]) == 2
    assert "the number of electrons is not known; give --electrons" in capsys.readouterr().err
    assert main(["orbitals", str(tmp_path / "run"), "run", "--electrons", "10", "--reference", str(water_store)]) == 0
    assert "5 (HOMO)" in capsys.readouterr().out


@pytest.mark.usefixtures("water_model")
def test_prediction(tmp_path, water_store, water_atoms, table_rows, capsys):
    write_structures(tmp_path / "known.xyz", water_atoms(3))
    assert main(["orbitals", "exact", str(tmp_path / "known.xyz"), "--reference", str(water_store)]) == 0
    electrons, predicted, dft, difference = table_rows(capsys.readouterr().out)["5 (HOMO)"]
    assert electrons == "2"
    assert 1e3 * (float(predicted) - float(dft)) == pytest.approx(float(difference), abs=2e-3)
    assert 0 < abs(float(difference)) < 1  # meV
    assert main(["orbitals", "exact", str(tmp_path / "known.xyz"), "--all"]) == 0
    assert [name for name in table_rows(capsys.readouterr().out) if name[:1].isdigit()][-1].startswith("7")


@pytest.mark.usefixtures("water_model")
def test_a_reference_that_is_turned_in_space(tmp_path, water_store, water_atoms, table_rows, capsys):
    """Its energies are those of the structure; its S is not, so that S of the prediction is computed."""
    differences = []
    for turn in (0.0, 50.0):
        atoms = water_atoms(3)
        atoms.rotate(turn, "x")
        write_structures(tmp_path / "known.xyz", atoms)
        assert main(["orbitals", "exact", str(tmp_path / "known.xyz"), "--reference", str(water_store)]) == 0
        differences.append(float(table_rows(capsys.readouterr().out)["5 (HOMO)"][3]))
    assert differences[1] == pytest.approx(differences[0], abs=0.5)
    assert abs(differences[0]) < 1  # meV


@pytest.mark.usefixtures("ghost_model", "water_model")
def test_ghost_level(tmp_path, water_atoms, capsys):
    write_structures(tmp_path / "new.xyz", water_atoms(3))
    assert main(["orbitals", "exact", str(tmp_path / "new.xyz")]) == 0
    assert "ghost" not in capsys.readouterr().err
    assert main(["orbitals", "ghost", str(tmp_path / "new.xyz")]) == 0
    printed = capsys.readouterr().err
    assert printed.startswith("harmose: warning: 1 ghost level at -")
    assert printed.endswith("expect wrong orbitals\n")
    assert main(["predict", "ghost", str(tmp_path / "new.xyz"), "--out", str(tmp_path / "new.npz")]) == 0
    assert main(["orbitals", str(tmp_path / "new.npz"), "new-0"]) == 0  # stored, but still a prediction
    assert capsys.readouterr().err == printed


@pytest.fixture
def many(tmp_path, water_atoms):
    """Two waters, and one with an O-H of 1.9 angstrom, which is outside the domain of any model of water."""
    far = water_atoms(2)
    far.set_distance(0, 1, 1.9, fix=0)
    write_structures(tmp_path / "many.xyz", [water_atoms(0), water_atoms(1), far])
    return str(tmp_path / "many.xyz")


def test_many_structures(many, capsys):
    """The numbers are those of one structure after the other; bounds are stated inside the domain alone."""
    assert main(["orbitals", "water-pbe-def2svp", many, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    model = harmose.load("water-pbe-def2svp")
    assert [row["name"] for row in rows] == ["many-0", "many-1", "many-2"]
    for row, atoms in zip(rows, read_structures(Path(many)), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideDomain)
            u = model.uncertainty(atoms)
        assert row["formula"] == "H2O"
        for title, energy in (("HOMO", u.homo), ("LUMO", u.lumo), ("gap", u.gap)):
            assert row[f"{title} (eV)"] == pytest.approx(energy.value, abs=1e-6)
            bound = row[f"{title} bound (eV)"]
            assert bound is None if u.outside else bound == pytest.approx(energy.bound, rel=1e-3)
    assert [row["note"][:27] for row in rows] == ["", "", "outside the training domain"]


def test_many_structures_as_csv_and_as_a_table(many, capsys):
    assert main(["orbitals", "water-pbe-def2svp", many, "--csv"]) == 0
    found = capsys.readouterr()
    rows = list(csv.DictReader(found.out.splitlines()))
    assert [row["HOMO bound (eV)"] == "" for row in rows] == [False, False, True]
    assert not found.err  # the rows say what is outside
    assert main(["orbitals", "water-pbe-def2svp", many]) == 0
    assert f"{float(rows[2]['gap (eV)']):.3f}" in capsys.readouterr().out


@pytest.mark.usefixtures("water_model")
def test_many_structures_without_calibration(many, capsys):
    assert main(["orbitals", "exact", many, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["gap (eV)"] == pytest.approx(row["LUMO (eV)"] - row["HOMO (eV)"]) for row in rows)
    assert all(row["gap bound (eV)"] is None and row["note"] == "" for row in rows)


def test_formats_that_do_not_fit(many, tmp_path, water_store, capsys):
    for more, words in (
        (["--json", "--csv"], "expected one of --json and --csv"),
        (
            ["--all"],
            "expected one structure, and neither --json nor --csv, with --reference, --electrons or --all; got 3",
        ),
    ):
        assert main(["orbitals", "water-pbe-def2svp", many, *more]) == 2
        assert words in capsys.readouterr().err
    crystals = read_structures(Path(many))
    for atoms in crystals:
        atoms.set_cell([9, 9, 9])
        atoms.pbc = True
    write_structures(tmp_path / "crystals.extxyz", crystals)
    assert main(["orbitals", "water-pbe-def2svp", str(tmp_path / "crystals.extxyz"), "--csv"]) == 2
    assert "expected molecules, got a periodic structure; `bands` is for crystals" in capsys.readouterr().err
    assert main(["orbitals", str(water_store), "water-0", "--json"]) == 2
    assert "expected a model and structures, got a stored sample" in capsys.readouterr().err
