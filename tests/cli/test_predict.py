"""`harmose predict`: one structure, many, S from a source; nothing is left of a failed prediction."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
from ase.io import write as write_structures

from harmose.cli import main
from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.io.files import read, write


def test_one_structure(tmp_path, water_model, water_atoms, capsys):
    write_structures(tmp_path / "new.xyz", water_atoms(40))
    out = tmp_path / "new.npz"
    command = ["predict", "exact", str(tmp_path / "new.xyz"), "--out", str(out)]
    assert main(command) == 0
    sample = read(out)
    expected = water_model.predict(water_atoms(40))
    assert np.abs(sample.hamiltonian.values - expected.values).max() < 1e-5  # eight decimals in the file of structures
    assert sample.n_electrons == 10
    assert sample.provenance == {"kind": "prediction", "model": "exact", "code": "pyscf"}
    assert main(command) == 2
    assert "new.npz: exists already" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


def test_many_structures(tmp_path, water_model, water_atoms, capsys):
    write_structures(tmp_path / "new.xyz", [water_atoms(40), water_atoms(41)])
    assert main(["predict", "exact", str(tmp_path / "new.xyz"), "--out", str(tmp_path / "new.npz")]) == 2
    assert "expected one structure for a .npz, got 2; name a store instead" in capsys.readouterr().err
    assert main(["predict", "exact", str(tmp_path / "new.xyz"), "--out", str(tmp_path / "new")]) == 0
    with Store.open(tmp_path / "new") as store:
        assert store.names() == ["new-0", "new-1"]
        assert store.metadata["kind"] == "prediction"
    assert main(["data", "check", str(tmp_path / "new")]) == 0
    assert main(["orbitals", str(tmp_path / "new"), "new-1"]) == 0


def test_overlap_from_a_source(tmp_path, water_model, water_atoms, water_store, capsys):
    with Store.open(water_store) as store:
        known = store["water-0"]
    scaled = known.overlap.with_values(known.overlap.values * 1.5)
    with Store.create(tmp_path / "other", known.basis) as store:
        store.append(replace(known, overlap=scaled), check=False)
    write_structures(tmp_path / "known.extxyz", known.structure)
    write_structures(tmp_path / "new.xyz", water_atoms(40))
    taken = ["--overlap", str(tmp_path / "other")]
    assert main(["predict", "exact", str(tmp_path / "known.extxyz"), "--out", str(tmp_path / "a.npz"), *taken]) == 0
    np.testing.assert_array_equal(read(tmp_path / "a.npz").overlap.values, scaled.values)
    assert main(["predict", "exact", str(tmp_path / "new.xyz"), "--out", str(tmp_path / "b.npz"), *taken]) == 2
    assert "none of its 1 samples has the structure of 'new-0'" in capsys.readouterr().err


def test_overlap_without_h(tmp_path, water_model, water_store, capsys):
    """S alone is enough, also as a reference; its structure may be translated, and not rotated."""
    with Store.open(water_store) as store:
        known = store["water-0"]
    write(tmp_path / "s", known, "deeph")
    (tmp_path / "s" / "hamiltonian.h5").unlink()
    moved = known.structure.copy()
    moved.positions += [1.0, 2.0, 3.0]
    write_structures(tmp_path / "new.extxyz", moved)
    taken = ["--overlap", str(tmp_path / "s")]
    assert main(["predict", "exact", str(tmp_path / "new.extxyz"), "--out", str(tmp_path / "a.npz"), *taken]) == 0
    np.testing.assert_array_equal(read(tmp_path / "a.npz").overlap.values, known.overlap.values)
    assert main(["orbitals", "exact", str(tmp_path / "new.extxyz"), "--reference", str(tmp_path / "s")]) == 0
    moved.rotate(30, "x")
    write_structures(tmp_path / "turned.extxyz", moved)
    assert main(["predict", "exact", str(tmp_path / "turned.extxyz"), "--out", str(tmp_path / "b.npz"), *taken]) == 2
    assert "expected S of the structure in this orientation" in capsys.readouterr().err


def test_failed_prediction(tmp_path, water_model, water_atoms, monkeypatch, capsys):
    write_structures(tmp_path / "new.xyz", [water_atoms(40), water_atoms(41)])
    predict = type(water_model).predict

    def fails(self, atoms, **options):
        if np.allclose(atoms.positions, water_atoms(41).positions, atol=1e-6):
            raise ModelError("expected elements among H, O, got U")
        return predict(self, atoms, **options)

    monkeypatch.setattr(type(water_model), "predict", fails)
    for name in ("new", "new.npz"):
        assert main(["predict", "exact", str(tmp_path / "new.xyz"), "--out", str(tmp_path / name)]) == 2
    assert "got U" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["new.xyz"]


def test_real_model(tmp_path, untrained_model, water_store, water_atoms, capsys):
    write_structures(tmp_path / "new.xyz", water_atoms(40))
    model, new = str(untrained_model), str(tmp_path / "new.xyz")
    assert main(["evaluate", model, str(water_store), "--out", str(tmp_path / "report")]) == 0
    result = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    # rounding error of float32
    assert result["stages"]["stage1"]["rotation_error_relative"] < 1e-5
    assert main(["predict", model, new, "--out", str(tmp_path / "new.npz")]) == 0
    assert main(["orbitals", model, new]) == 0
    assert main(["scf", model, new]) == 0
    assert "cycles saved" in capsys.readouterr().out


def test_unknown_model(tmp_path, water_store, water_atoms, capsys):
    write_structures(tmp_path / "new.xyz", water_atoms(40))
    commands = [
        ["evaluate", "unknown", str(water_store)],
        ["predict", "unknown", str(tmp_path / "new.xyz"), "--out", str(tmp_path / "new.npz")],
        ["orbitals", "unknown", str(tmp_path / "new.xyz")],
        ["scf", "unknown", str(tmp_path / "new.xyz")],
    ]
    for command in commands:
        assert main(command) == 2
        assert "harmose: error: unknown: no such model" in capsys.readouterr().err


@pytest.mark.usefixtures("water_model")
def test_many_overlaps_are_searched_once(tmp_path, water_store, samples_alive):
    """S of structures under other names: each sample of the source is read at most twice, not once for each structure."""
    with Store.open(water_store) as store:
        structures = [sample.structure for sample in store][::-1]
    write_structures(tmp_path / "new.extxyz", structures)
    before = samples_alive.n
    out, taken = str(tmp_path / "new"), ["--overlap", str(water_store)]
    assert main(["predict", "exact", str(tmp_path / "new.extxyz"), "--out", out, *taken]) == 0
    assert samples_alive.n - before <= 2 * len(structures)
    assert samples_alive.most <= 2
    with Store.open(out) as made, Store.open(water_store) as source:
        for k in range(len(structures)):
            expected = source[f"water-{len(structures) - 1 - k}"].overlap
            np.testing.assert_array_equal(made[f"new-{k}"].overlap.values, expected.values)


def test_predictions_are_written_while_they_are_made(tmp_path, water_model, water_atoms, monkeypatch):
    """No prediction is kept until the last is made."""
    alive, most, predict = weakref.WeakSet(), 0, type(water_model).predict

    def counted(self, *args, **options):
        nonlocal most
        h = predict(self, *args, **options)
        alive.add(h)
        gc.collect()
        most = max(most, len(alive))
        return h

    monkeypatch.setattr(type(water_model), "predict", counted)
    write_structures(tmp_path / "new.xyz", [water_atoms(k) for k in range(12)])
    assert main(["predict", "exact", str(tmp_path / "new.xyz"), "--out", str(tmp_path / "new")]) == 0
    with Store.open(tmp_path / "new") as store:
        assert store.names() == [f"new-{k}" for k in range(12)]
    assert most <= 2
