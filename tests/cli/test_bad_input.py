"""Bad input: one line on stderr that says what is wrong and where, exit code 2, and no output files."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write as write_structures

from harmose.cli import main
from harmose.data import store as store_module
from harmose.data.store import Store
from harmose.inference.card import VERSION
from harmose.io.pyscf.pyscf import basis_set

FAST = ["--basis", "sto-3g", "--grid-level", "0", "--workers", "1"]


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(*arguments)`: run, check the exit code, an empty stdout and an unchanged folder; return the line."""

    def run(*arguments: object) -> str:
        before = contents(tmp_path)
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("harmose: error: ")
        assert contents(tmp_path) == before
        return captured.err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, except the lock file of LMDB."""
    files = (path for path in folder.rglob("*") if path.name != "lock.mdb")
    return {str(path): path.read_bytes() if path.is_file() else b"folder" for path in files}


@pytest.fixture
def water_file(tmp_path, water_atoms) -> Path:
    write_structures(tmp_path / "water.xyz", [water_atoms(0), water_atoms(1)])
    return tmp_path / "water.xyz"


def test_no_such_file(tmp_path, refused):
    nothing = tmp_path / "nothing"
    assert f"{nothing}: no such" in refused("label", nothing, tmp_path / "store")
    assert f"{nothing}: no such store" in refused("data", "ls", nothing)
    assert f"{nothing}: no such store" in refused("data", "split", nothing)
    assert f"{nothing}: no such store" in refused("data", "merge", tmp_path / "out", nothing)


@pytest.mark.parametrize("name", ["empty.xyz", "empty.cif", "empty.json", "empty"])
def test_empty_structure_file(tmp_path, refused, name):
    (tmp_path / name).touch()
    assert f"{name}: expected" in refused("label", tmp_path / name, tmp_path / "store")


def test_truncated_structure_file(tmp_path, refused, water_file):
    text = water_file.read_text()
    water_file.write_text(text[: len(text) - 60])
    assert "water.xyz: expected structures that ASE reads" in refused("label", water_file, tmp_path / "store")


def test_structure_file_of_another_kind(tmp_path, refused):
    (tmp_path / "photo.xyz").write_bytes(bytes(range(256)) * 20)
    assert "photo.xyz: expected structures" in refused("label", tmp_path / "photo.xyz", tmp_path / "store")


STRUCTURES = {
    "on top": (Atoms("H2", [[0, 0, 0], [0, 0, 0.01]]), "at least 0.3 angstrom apart, got 0.010 between atoms 0 and 1"),
    "not a number": (Atoms("H2", [[0, 0, 0], [0, 0, float("nan")]]), "expected finite positions"),
    "unknown element": (
        Atoms("XH", [[0, 0, 0], [0, 0, 1]]),
        "expected chemical elements, got atomic number 0 for atom 0",
    ),
    "no basis": (Atoms("UH2", [[0, 0, 0], [0, 0, 2], [0, 2, 0]]), "PySCF has no sto-3g for U"),
    "odd electrons": (Atoms("OH", [[0, 0, 0], [0, 0, 1]]), "even number of electrons, got 9"),
    "periodic": (Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[9, 9, 9], pbc=True), "expected a molecule"),
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_bad_structures(tmp_path, refused, water_atoms, case):
    """The good frame before the bad one is not calculated."""
    atoms, words = STRUCTURES[case]
    file = tmp_path / "frames.extxyz"
    write_structures(file, [water_atoms(0), atoms])
    line = refused("label", file, tmp_path / "store", *FAST)
    assert words in line
    assert "frames.extxyz, frame 1" in line


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--basis", "def3-svp", "expected a basis set that PySCF knows"),
        ("--basis", "../../etc/passwd", "expected a name such as def2-svp"),
        ("--functional", "pbf", "expected one that PySCF knows"),
        ("--grid-level", "17", "grid_level: expected 0 to 9, got 17"),
        ("--convergence", "-1", "convergence: expected a positive number"),
        ("--max-cycle", "many", "Invalid value for '--max-cycle'"),
        ("--colour", "red", "No such option: --colour"),
    ],
)
def test_bad_settings(tmp_path, refused, water_file, option, value, words):
    assert words in refused("label", water_file, tmp_path / "store", option, value)


def test_store_of_other_settings(tmp_path, refused, water_file, capsys):
    store = tmp_path / "store"
    assert main(["label", str(water_file), str(store), *FAST]) == 0
    capsys.readouterr()
    line = refused("label", water_file, store, *FAST, "--functional", "hf")
    assert f"{store}: expected a store labelled with functional hf, got one with pbe" in line


def test_other_folder_as_a_store(tmp_path, refused, water_file):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "precious").write_text("data")
    assert "folder: expected a harmose store" in refused("label", water_file, folder, *FAST)
    assert "precious: expected a harmose store" in refused("label", water_file, folder / "precious", *FAST)


READS_A_STORE = [["data", "ls"], ["data", "ls", "--samples"], ["data", "check"], ["data", "split", "--force"]]


@pytest.mark.parametrize("command", READS_A_STORE)
def test_store_of_another_version(water_store, refused, command):
    with lmdb.open(str(water_store)) as env, env.begin(write=True) as txn:
        txn.put(b"m", txn.get(b"m").replace(b'"version": 1', b'"version": 7'))
    assert "water: expected a harmose store of version 1, got version 7" in refused(*command, water_store)


@pytest.mark.parametrize("command", READS_A_STORE)
@pytest.mark.parametrize("keep", [0, 5000, 20_000])
def test_truncated_store(water_store, refused, command, keep):
    os.truncate(water_store / "data.mdb", keep)
    assert f"{water_store}: " in refused(*command, water_store)


def flip_a_byte(store: Path, name: str) -> None:
    with Store.open(store) as opened:
        raw = opened.record(name)
    file = store / "data.mdb"
    damaged = bytearray(file.read_bytes())
    damaged[damaged.find(raw) + len(raw) // 2] ^= 4
    file.write_bytes(damaged)


def test_corrupt_record(tmp_path, water_store, refused, capsys):
    flip_a_byte(water_store, "water-4")
    words = "water: sample 'water-4' is corrupt: its checksum does not match"
    assert words in refused("orbitals", water_store, "water-4")
    assert words in refused("data", "merge", tmp_path / "out", water_store)
    assert words in refused("data", "split", water_store, "--by", "group", "--force")
    assert main(["data", "check", str(water_store)]) == 1
    assert "8 samples checked, 1 of them bad" in capsys.readouterr().out


def test_no_such_sample(water_store, refused):
    assert "no sample named 'fire'" in refused("orbitals", water_store, "fire")


def test_bad_shares(water_store, refused):
    assert "expected shares between 0 and 1" in refused(
        "data", "split", water_store, "--force", "--train", 0.9, "--val", 0.9
    )


CONFIGS = {
    "misspelt key": ("data: water\nout: run\nsede: 3\n", [], "there is no key sede: did you mean seed?"),
    "misspelt inner key": ("phases: {stage1: {lerning_rate: 1}}\n", [], "did you mean phases.stage1.learning_rate?"),
    "misspelt override": ("data: water\nout: run\n", ["sede=3"], "there is no key sede: did you mean seed?"),
    "wrong type": ("data: water\nout: run\nseed: many\n", [], "seed: input should be a valid integer"),
    "wrong quantity": (
        "data: water\nout: run\n",
        ["time_limit=20parsecs"],
        "time_limit: expected a quantity like 20min",
    ),
    "missing key": ("out: run\ntime_limit: 1min\n", [], "data is missing: give it in the file or as data=..."),
    "no override": ("data: water\nout: run\n", ["seed"], "expected key=value, got 'seed'"),
    "a list": ("- data\n- out\n", [], "expected keys and values, got list"),
    "not YAML": ("data: [water\n", [], "expected YAML"),
    "code": ("data: !!python/object/apply:os.system ['touch owned']\n", [], "expected YAML"),
    "no time": ("data: water\nout: run\n", [], "expected a time_limit"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(tmp_path, refused, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    text, overrides, words = CONFIGS[case]
    (tmp_path / "config.yaml").write_text(text)
    assert words in refused("train", "config.yaml", *overrides)


def test_missing_and_binary_configuration(tmp_path, refused):
    assert "nothing.yaml: the configuration cannot be read" in refused("train", tmp_path / "nothing.yaml")
    (tmp_path / "photo.yaml").write_bytes(bytes(range(256)))
    assert "photo.yaml: the configuration cannot be read (not a text file)" in refused("train", tmp_path / "photo.yaml")


def damaged(model: Path, damage: str) -> Path:
    """Damage the folder of a model."""
    card, weights = model / "card.json", model / "model.safetensors"
    if damage == "no card":
        card.unlink()
    elif damage == "empty card":
        card.write_text("")
    elif damage == "foreign card":
        card.write_text('{"format": "other", "version": 1}')
    elif damage == "newer card":
        card.write_text(card.read_text().replace(f'"version": {VERSION}', '"version": 999'))
    elif damage == "changed basis":
        card.write_text(card.read_text().replace('"radius": 6', '"radius": 7'))
    elif damage == "no weights":
        weights.unlink()
    elif damage == "empty weights":
        weights.write_bytes(b"")
    elif damage == "truncated weights":
        os.truncate(weights, weights.stat().st_size - 100)
    elif damage == "pickle":
        weights.write_bytes(pickle.dumps({"weights": 1}))
    return model


@pytest.mark.parametrize(
    "damage",
    [
        "no card", "empty card", "foreign card", "newer card", "changed basis", "no weights", "empty weights",
        "truncated weights", "pickle",
    ],
)  # fmt: skip
def test_damaged_checkpoints(untrained_model, water_store, water_file, refused, damage):
    model = damaged(untrained_model, damage)
    assert f"harmose: error: {model}" in refused("evaluate", model, water_store)
    assert f"harmose: error: {model}" in refused("predict", model, water_file, "--out", water_file.parent / "out")


def test_other_files_as_a_model(tmp_path, water_store, refused):
    assert "no such model" in refused("evaluate", "no-such-model", water_store)
    (tmp_path / "model.pt").write_bytes(pickle.dumps([1]))
    assert "model.pt: expected the folder of a model, got a file" in refused(
        "evaluate", tmp_path / "model.pt", water_store
    )
    assert f"{water_store}: expected a harmose model, got no card.json" in refused("evaluate", water_store, water_store)


def stating(charges=None, magmoms=None, **info) -> Atoms:
    """Water that states charge or spin."""
    water = molecule("H2O")
    return Atoms(water.numbers, water.positions, charges=charges, magmoms=magmoms, info=info)


OUTSIDE = {
    "element": (molecule("NH3"), "water.extxyz, frame 0: expected elements of the training set (H, O)"),
    "periodic": (Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[9, 9, 9], pbc=True), "expected a molecule"),
    "odd": (Atoms("OH", [[0, 0, 0], [0, 0, 1]]), "water.extxyz, frame 0: expected an even number of electrons, got 9"),
    "charge": (stating(charge=2), "water.extxyz, frame 0: expected a total charge of 0, as in the training set, got 2"),
    "initial charges": (stating(charges=[1, 0.5, 0.5]), "water.extxyz, frame 0: expected a total charge of 0"),
    "contradiction": (stating(charge=0, charges=[1, 0, 0]), "water.extxyz, frame 0: expected initial charges whose sum"),
    "spin": (stating(spin=2), "water.extxyz, frame 0: expected 0 unpaired electrons, as in the training set, got 2"),
    "multiplicity": (stating(spin=1), "got 1 (spin, which is not the multiplicity)"),
    "moments": (stating(magmoms=[2, 0, 0]), "water.extxyz, frame 0: expected no initial magnetic moments"),
    "close": (Atoms("H2", [[0, 0, 0], [0, 0, 0.1]]), "water.extxyz, frame 0: expected atoms at least 0.3 angstrom apart"),
    "dummy": (Atoms("OX", [[0, 0, 0], [0, 0, 1]]), "water.extxyz, frame 0: expected chemical elements, got atomic number 0"),
}  # fmt: skip


SCF_WORDS = {
    "odd": "HO: restricted Kohn-Sham wants an even number of electrons, got 9",
    "spin": "H2O: expected 0 unpaired electrons",
    "moments": "H2O: expected 0 unpaired electrons",
    "multiplicity": "H2O: 10 electrons cannot have 1 of them unpaired",
}
"""Words of `harmose scf`, which makes PySCF's molecule before the model predicts."""


@pytest.mark.parametrize("case", OUTSIDE)
def test_structures_outside_the_model(tmp_path, untrained_model, refused, case):
    atoms, words = OUTSIDE[case]
    file = tmp_path / "water.extxyz"
    write_structures(file, atoms)
    parts = ["predict", "--partition", 2, "--out", tmp_path / "out.npz"]
    many = ["predict", "--out", tmp_path / "out"]
    for command in (["predict", "--out", tmp_path / "out.npz"], many, parts, ["orbitals"], ["dos"]):
        assert words in refused(command[0], untrained_model, file, *command[1:])
    line = refused("scf", untrained_model, file)
    assert "water.extxyz, frame 0: " in line
    assert SCF_WORDS.get(case, words.removeprefix("water.extxyz, frame 0: ")) in line


@pytest.mark.parametrize("case", ["odd", "charge", "spin", "moments"])
def test_ranked_structures_outside_the_model(tmp_path, refused, case):
    """The line names the frame, also one of several that are predicted together."""
    atoms, words = OUTSIDE[case]
    file = tmp_path / "water.extxyz"
    write_structures(file, [molecule("H2O"), molecule("H2O"), atoms])
    assert words.replace("frame 0", "frame 2") in refused("rank", "water-pbe-def2svp", file)


def test_samples_outside_the_model(untrained_model, water_basis, water_sample, tmp_path, refused):
    with Store.create(tmp_path / "ions", water_basis, metadata={"basis": "sto-3g"}) as store:
        store.append(water_sample(0))
        ion = water_sample(1)
        ion.structure.info["charge"] = 2
        store.append(ion)
    words = "ions: sample water-1: expected a total charge of 0, as in the training set, got 2"
    assert words in refused("evaluate", untrained_model, tmp_path / "ions")


def test_symbols_that_no_element_has(tmp_path, untrained_model, refused):
    file = tmp_path / "water.xyz"
    file.write_text("1\n\nQq 0 0 0\n")
    assert "water.xyz: expected structures that ASE reads" in (line := refused("orbitals", untrained_model, file))
    assert "expected symbols of chemical elements, got Qq" in line


def test_store_of_another_basis(tmp_path, untrained_model, refused):
    Store.create(tmp_path / "other", basis_set("def2-svp", [1, 8]), metadata={"basis": "def2-svp"}).close()
    words = "other: expected labels of basis sto-3g, as the model's, got def2-svp"
    assert words in refused("evaluate", untrained_model, tmp_path / "other")


def test_full_disk_while_labelling(tmp_path, water_file, capsys, monkeypatch):
    """The finished sample stays, the line names the reason, and the next run continues."""
    next_position, calls = store_module._next_position, []

    def full(txn):
        calls.append(txn)
        if len(calls) > 1:
            raise lmdb.DiskError("mdb_txn_commit: No space left on device")
        return next_position(txn)

    store = tmp_path / "store"
    command = ["label", str(water_file), str(store), *FAST]
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_next_position", full)
        assert main(command) == 2
    assert capsys.readouterr().err == (
        f"harmose: error: {store}: cannot write: No space left on device; what the store held before is unharmed\n"
    )
    with Store.open(store) as opened:
        assert len(opened) == 1
    assert main(command) == 0
    assert "1 labelled, 1 were there before" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "water.xyz"]


LIMITED = """
import resource, sys
from harmose.cli import main
import harmose.cli.label  # imports write their bytecode before the limit holds
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.exit(main(sys.argv[1:]))
"""


def test_file_size_limit_while_labelling(tmp_path, water_atoms):
    """The operating system itself refuses to let the store grow."""
    file, store = tmp_path / "water.xyz", tmp_path / "store"
    write_structures(file, [water_atoms(k) for k in range(20)])
    command = [sys.executable, "-c", LIMITED, "label", str(file), str(store), *FAST]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == (
        f"harmose: error: {store}: cannot write: Input/output error; what the store held before is unharmed\n"
    )
    with Store.open(store) as opened:
        assert 0 < len(opened) < 20
        assert [sample.n_occupied for sample in opened] == [5] * len(opened)


def test_unwritable_folder(tmp_path, water_file, refused):
    assert "there is no folder" in refused("data", "merge", tmp_path / "no" / "store", water_file)


def test_internal_error(water_store, capsys, monkeypatch):
    def broken(_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("harmose.cli.data._summary", broken)
    assert main(["data", "ls", str(water_store)]) == 1
    assert capsys.readouterr().err == (
        "harmose: internal error: RuntimeError: two lines (a bug in harmose; HARMOSE_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("HARMOSE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        main(["data", "ls", str(water_store)])


def test_interruption(water_store, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("harmose.cli.data._summary", interrupted)
    assert main(["data", "ls", str(water_store)]) == 130
    assert capsys.readouterr().err == "harmose: interrupted\n"
