"""The import of published matrices, checked with PySCF's own numbers, and with files that are not what they say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from scipy.linalg import eigh

from harmose.data.store import Store
from harmose.io.pyscf import pyscf as io
from harmose.units import HARTREE

EXAMPLE = Path(__file__).parents[2] / "examples" / "results" / "molecules_npz.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("molecules_npz", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Three hydrogen molecules and a water, STO-3G, core Hamiltonian as F, in the layout of the file."""
    structures = [molecule("H2"), molecule("H2O"), molecule("H2"), molecule("H2")]
    parts: dict[str, list] = {"F": [], "S": [], "F0": []}
    sizes = []
    for atoms in structures:
        mol = io.molecule(atoms, "sto-3g")
        core = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
        upper = np.triu_indices(mol.nao)
        sizes.append(mol.nao)
        for key, matrix in {"F": core, "S": mol.intor("int1e_ovlp"), "F0": core / 2}.items():
            parts[key].append(matrix[upper])
    return {
        "z": np.concatenate([a.numbers for a in structures]).astype(np.int8),
        "pos": np.concatenate([a.positions for a in structures]),
        "atom_ptr": np.cumsum([0, *map(len, structures)]),
        "nao": np.array(sizes),
        "tri_ptr": np.cumsum([0, *[n * (n + 1) // 2 for n in sizes]]),
        **{key: np.concatenate(value) for key, value in parts.items()},
        "mo_energy": np.arange(sum(sizes), dtype=float),
        "mo_ptr": np.cumsum([0, *sizes]),
        "n_electrons": np.array([2, 10, 2, 2]),
        "energy": np.array([-1.0, -75.0, -1.0, -1.0]),
        "cycles": np.array([5, 8, 5, 5]),
        "name": np.array(["h2", "water", "h2", "other"]),
        "kind": np.array(["eq"] * 4),
        "group": np.array([0, 1, 0, 0]),
        "basis": np.array("sto-3g"),
        "train": np.array([0, 1]),
        "val": np.array([3]),
    }


def run(example, tmp_path, arrays: dict, *options: str, file: str = "set.npz") -> tuple[int, Path]:
    np.savez(tmp_path / file, **arrays)
    return example.main([str(tmp_path / file), str(tmp_path / "store"), *options]), tmp_path / "store"


def test_everything_arrives(example, tmp_path, arrays):
    code, path = run(example, tmp_path, arrays)
    assert code == 0
    with Store.open(path) as store:
        assert store.names() == ["h2-0", "water", "h2-2", "other"]
        assert store.splits == {"train": ["h2-0", "water"], "val": ["other"]}
        assert {k: store.metadata[k] for k in ("code", "functional", "basis", "grid_level")} == {
            "code": "pyscf", "functional": "pbe", "basis": "sto-3g", "grid_level": 3
        }  # fmt: skip
        sample = store["water"]
    mol = io.molecule(molecule("H2O"), "sto-3g")
    np.testing.assert_allclose(io.from_blocks(sample.overlap, energy=False), mol.intor("int1e_ovlp"), atol=1e-12)
    core = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    np.testing.assert_allclose(io.from_blocks(sample.hamiltonian), core, atol=1e-12)
    np.testing.assert_allclose(io.from_blocks(sample.prior), core / 2, atol=1e-12)
    assert sample.n_electrons == 10
    assert sample.energy == pytest.approx(-75 * HARTREE)
    np.testing.assert_allclose(sample.orbital_energies, np.arange(2, 9) * HARTREE)
    assert sample.provenance["cycles"] == 8
    assert (sample.provenance["kind"], sample.provenance["group"]) == ("eq", 1)


@pytest.mark.parametrize(
    ("file", "xc", "options", "functional"),
    [
        ("organics.npz", None, (), "b3lypg"),
        ("others.npz", None, (), "pbe"),
        ("others.npz", "b3lyp", (), "b3lypg"),
        ("organics.npz", "b3lyp", ("--functional", "b3lyp5"), "b3lyp5"),
    ],
)
def test_the_functional_is_named(example, tmp_path, arrays, file, xc, options, functional):
    extra = {} if xc is None else {"xc": np.array(xc)}
    _, path = run(example, tmp_path, {**arrays, **extra}, *options, file=file)
    with Store.open(path) as store:
        assert store.metadata["functional"] == functional


def test_the_least_file_becomes_a_test_set(example, tmp_path, arrays):
    code, path = run(example, tmp_path, {k: arrays[k] for k in (*example.REQUIRED, "basis")})
    assert code == 0
    with Store.open(path) as store:
        assert store.splits == {"test": [f"sample-{k}" for k in range(4)]}
        assert store["sample-1"].n_electrons == 10
        assert store["sample-1"].prior is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.pop("F"), "lacking F"),
        (lambda a: a.update(F=a["F"][:-1]), "tri_ptr"),
        (lambda a: a.update(tri_ptr=a["tri_ptr"][::-1]), "tri_ptr"),
        (lambda a: a.update(nao=a["nao"] + 1), "tri_ptr"),
        (lambda a: a.update(pos=a["pos"][:, :2]), "pos"),
        (lambda a: a.update(pos=a["pos"] * 0), "apart"),
        (lambda a: a.update(pos=a["pos"] * np.nan), "finite"),
        (lambda a: a.update(F=np.where(a["F"] < 0, np.inf, 0)), "F of h2-0"),
        (lambda a: a.update(S=-a["S"]), "diagonal of S"),
        (lambda a: a.update(z=a["z"] * 0), "element"),
        (lambda a: a.update(z=a["z"] + 2), "orbitals"),
        (lambda a: a.update(z=a["z"].astype(str)), "numbers in z"),
        (lambda a: a.update(F0=a["F"]), "equals H0"),
        (lambda a: a.update(train=np.array([4])), "train"),
        (lambda a: a.update(train=np.array([3])), "two splits|in the splits"),
        (lambda a: a.update(basis=np.array("nonsense")), "basis nonsense"),
        (lambda a: a.update(xc=np.array("nonsense")), "functional"),
        (lambda a: a.update(name=np.array([{}] * 4, dtype=object)), "npz"),
        (lambda a: a.pop("mo_ptr"), "mo_ptr"),
        (lambda a: a.update(energy=a["energy"][:2]), "energy"),
    ],
)
def test_a_wrong_file_gives_one_line_and_no_store(example, tmp_path, arrays, capsys, change, text):
    arrays = dict(arrays)
    change(arrays)
    code, path = run(example, tmp_path, arrays)
    lines = capsys.readouterr().err.splitlines()
    assert (code, len(lines)) == (2, 1)
    assert any(part in lines[0] for part in text.split("|"))
    assert [p.name for p in tmp_path.iterdir()] == ["set.npz"]
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_file_gives_one_line_and_no_store(example, tmp_path, arrays, capsys, size):
    np.savez(tmp_path / "whole.npz", **arrays)
    (tmp_path / "set.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:size])
    assert example.main([str(tmp_path / "set.npz"), str(tmp_path / "store")]) == 2
    assert "expected a whole .npz file" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_missing_file_and_a_taken_store_are_refused(example, tmp_path, arrays, capsys):
    assert example.main([str(tmp_path / "none.npz"), str(tmp_path / "store")]) == 2
    assert "no such file" in capsys.readouterr().err
    run(example, tmp_path, arrays)
    assert run(example, tmp_path, arrays)[0] == 2
    assert "expected a new path" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["water", "organics"])
def test_the_published_matrices_have_the_published_orbital_energies(example, tmp_path, shared_data, name):
    with np.load(shared_data / "molecules" / f"{name}.npz") as whole:
        data = dict(whole)
    keep = 4
    for key, pointer in [*example.POINTERS.items(), ("pos", "atom_ptr")]:
        data[key] = data[key][: data[pointer][keep]]
    for pointer in ("atom_ptr", "tri_ptr", "mo_ptr"):
        data[pointer] = data[pointer][: keep + 1]
    for key in ("nao", "n_electrons", "energy", "cycles", "cycles_tight", "name", "kind", "group"):
        data[key] = data[key][:keep]
    data |= {"train": np.arange(keep), "val": np.arange(0)}
    code, path = run(example, tmp_path, data)
    assert code == 0
    with Store.open(path) as store:
        for sample in store:
            energies = eigh(sample.hamiltonian.dense(), sample.overlap.dense(), eigvals_only=True)
            np.testing.assert_allclose(energies, sample.orbital_energies, atol=1e-4)
