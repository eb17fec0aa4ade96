"""`harmose convert`: calculations to a store and back; a store appears complete or not at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from harmose.cli import main
from harmose.cli.convert import Target
from harmose.core.basis import BasisSet
from harmose.data.checks import check
from harmose.data.store import Store
from harmose.io.assembly import zeros
from harmose.io.deeph.deeph import read_deeph, write_deeph
from harmose.io.files import read, read_all, writable_formats, write
from harmose.spin import Spin


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def run(*arguments) -> int:
    return main(["convert", *map(str, arguments)])


def refused(capsys, *arguments) -> str:
    before = sorted(Path().rglob("*"))
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("harmose: error: ")
    assert sorted(Path().rglob("*")) == before
    return captured.err


def test_folder_of_calculations(shared_data, capsys):
    """Three compositions: the basis set has the elements of all."""
    assert run(shared_data / "dft-outputs" / "deeph-molecules", "molecules") == 0
    assert capsys.readouterr().out == "molecules: 13 samples\n"
    with Store.open("molecules") as store:
        assert store.basis.elements == (1, 6, 8)
        assert len(store) == 13
        assert store.names()[:3] == ["1000", "1001", "1002"]
        problems = check(store)  # ethanol's shells have the same l as the others', and are other orbitals
        assert [problem.sample for problem in problems] == ["25000", "25001", "25002", "25003"]
        assert all("other orbitals of H, C, O than in '1000'" in problem.text for problem in problems)
        direct = read_deeph(shared_data / "dft-outputs" / "deeph-molecules" / "4990", store.basis)
        assert np.array_equal(store["4990"].hamiltonian.values, direct.hamiltonian.values)


def test_crystal_and_back(shared_data, capsys):
    source = shared_data / "dft-outputs" / "deeph-legacy-MoTe2"
    assert run(source, "store") == 0
    assert run("store", "deeph", "--to", "deeph") == 0
    assert run("store", "old", "--to", "deeph-legacy") == 0
    assert run("store", "out.npz", "--to", "npz") == 0
    capsys.readouterr()
    expected = read(source)
    for path in ("store", "deeph", "old", "out.npz"):
        again = read(path)
        assert np.array_equal(again.hamiltonian.values, expected.hamiltonian.values)
        assert np.array_equal(again.overlap.values, expected.overlap.values)
        assert again.structure.pbc.all()
        assert again.fermi_level == expected.fermi_level
    assert run("store", "w", "--to", "wannier90", "--loewdin", "3", "3", "1") == 0
    assert not Path("w/wannier90_sr.dat").exists()
    assert run("store", "again", "--basis-of", "store") == 2  # a store has its own
    assert run(source, "again", "--basis-of", "store") == 0


@pytest.mark.parametrize("spin", list(Spin))
def test_any_spin(random_crystal, spin):
    sample = random_crystal(spin)
    write_deeph("x", sample)
    assert run("x", "store") == 0
    with Store.open("store") as store:
        assert store.spin is spin
        again = store["x"]
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert again.hamiltonian.values.dtype == spin.dtype
    assert np.array_equal(again.overlap.values, sample.overlap.values)
    assert again.overlap.spin is Spin.NONE
    assert np.array_equal(again.structure.cell.array, sample.structure.cell.array)
    assert run("store", "y", "--to", "deeph") == 0
    assert np.array_equal(read("y").hamiltonian.values, sample.hamiltonian.values)


def test_many_samples_out(water_store, capsys):
    assert run(water_store, "folders", "--to", "deeph") == 0
    assert [s.name for s in read_all("folders")] == [f"water-{k}" for k in range(8)]
    assert run(water_store, "files", "--to", "npz") == 0
    assert read("files/water-3.npz").name == "water-3"
    assert run(water_store, "one", "--to", "deeph", "--sample", "water-5") == 0
    assert read("one", format="deeph").structure.get_chemical_formula() == "H2O"
    assert run(water_store, "copy") == 0
    with Store.open("copy") as copy, Store.open(water_store) as store:
        assert copy.digest == store.digest
        assert copy.splits == store.splits
        assert copy.metadata == store.metadata


def test_file_names(water_sample, tmp_path):
    with Store.create("store", water_sample(0).basis) as store:
        for k, name in enumerate(("../../evil", "..", "a/b")):
            store.append(water_sample(k, name=name))
    assert run("store", "out/../files", "--to", "npz") == 2  # there is no folder `out`
    assert run("store", "files", "--to", "npz") == 0
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["_.._evil.npz", "a_b.npz", "sample.npz"]


def spoiled(folder):
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps(info | {"spinful": True}))


@pytest.fixture
def three_runs(random_crystal, tmp_path):
    """A folder of runs a, b, c; b is spoiled."""
    (tmp_path / "runs").mkdir()
    for name in "abc":
        write_deeph(tmp_path / "runs" / name, random_crystal())
    spoiled(tmp_path / "runs" / "b")
    return tmp_path / "runs"


def test_bad_samples(three_runs, capsys):
    assert run(three_runs, "store") == 0
    out = capsys.readouterr().out
    assert "left out: b: " in out
    assert "hamiltonian.h5: expected block" in out
    assert out.endswith("store: 2 samples, 1 left out\n")
    with Store.open("store") as store:
        assert store.names() == ["a", "c"]
        assert "hamiltonian.h5: expected block" in store.failures["b"]


def test_folders_that_are_not_read(three_runs, capsys):
    """Without H, or the same as another one."""
    (three_runs / "c" / "hamiltonian.h5").unlink()
    (three_runs / "d").symlink_to(three_runs / "a")
    assert run(three_runs, "store") == 0
    out = capsys.readouterr().out
    assert "left out: c: " in out
    assert "got a folder without H" in out
    assert "left out: d: the same folder as a\n" in out
    assert out.endswith("store: 1 sample, 3 left out\n")
    with Store.open("store") as store:
        assert set(store.failures) == {"b", "c", "d"}


def test_calculations_that_did_not_converge(shared_data, capsys):
    """Real matrices of ABACUS with a log that says so."""
    case = shared_data / "cases" / "04-not-converged" / "abacus-C"
    assert "the calculation did not converge" in refused(capsys, case, "store")


def test_strict(three_runs, capsys):
    assert "b/hamiltonian.h5: expected block" in refused(capsys, three_runs, "store", "--strict")
    assert "b/hamiltonian.h5: expected block" in refused(capsys, three_runs, "out", "--to", "npz", "--strict")


def test_nothing_good(three_runs, capsys):
    for name in "ac":
        spoiled(three_runs / name)
    assert "runs: none of its 3 samples can be converted; a: " in refused(capsys, three_runs, "store")


def test_samples_not_fit_for_training(water_sample, capsys):
    sample = water_sample(1)
    with Store.create("store", sample.basis) as store:
        store.append(sample)
        store.append(water_sample(2, prior=water_sample(2).hamiltonian), check=False)
        store.append(water_sample(3, provenance={"converged": False}), check=False)
    assert run("store", "good") == 0
    out = capsys.readouterr().out
    assert "left out: water-2: sample water-2: H equals H0" in out
    assert "left out: water-3: sample water-3: the calculation did not converge" in out
    assert read("good").name == "water-1"


def test_bad_overlaps(random_crystal, capsys):
    sample = random_crystal()
    values = sample.overlap.values
    wild = sample.overlap.with_values(np.where(values == 1, 1.0, 200 * values))
    write_deeph("x", replace(sample, overlap=wild))
    assert "x: none of its 1 samples can be converted; x: sample x: S at Gamma is not positive definite" in refused(
        capsys, "x", "store"
    )


def test_other_spin(random_crystal, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    write_deeph(tmp_path / "runs" / "a", random_crystal())
    write_deeph(tmp_path / "runs" / "b", random_crystal(Spin.COLLINEAR))
    assert run("runs", "store") == 0
    out = capsys.readouterr().out
    assert "left out: b: " in out
    assert out.endswith("store: 1 sample, 1 left out\n")
    assert "expected spin none, got collinear" in refused(capsys, "runs", "other", "--strict")


def test_bad_input(shared_data, water_store, water_sample, three_runs, capsys, tmp_path):
    assert "nothing: no such file or folder" in refused(capsys, "nothing", "store")
    (tmp_path / "empty").mkdir()
    assert "not recognised, it is an empty folder; known are: " in refused(capsys, "empty", "store")
    assert "empty: expected " in refused(capsys, "empty", "store", "--format", "store")
    assert "expected one of" in refused(capsys, three_runs, "store", "--format", "vasp")
    assert "info.json: no such file" in refused(capsys, "empty", "store", "--format", "deeph")
    assert "Invalid value for '--to': 'vasp' is not one of 'store', 'deeph'" in refused(
        capsys, three_runs, "store", "--to", "vasp"
    )
    assert "--loewdin: expected --to wannier90" in refused(capsys, three_runs, "store", "--loewdin", "3", "3", "3")
    assert "exists already; --force replaces it" in refused(capsys, three_runs, water_store)
    assert "expected a sample store or a file to replace" in refused(capsys, water_store, three_runs, "--force")
    assert "there is no folder" in refused(capsys, three_runs, "no/where/store")
    assert "no sample named 'fire'" in refused(capsys, water_store, "x", "--sample", "fire")
    runs = shared_data / "dft-outputs"
    assert "expected calculations of one format, got " in refused(capsys, runs, "store")


def test_other_shells(random_crystal, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    sample = random_crystal()
    write_deeph("runs/a", sample)
    write_deeph("runs/c", sample)
    other = {z: shells[:-1] for z, shells in sample.basis.shells.items()}
    basis = BasisSet("random", other, sample.basis.radii)
    h, s = (zeros(sample.structure, basis) for _ in "HS")
    _, row, col = s.indices
    h, s = (x.with_values(np.where(s.is_onsite & (row == col), 1.0, 0.0)[None]) for x in (h, s))
    write_deeph("runs/b", replace(sample, basis=basis, hamiltonian=h, overlap=s))
    assert run("runs", "store") == 0
    assert "left out: b: runs/b: expected C with shells s p as in basis random, got s" in capsys.readouterr().out


def test_force(three_runs, water_store, capsys):
    assert run(three_runs, water_store, "--force") == 0
    with Store.open(water_store) as store:
        assert store.names() == ["a", "c"]


def test_full_disk(three_runs, monkeypatch, tmp_path):
    """A run that fails leaves no store."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "append_records", full)
    assert run(three_runs, "store") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_runs_of_several_codes(three_runs, water_sample, shared_data, capsys):
    """`--format` selects the runs of one code."""
    shutil.copytree(shared_data / "dft-outputs" / "aims-Si", three_runs / "aims")
    assert "got 3 of deeph, 1 of aims" in refused(capsys, three_runs, "store")
    assert run(three_runs, "store", "--format", "aims") == 0
    out = capsys.readouterr().out
    assert "left out: c: a calculation of the format deeph, not of aims" in out
    assert out.endswith("store: 1 sample, 3 left out\n")
    with Store.open("store") as store:
        assert store.names() == ["aims"]
    write("one.npz", water_sample(1))
    assert run("one.npz", "water") == 0


def test_formats():
    """The choices of --to are the formats that can be written."""
    assert set(get_args(Target)) == set(writable_formats())


@pytest.mark.parametrize("to", ["store", "npz"])
def test_one_sample_at_a_time(tmp_path, water_store, water_sample, samples_alive, to):
    """Of 40 samples never more than three are in memory (the first, this one, the one before), whatever is written."""
    with Store.open(water_store, writable=True) as store:
        store.append_all(water_sample(k) for k in range(8, 40))
    assert run(water_store, tmp_path / "out", "--to", to) == 0
    assert samples_alive.n == 40
    assert samples_alive.most <= 3
