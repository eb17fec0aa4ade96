"""Folders and files of OpenMX: what is recognised, what a run lacks, and conversion of many runs."""

import shutil

import pytest
from tests.io.openmx.openmx_runs import crystal, input_text, random_operator, random_overlap, write_scfout

import harmose
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.io.openmx.files import is_openmx, missing_scfout
from harmose.io.openmx.openmx import read_openmx
from harmose.spin import Spin

CRYSTAL = crystal()


def write_run(folder, name="run", seed=3):
    folder.mkdir(exist_ok=True, parents=True)
    text = input_text(CRYSTAL, Spin.NONE).replace("System.Name  run", f"System.Name  {name}")
    (folder / f"{name}.dat").write_text(text)
    h, s = random_operator(CRYSTAL, Spin.NONE, seed), random_overlap(CRYSTAL)
    return write_scfout(folder / f"{name}.scfout", CRYSTAL, h, s, text=text)


def test_paths_of_a_run(tmp_path):
    """The folder, its .scfout, and its input, whatever that is called; words of several alphabets."""
    folder = tmp_path / "Läufe 水"
    path = write_run(folder)
    (folder / "run.dat").rename(folder / "input.dat")
    (folder / "lat.dat").write_text("1 0 0\n")
    for place in (folder, path, folder / "input.dat"):
        assert is_openmx(place)
        assert harmose.read(place).hamiltonian.n_orbitals == 26
    assert not is_openmx(folder / "lat.dat")
    assert not is_openmx(tmp_path)
    with pytest.raises(
        FormatError, match=r"lat.dat: expected a .scfout file of OpenMX, the .dat or .out file of its run"
    ):
        read_openmx(folder / "lat.dat")
    with pytest.raises(FormatError, match=r"expected a .scfout file of OpenMX \(HS.fileout on\), got none"):
        read_openmx(tmp_path)


def test_a_run_without_its_matrices(tmp_path):
    folder = tmp_path / "run"
    write_run(folder).unlink()
    message = r"run: expected run.scfout, which run.dat asks for, got a run that has not written it; let OpenMX finish"
    with pytest.raises(FormatError, match=message):
        harmose.read(folder)
    text = (folder / "run.dat").read_text()
    (folder / "run.dat").write_text(text.replace("HS.fileout   on", "HS.fileout   off"))
    message = r"expected run.scfout, got a run of OpenMX without it; set HS.fileout on in the input and run it again"
    for place in (folder, folder / "run.dat"):
        with pytest.raises(FormatError, match=message):
            harmose.read(place)
    with pytest.raises(FormatError, match=message):
        harmose.read(folder, format="openmx")
    assert missing_scfout(tmp_path) is None


def test_several_files_in_one_folder(tmp_path):
    for k, name in enumerate(("a", "b")):
        write_run(tmp_path, name, seed=k)
    assert [sample.name.rpartition("/")[2] for sample in harmose.read_all(tmp_path)] == ["a", "b"]
    with pytest.raises(FormatError, match=r"expected one .scfout file, got a.scfout, b.scfout; give the path of one"):
        read_openmx(tmp_path)


def test_conversion(tmp_path):
    """A folder of runs, one of them behind a link and one without matrices, becomes a store; the last one is named."""
    from typer.testing import CliRunner

    from harmose.cli import app

    runs = tmp_path / "runs"
    for k in range(2):
        write_run(runs / f"{k}", seed=k)
    write_run(tmp_path / "elsewhere", seed=5)
    (runs / "2").symlink_to(tmp_path / "elsewhere")
    write_run(runs / "3").unlink()
    result = CliRunner().invoke(app, ["convert", str(runs), str(tmp_path / "store")])
    assert result.exit_code == 0, result.output
    assert "left out: 3:" in result.output
    assert "run that has not written it" in result.output
    with Store.open(tmp_path / "store") as store:
        assert store.names() == ["0", "1", "2"]
        assert store["1"].provenance["settings"]["pao"] == {"C": "C3.5-s2p1", "O": "O4.5-s1p1d1f1"}


@pytest.mark.parametrize("name", ["oh-col", "oh-nc"])
def test_round_trip_keeps_spin_and_settings(kept_molecules, tmp_path, name):
    sample = harmose.read(kept_molecules / name)
    harmose.write(tmp_path / "sample.npz", sample)
    harmose.write(tmp_path / "store", sample)
    for place in ("sample.npz", "store"):
        again = harmose.read(tmp_path / place)
        assert (again.spin, again.n_electrons, again.fermi_level) == (sample.spin, 7, sample.fermi_level)
        assert (again.hamiltonian.values == sample.hamiltonian.values).all()
        assert again.provenance["settings"]["pao"] == {"O": "O6.0-s2p2d1", "H": "H6.0-s2p1"}


def test_bands_from_the_command_line(runs, tmp_path):
    from typer.testing import CliRunner

    from harmose.cli import app

    shutil.copytree(runs / "openmx-small-graphene", tmp_path / "graphene")
    result = CliRunner().invoke(app, ["bands", str(tmp_path / "graphene"), "--path", "GMKG"])
    assert result.exit_code == 0, result.output
    assert "-7.955" in result.output  # the Fermi level, -0.292359821 Hartree
