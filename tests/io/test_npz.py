"""`.npz`: usable with numpy alone, the same again when read, and no code run from a stranger's file."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg

from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.npz import read_npz, write_npz
from harmose.spin import Spin


@pytest.fixture
def file(tmp_path, water_sample):
    path = tmp_path / "water.npz"
    write_npz(path, water_sample(0))
    return path


def test_arrays_for_numpy(file, water_sample):
    sample = water_sample(0)
    with np.load(file, allow_pickle=False) as data:
        h, s = data["H"], data["S"]
        assert np.allclose(scipy.linalg.eigh(h, s, eigvals_only=True), sample.orbital_energies, atol=1e-9)
        i, j = data["keys"][4, :2]
        block = data["hamiltonian"][0, data["offsets"][4] : data["offsets"][5]].reshape(
            np.sum(data["orbitals"][:, 0] == i), np.sum(data["orbitals"][:, 0] == j)
        )
        assert np.array_equal(block, h[data["orbitals"][:, 0] == i][:, data["orbitals"][:, 0] == j])
        assert data["orbitals"].tolist() == [[0, 0, 0]] * 2 + [[0, 1, m] for m in (-1, 0, 1)] + [[1, 0, 0], [2, 0, 0]]


def test_round_trip(file, water_sample):
    again, sample = read_npz(file), water_sample(0)
    assert (again.name, again.spin, again.basis) == (sample.name, sample.spin, sample.basis)
    assert again.structure == sample.structure
    for name in ("hamiltonian", "overlap", "prior"):
        assert np.array_equal(getattr(again, name).values, getattr(sample, name).values)
        assert np.array_equal(getattr(again, name).pairs, sample.hamiltonian.pairs)
    assert np.array_equal(again.orbital_energies, sample.orbital_energies)
    assert (again.energy, again.n_electrons, again.fermi_level) == (sample.energy, sample.n_electrons, None)
    assert again.provenance == sample.provenance


def test_charge_and_unpaired_electrons(tmp_path, water_sample):
    sample = water_sample(0)
    sample.structure.info.update(charge=2, spin=0)
    write_npz(tmp_path / "ion.npz", sample)
    assert read_npz(tmp_path / "ion.npz").structure.info == {"charge": 2, "spin": 0}


def test_initial_moments(tmp_path, water_sample):
    sample = water_sample(0)
    sample.structure.set_initial_magnetic_moments([0, 1, -1])
    write_npz(tmp_path / "magnet.npz", sample)
    assert read_npz(tmp_path / "magnet.npz").structure.get_initial_magnetic_moments().tolist() == [0, 1, -1]


def test_round_trip_of_two_spins(tmp_path, water_sample):
    plain = water_sample(0)
    values = np.concatenate([plain.hamiltonian.values, 0.9 * plain.hamiltonian.values])
    h = replace(plain.hamiltonian, values=values, spin=Spin.COLLINEAR)
    write_npz(
        tmp_path / "two.npz",
        Sample("two", plain.structure, plain.basis, h, overlap=plain.overlap, spin=Spin.COLLINEAR),
    )
    again = read_npz(tmp_path / "two.npz")
    assert again.spin is again.hamiltonian.spin is Spin.COLLINEAR
    assert again.overlap.spin is Spin.NONE
    assert np.array_equal(again.hamiltonian.values, values)


def test_existing_paths_and_failed_writes(file, water_sample, monkeypatch):
    before = file.read_bytes()
    with pytest.raises(FormatError, match="expected a new path"):
        write_npz(file, water_sample(1))
    assert file.read_bytes() == before

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        write_npz(file.with_name("other.npz"), water_sample(1))
    assert [p.name for p in file.parent.iterdir()] == ["water.npz"]


@pytest.mark.parametrize(
    "damage", ["empty", "short", "text", "array", "foreign", "pickle", "version", "missing", "wrong size"]
)
def test_damaged_and_other_files(file, damage):
    data = file.read_bytes()
    arrays = dict(np.load(file))
    if damage in ("empty", "short", "text"):
        file.write_bytes({"empty": b"", "short": data[: len(data) // 2], "text": b"hello"}[damage])
    elif damage == "array":
        with file.open("wb") as out:
            np.save(out, np.arange(3))
    else:
        changed = {
            "foreign": {"x": np.arange(3)},
            "pickle": arrays | {"numbers": np.array([{}], dtype=object)},
            "version": arrays | {"version": 9},
            "missing": {k: v for k, v in arrays.items() if k != "positions"},
            "wrong size": arrays | {"hamiltonian": arrays["hamiltonian"][:, :-1]},
        }[damage]
        np.savez(file, allow_pickle=True, **changed)
    with pytest.raises(FormatError, match=r"water\.npz: not a readable \.npz of harmose"):
        read_npz(file)
