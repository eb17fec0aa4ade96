"""Stores: round trips, splits, concurrent processes, damaged files, full disks."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import weakref
from dataclasses import replace

import lmdb
import numpy as np
import pytest
from ase import Atoms

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data import database as database_module
from harmose.data import store as store_module
from harmose.data.store import VERSION, Store, new_store
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.spin import Spin


def assert_same(a: Sample, b: Sample) -> None:
    assert (a.name, a.spin, a.energy, a.n_electrons, a.fermi_level) == (
        b.name, b.spin, b.energy, b.n_electrons, b.fermi_level,
    )  # fmt: skip
    assert dict(a.provenance) == dict(b.provenance)
    assert a.structure == b.structure
    assert a.structure.info == b.structure.info
    for name in ("hamiltonian", "overlap", "prior"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        if x is not None:
            assert x.spin is y.spin
            assert np.array_equal(x.pairs, y.pairs)
            assert x.values.dtype == y.values.dtype
            assert np.array_equal(x.values, y.values)
    assert np.array_equal(a.orbital_energies, b.orbital_energies)


def test_repr(water_store):
    with Store.open(water_store) as store:
        assert repr(store) == f"Store({str(water_store)!r}, 8 samples, spin none, basis 'sto-3g')"
    assert repr(store) == f"Store({str(water_store)!r}, closed)"


@pytest.mark.parametrize("spin", list(Spin))
def test_crystals_of_every_spin(tmp_path, random_crystal, spin):
    """Cell, periodicity and both or four components come back; S is one real matrix beside any H."""
    sample = random_crystal(spin)
    sample = replace(sample, prior=sample.hamiltonian.with_values(sample.hamiltonian.values / 2))
    levels = np.arange(float(sample.hamiltonian.n_orbitals))
    sample = replace(sample, orbital_energies=np.stack([levels, levels]) if spin is Spin.COLLINEAR else levels)
    with Store.create(tmp_path / "crystals", sample.basis, spin) as store:
        store.append(sample)
    with Store.open(tmp_path / "crystals") as store:
        assert store.spin is spin
        assert_same(store["random"], sample)


def test_append_all_is_all_or_nothing(tmp_path, water_basis, water_sample):
    with Store.create(tmp_path / "water", water_basis) as store:
        with pytest.raises(MatrixError, match="sample water-2: H equals H0"):
            store.append_all([water_sample(1), water_sample(2, prior=water_sample(2).hamiltonian)])
        assert store.names() == []
        store.append_all([water_sample(1), water_sample(2)])
        with pytest.raises(FormatError, match="'water-2', which the store already has"):
            store.append_all([water_sample(3), water_sample(2)])
        assert store.names() == ["water-1", "water-2"]
        assert_same(store["water-2"], water_sample(2))


def test_round_trip_is_exact_and_keeps_the_order(water_store, water_sample):
    with Store.open(water_store) as store:
        assert store.names() == [f"water-{k}" for k in range(8)]
        assert len(store) == 8
        assert "water-3" in store
        assert "water-9" not in store
        for seed, sample in enumerate(store):
            assert_same(sample, water_sample(seed))
        assert store.metadata == {"functional": "hf", "basis": "sto-3g"}
        assert store.splits["val"] == ["water-6", "water-7"]
        assert store.provenance("water-5") == {"code": "pyscf", "group": "group-2", "kind": "test"}


def test_charge(tmp_path, water_basis, water_sample):
    sample = water_sample(0)
    sample.structure.info.update(charge=2, other="dropped")
    with Store.create(tmp_path / "s", water_basis) as store:
        store.append(sample)
        assert store["water-0"].structure.info == {"charge": 2}


@pytest.mark.parametrize("spin", [Spin.COLLINEAR, Spin.SPINOR])
def test_periodic_and_spin_polarized_round_trip(tmp_path, spin):
    basis = BasisSet("toy", {6: (Shell(2, 0), Shell(2, 1))}, {6: 1.2})
    atoms = Atoms("C2", [[0, 0, 0], [0, 1.42, 0]], cell=[[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 15.0]], pbc=[1, 1, 0])
    pairs = np.array([[0, 1, -1, -1, 0], [0, 1, 0, 0, 0]])
    rng = np.random.default_rng(0)
    values = rng.normal(size=(spin.n_components, 4 * 16)).astype(spin.dtype)
    if spin is Spin.SPINOR:
        values += 1j * rng.normal(size=values.shape)
    h = BlockMatrix(basis, atoms.numbers, pairs, values, spin)
    s = BlockMatrix(basis, atoms.numbers, pairs, rng.normal(size=(1, 64)))
    sample = Sample("graphene", atoms, basis, h, overlap=s, spin=spin, fermi_level=-2.5)
    with Store.create(tmp_path / "s", basis, spin) as store:
        store.append(sample, check=False)
        again = store["graphene"]
    assert again.spin is spin
    assert again.hamiltonian.spin is spin
    assert again.overlap is not None
    assert again.overlap.spin is Spin.NONE
    assert np.array_equal(again.hamiltonian.values, values)
    assert np.array_equal(again.overlap.values, s.values)
    assert np.array_equal(again.hamiltonian.pairs, pairs)
    assert again.structure == atoms
    assert again.fermi_level == -2.5
    assert again.prior is None


def test_digest_depends_on_samples_and_not_on_their_order(tmp_path, water_basis, water_sample):
    a, b = water_sample(0), water_sample(1)
    digests = []
    for k, samples in enumerate([(a, b), (b, a), (a,), (a, replace(b, energy=b.energy + 1e-9))]):
        with Store.create(tmp_path / str(k), water_basis) as store:
            for sample in samples:
                store.append(sample)
            digests.append(store.digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_append_errors(water_store, water_sample):
    with Store.open(water_store, writable=True) as store:
        before = store.digest
        with pytest.raises(FormatError, match=r"expected new names, got 'water-3'"):
            store.append(water_sample(3))
        with pytest.raises(FormatError, match="expected spin none, got collinear"):
            store.append(replace(water_sample(9), spin=Spin.COLLINEAR))
        other = BasisSet("sto-3g", {1: (Shell(1, 0),), 8: (Shell(1, 0), Shell(2, 1), Shell(2, 0))}, {1: 6, 8: 6})
        with pytest.raises(BasisError, match="expected basis sto-3g"):
            store.append(replace(water_sample(9), basis=other))
        same = water_sample(9)
        with pytest.raises(MatrixError, match="H equals H0"):
            store.append(replace(same, prior=same.hamiltonian))
        with pytest.raises(FormatError, match="1 to 500 bytes, got 600"):
            store.append(replace(same, name="x" * 600))
        with pytest.raises(FormatError, match="provenance is not JSON"):
            store.append(replace(same, provenance={"x": object()}))
        assert store.digest == before
        assert len(store) == 8


def test_read_only_store_raises_on_write(water_store, water_sample):
    with Store.open(water_store) as store, pytest.raises(FormatError, match="for reading only"):
        store.append(water_sample(9))
    closed = Store.open(water_store)
    closed.close()
    with pytest.raises(FormatError, match="is closed"):
        closed.names()


def test_set_splits_errors(water_store):
    with Store.open(water_store, writable=True) as store:
        with pytest.raises(FormatError, match="names the sample 'water-8', which the store lacks"):
            store.set_splits({"train": ["water-0", "water-8"]})
        with pytest.raises(FormatError, match="in the splits train and test"):
            store.set_splits({"train": ["water-0"], "test": ["water-0"]})
        assert set(store.splits) == {"train", "val"}


def test_failures(water_store, water_sample):
    with Store.open(water_store, writable=True) as store:
        store.remember_failure("water-9", "not converged")
        store.remember_failure("water-10", "odd")
    with Store.open(water_store, writable=True) as store:
        assert store.failures == {"water-9": "not converged", "water-10": "odd"}
        store.append(water_sample(9))
        assert store.failures == {"water-10": "odd"}


def test_extend_basis(water_store, water_sample):
    from harmose.io.pyscf.pyscf import basis_set

    with Store.open(water_store, writable=True) as store:
        store.extend_basis(basis_set("sto-3g", [6, 1]))
        assert store.basis.elements == (1, 6, 8)
        assert np.array_equal(store["water-1"].hamiltonian.values, water_sample(1).hamiltonian.values)
        store.append(water_sample(9))
        wrong = BasisSet("sto-3g", {1: (Shell(1, 0), Shell(2, 0))}, {1: 6.0})
        with pytest.raises(BasisError, match="two different sets of shells for H"):
            store.extend_basis(wrong)
        assert store.basis.elements == (1, 6, 8)


def test_readers_and_a_writer_share_one_file(water_store, water_sample):
    with Store.open(water_store) as reader, Store.open(water_store) as second:
        assert len(reader) == len(second) == 8
        with Store.open(water_store, writable=True) as writer:
            writer.append(water_sample(8))
        assert reader.names()[-1] == "water-8"
        assert_same(second["water-8"], water_sample(8))
        with pytest.raises(FormatError, match="for reading only"):
            second.append(water_sample(9))


def test_another_process_reads_new_samples(water_store, water_sample):
    code = "import sys, pickle; s = pickle.loads(bytes.fromhex(sys.argv[1])); print(len(s), s.digest)"
    with Store.open(water_store) as store:
        pickled = pickle.dumps(store).hex()
    with Store.open(water_store, writable=True) as store:
        store.append(water_sample(8))
        out = subprocess.run([sys.executable, "-c", code, pickled], capture_output=True, text=True, check=True).stdout
        assert out.split() == ["9", store.digest]


def test_the_map_grows_with_the_data(tmp_path, water_basis, water_sample, monkeypatch):
    monkeypatch.setattr(database_module, "SMALLEST_MAP", 1 << 16)
    with Store.create(tmp_path / "s", water_basis) as store, Store.open(tmp_path / "s") as reader:
        for seed in range(30):
            store.append(water_sample(seed % 3, name=f"n{seed}", provenance={"note": "x" * 20_000}))
        assert os.path.getsize(tmp_path / "s" / "data.mdb") > 5 * (1 << 16)
        assert len(reader) == 30
        assert_same(reader["n29"], water_sample(29 % 3, name="n29", provenance={"note": "x" * 20_000}))


def test_create_never_overwrites(tmp_path, water_basis):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match="expected a new path, got one that exists"):
        Store.create(tmp_path / "notes.txt", water_basis)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_store_appears_complete_or_not_at_all(tmp_path, water_basis, water_sample):
    def add_twice() -> None:
        with new_store(tmp_path / "s", water_basis) as store:
            store.append(water_sample(0))
            store.append(water_sample(0))

    with pytest.raises(FormatError, match="expected new names"):
        add_twice()
    assert list(tmp_path.iterdir()) == []
    with new_store(tmp_path / "s", water_basis) as store:
        store.append(water_sample(0))
        assert not (tmp_path / "s").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    with Store.open(tmp_path / "s") as store:
        assert store.names() == ["water-0"]


def test_open_creates_nothing(tmp_path, water_store):
    with pytest.raises(FormatError, match="no such store"):
        Store.open(tmp_path / "nowhere", writable=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="expected a harmose store"):
        Store.open(tmp_path / "empty", writable=True)
    assert list((tmp_path / "empty").iterdir()) == []
    (water_store / "lock.mdb").unlink(missing_ok=True)
    with Store.open(water_store) as store:
        list(store)
    assert [p.name for p in water_store.iterdir()] == ["data.mdb"]


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 8192, 20_000, -4096, -1])
@pytest.mark.parametrize("writable", [False, True])
def test_error_names_truncated_file(water_store, keep, writable):
    file = water_store / "data.mdb"
    size = file.stat().st_size
    os.truncate(file, keep if keep >= 0 else size + keep)
    with pytest.raises(FormatError, match=r"water: .*(truncated|empty)"):
        Store.open(water_store, writable)
    assert file.stat().st_size == (keep if keep >= 0 else size + keep)


def test_error_names_other_files(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"hello")
    with pytest.raises(FormatError, match="expected a harmose store"):
        Store.open(file)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(os.urandom(20_000))
    with pytest.raises(FormatError, match="not a harmose store"):
        Store.open(folder)
    with lmdb.open(str(tmp_path / "foreign")) as env, env.begin(write=True) as txn:
        txn.put(b"someone", b"else's")
    with pytest.raises(FormatError, match="its metadata is unreadable"):
        Store.open(tmp_path / "foreign")


def test_error_names_another_version(water_store):
    with lmdb.open(str(water_store)) as env, env.begin(write=True) as txn:
        meta = txn.get(b"m")
        assert f'"version": {VERSION}'.encode() in meta
        txn.put(b"m", meta.replace(f'"version": {VERSION}'.encode(), b'"version": 7'))
    with pytest.raises(FormatError, match=f"expected a harmose store of version {VERSION}, got version 7"):
        Store.open(water_store)


def test_changed_metadata_raises(water_store):
    with lmdb.open(str(water_store)) as env, env.begin(write=True) as txn:
        meta = txn.get(b"m")
        assert meta.count(b'"water-7"') == 1
        txn.put(b"m", meta.replace(b'"water-7"', b'"water-5"'))
    with pytest.raises(FormatError, match="metadata is corrupt"):
        Store.open(water_store)


def test_flipped_byte_raises(water_store):
    with Store.open(water_store) as store:
        raw = store.record("water-4")
    whole = (water_store / "data.mdb").read_bytes()
    start = whole.find(raw)
    assert start > 0
    for offset in [0, 9, 200, len(raw) // 2, len(raw) - 1]:
        damaged = bytearray(whole)
        damaged[start + offset] ^= 1
        (water_store / "data.mdb").write_bytes(damaged)
        with Store.open(water_store) as store:
            with pytest.raises(FormatError, match=r"water: sample 'water-4' is corrupt"):
                store["water-4"]
            assert len(store) == 8
            assert store["water-5"].name == "water-5"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), "No space left on device"),
        (OSError(28, "full"), "full"),
    ],
)
def test_full_disk(water_store, water_sample, monkeypatch, failure, words):
    with Store.open(water_store, writable=True) as store:
        before = store.digest

        def fail(*_):
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr("harmose.data.store._next_position", fail)
            with pytest.raises(FormatError, match=f"cannot write: .*{words}.*unharmed"):
                store.append(water_sample(9))
        assert store.digest == before
        store.append(water_sample(9))
        assert_same(store["water-9"], water_sample(9))


LIMITED = """
import resource, sys
from harmose.data.store import Store
from harmose.errors import FormatError
store = Store.open(sys.argv[1], writable=True)
raw = store.record("water-0")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
added = 0
try:
    for k in range(1000):
        store.append_records([(f"copy-{k}", raw)])
        added += 1
except FormatError as error:
    print(added, error)
"""


def test_write_error_of_the_system(water_store):
    """The operating system itself refuses to let the file grow."""
    run = [sys.executable, "-c", LIMITED, str(water_store)]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    added, message = out.split(maxsplit=1)
    assert "cannot write" in message
    assert 0 < int(added) < 1000
    with Store.open(water_store) as store:
        assert len(store) == 8 + int(added)
        assert store.record(f"copy-{int(added) - 1}") == store.record("water-0")


ENDLESS = """
import sys
from harmose.data.store import Store
store = Store.open(sys.argv[1], writable=True)
raw = store.record("water-0")
for k in range(100_000):
    store.append_records([(f"copy-{k}", raw)])
    print(k, flush=True)
"""


def test_killed_writer_loses_at_most_one_sample(water_store):
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(water_store)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    confirmed = int((lines + process.stdout.read().splitlines())[-1])
    process.wait()
    with Store.open(water_store, writable=True) as store:
        assert len(store) in (8 + confirmed + 1, 8 + confirmed + 2)
        assert {store.record(f"copy-{k}") for k in range(confirmed + 1)} == {store.record("water-0")}
        store.append_records([("after", store.record("water-0"))])


READING = """
import sys
import threading
from harmose.data.store import Store
store = Store.open(sys.argv[1])
stopped = []
threading.Thread(target=lambda: stopped.append(sys.stdin.read()), daemon=True).start()
print("ready", flush=True)
while not stopped:
    store.failures
    for name in store.names()[-20:]:
        store.record(name)
"""


def test_reading_while_another_process_writes(water_store):
    """Without locks LMDB's writer reuses pages that are being read; some of these many reads would fail."""
    run = [sys.executable, "-c", READING, str(water_store)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    reader = subprocess.Popen(run, **pipes, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    with Store.open(water_store, writable=True) as store:
        raw = store.record("water-0")
        for k in range(200):
            store.append_records([(f"copy-{k}", raw)])
            store.remember_failure(f"failure-{k % 7}", "no reason")
    _, err = reader.communicate()  # closes the reader's input, which stops it
    assert (reader.returncode, err) == (0, "")


def test_radial_functions(tmp_path, water_basis):
    radial = harmose.basis("sto-3g", ["H", "O"])
    with Store.create(tmp_path / "s", water_basis) as store:
        assert store.radial is None
        with pytest.raises(BasisError, match="expected"):
            store.set_radial(harmose.basis("sto-3g", ["H"]))
        store.set_radial(radial)
    with Store.open(tmp_path / "s") as store:
        assert store.radial.basis == water_basis
        for a, b in zip(store.radial.of(8), radial.of(8)):
            np.testing.assert_array_equal(a(np.linspace(0, 2, 9)), b(np.linspace(0, 2, 9)))
        with pytest.raises(FormatError, match="for reading only"):
            store.set_radial(radial)
    carbon = harmose.basis("sto-3g", ["C"]).basis
    with Store.open(tmp_path / "s", writable=True) as store:
        store.extend_basis(BasisSet(water_basis.name, carbon.shells, carbon.radii))
        assert store.radial is None  # those of carbon are not known


def test_corrupt_radial_functions(tmp_path, water_basis):
    with Store.create(tmp_path / "s", water_basis) as store:
        store.set_radial(harmose.basis("sto-3g", ["H", "O"]))
    file = tmp_path / "s" / "data.mdb"
    file.write_bytes(file.read_bytes().replace(b"1.0.exponents", b"1.0.exponentz"))
    with Store.open(tmp_path / "s") as store, pytest.raises(FormatError, match="the radial functions are corrupt"):
        assert store.radial


def test_store_of_a_path_is_the_open_store(water_store, water_sample):
    """`harmose.Store(path)` reads, and adds samples if asked to, as `Store.open` does."""
    with Store(water_store) as store:
        assert len(store) == 8
        with pytest.raises(FormatError, match="opened for reading only"):
            store.append(water_sample(9))
    with Store(str(water_store), writable=True) as store:
        store.append(water_sample(9))
        assert "water-9" in store
    with pytest.raises(FormatError, match="nothing-here: no such store"):
        Store(water_store / "nothing-here")


def test_extend_reads_samples_while_it_writes(tmp_path, water_basis, water_sample, monkeypatch):
    """At most one transaction's samples wait, few or large ones; a generator is enough, and no sample stays alive."""
    alive, most, n_written = weakref.WeakSet(), 0, []

    def samples():
        nonlocal most
        for k in range(7):
            sample = replace(water_sample(0), name=str(k))
            alive.add(sample)
            gc.collect()
            most = max(most, len(alive))
            yield sample
            del sample

    monkeypatch.setattr("harmose.data.store.RECORDS_PER_TRANSACTION", 3)
    with Store.create(tmp_path / "s", water_basis) as store:
        write = store.append_records
        monkeypatch.setattr(store, "append_records", lambda records: n_written.append(len(records)) or write(records))
        store.extend(samples(), check=False)
        assert store.names() == list("0123456")
        monkeypatch.setattr("harmose.data.store.BYTES_PER_TRANSACTION", 0)
        store.extend((replace(s, name=f"more-{s.name}") for s in samples()), check=False)
        assert len(store) == 14
        with pytest.raises(FormatError, match="expected new names, got '0'"):
            store.extend([replace(water_sample(0), name="new"), replace(water_sample(0), name="0")])
        assert "new" in store
    assert n_written[:3] == [3, 3, 1]
    assert set(n_written[3:]) == {1}
    assert most <= 2


def test_metadata_is_read_again_only_when_it_changed(water_store, water_sample, monkeypatch):
    """The names of the splits are not parsed again for each sample that is added, which takes long for many names."""
    with Store.open(water_store, writable=True) as store:
        parsed = []
        parse = store_module._parse_meta
        monkeypatch.setattr(store_module, "_parse_meta", lambda *args: parsed.append(1) or parse(*args))
        for k in range(10, 15):
            store.append(water_sample(k))
        assert len(store) == 13
        assert parsed == []
        with Store.open(water_store, writable=True) as other:
            other.set_splits({"train": ["water-10"]})
        assert store.splits == {"train": ["water-10"]}


def test_many_failures_are_one_transaction(water_store, water_sample):
    with Store.open(water_store, writable=True) as store:
        before = store._open_database.transaction_id
        store.remember_failures({f"bad-{k}": f"reason {k}" for k in range(5)})
        assert store._open_database.transaction_id == before + 1
        assert store.failures["bad-3"] == "reason 3"
        store.remember_failures({})
        assert store._open_database.transaction_id == before + 1
