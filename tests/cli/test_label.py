"""`harmose label` runs DFT and resumes."""

from ase.io import write as write_structures

from harmose.cli import main
from harmose.data.store import Store
from harmose.io.files import read


def test_label(tmp_path, water_atoms, capsys):
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
