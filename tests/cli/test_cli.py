"""The command line: what each command prints, writes and returns."""

import subprocess
import sys
import time

import pytest

from harmose.cli import main
from harmose.data.store import Store
from harmose.io.files import read, write

COMMANDS = ["demo", "label", "train", "evaluate", "predict", "orbitals", "scf", "bench", "version", "data"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HARMOSE_DEBUG", raising=False)


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [name for name in COMMANDS if f"{name} " not in out] == []
    assert main([]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("command", [*COMMANDS[:-1], *(f"data {name}" for name in ("ls", "check", "split", "merge"))])
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example" in out
    assert f"harmose {command} " in out.replace("\n", " ") + " "


def test_help_comes_at_once_and_without_torch():
    code = (
        "import sys; from harmose.cli import main; main(['--help']);"
        "assert not {'torch', 'numpy', 'ase', 'pyscf', 'distributed'} & set(sys.modules)"
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.5  # 0.2 on an idle machine


def test_version(capsys):
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines()} >= {"harmose", "python", "torch", "pyscf"}


def test_module_runs_like_the_command():
    run = subprocess.run([sys.executable, "-m", "harmose", "data", "ls", "/no/store"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == "harmose: error: /no/store: no such store\n"
    assert run.stdout == ""


def test_data_ls(water_store, capsys):
    with Store.open(water_store, writable=True) as store:
        store.remember_failure("bad", "not converged in [3] cycles")
        digest = store.digest[:16]
    assert main(["data", "ls", str(water_store), "--samples"]) == 0
    out = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert lines["samples"].split() == ["samples", "8"]
    assert lines["elements"].split() == ["elements", "H", "O"]
    assert lines["splits"].split(maxsplit=1)[1].strip() == "train 6, val 2"
    assert "sto-3g" in lines["basis"]
    assert digest in out
    assert "failed: bad: not converged in [3] cycles" in out
    rows = [line.split("│") for line in out.splitlines() if "water-" in line and "│" in line]
    assert [[cell.strip() for cell in row[1:-1]] for row in rows][6] == [
        "water-6", "H2O", "3", "7", "-2006.000000", "val", "group-3",
    ]  # fmt: skip


def test_data_check_finds_and_returns_1(water_store, water_sample, capsys):
    assert main(["data", "check", str(water_store)]) == 0
    assert capsys.readouterr().out.strip() == "8 samples checked, none of them bad"
    with Store.open(water_store, writable=True) as store:
        store.append(water_sample(0, name="copy"))
    assert main(["data", "check", str(water_store)]) == 1
    out = capsys.readouterr().out
    assert "copy: the same structure as 'water-0'" in out
    assert "9 samples checked, 1 of them bad" in out


def test_data_split(water_store, capsys):
    command = ["data", "split", str(water_store), "--train", "0.5", "--val", "0.25", "--test", "0.25", "--by", "group"]
    assert main(command) == 2
    assert "has the splits train, val already; --force replaces them" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert capsys.readouterr().out.strip() == "train 4, val 2, test 2"
    with Store.open(water_store) as store:
        assert {name: len(samples) for name, samples in store.splits.items()} == {"train": 4, "val": 2, "test": 2}


def test_data_merge(tmp_path, water_store, water_basis, water_sample, capsys):
    with Store.create(tmp_path / "b", water_basis, metadata={"functional": "hf", "basis": "sto-3g"}) as store:
        store.append(water_sample(8))
    out = tmp_path / "all"
    command = ["data", "merge", str(out), str(water_store), str(tmp_path / "b")]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == f"{out}: 9 samples"
    assert main(command) == 2
    assert f"{out}: exists already; --force replaces it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    with Store.open(out) as store:
        assert len(store) == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all", "b", "water"]


def test_force_spares_folders_that_are_no_stores(tmp_path, water_store, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    assert main(["data", "merge", str(tmp_path / "thesis"), str(water_store), "--force"]) == 2
    assert "expected a sample store or a file to replace, got another folder" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_orbitals_of_a_stored_sample(water_store, water_sample, capsys):
    assert main(["orbitals", str(water_store), "water-1", "--reference", str(water_store)]) == 0
    out = capsys.readouterr().out
    e = water_sample(1).orbital_energies
    rows = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in out.splitlines()
        if "│" in line
    }
    assert rows["5 (HOMO)"] == ["2", f"{e[4]:.6f}", f"{e[4]:.6f}", "0.000"]
    assert rows["6 (LUMO)"][:2] == ["0", f"{e[5]:.6f}"]
    assert float(rows["gap"][1]) == pytest.approx(e[5] - e[4], abs=1e-6)


def test_orbitals_need_the_structure_in_the_reference(tmp_path, water_store, water_sample, capsys):
    write(tmp_path / "other", water_sample(30))
    assert main(["orbitals", str(tmp_path / "other"), "water-30", "--reference", str(water_store)]) == 2
    assert "none of its 8 samples has the structure of 'water-30'" in capsys.readouterr().err


def test_label_runs_dft_and_resumes(tmp_path, water_atoms, capsys):
    from ase.io import write as write_structures

    file, store = tmp_path / "water.xyz", tmp_path / "water"
    write_structures(file, [water_atoms(0), water_atoms(1)])
    command = ["label", str(file), str(store), "--basis", "sto-3g", "--grid-level", "0", "--workers", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{store}: 2 labelled, 0 were there before, 0 failed"
    write_structures(file, [water_atoms(k) for k in range(3)])
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{store}: 1 labelled, 2 were there before, 0 failed"
    assert main(["data", "check", str(store)]) == 0
    with Store.open(store) as opened:
        names = opened.names()
    sample = read(store, names[0])
    assert sample.provenance["functional"] == "pbe"
    assert sample.n_occupied == 5
