"""Transactions on an LMDB file: sharing in a process, growth, roll back, errors."""

import gc
from pathlib import Path

import lmdb
import pytest

from harmose.data import database
from harmose.data.database import create_database, open_database
from harmose.errors import FormatError


@pytest.fixture
def path(tmp_path):
    create_database(tmp_path / "db")
    return tmp_path / "db"


def stored(path) -> dict[bytes, bytes]:
    with open_database(path, writable=False).read() as transaction:
        return {bytes(key): bytes(value) for key, value in transaction.cursor()}


def test_one_object_for_one_file(path):
    reader = open_database(path, writable=False)
    assert not reader.writable
    writer = open_database(path, writable=True)
    assert writer is reader
    assert reader.writable


def test_write_and_read(path):
    db = open_database(path, writable=True)
    before = db.transaction_id
    assert db.write(lambda transaction: transaction.put(b"key", b"value")) is True
    assert db.transaction_id > before
    assert stored(path) == {b"key": b"value"}


def test_failed_write_changes_nothing(path):
    db = open_database(path, writable=True)

    def fail(transaction):
        transaction.put(b"key", b"value")
        raise OSError(5, "Input/output error")

    with pytest.raises(FormatError, match=r"db: cannot write: .*Input/output error; what the store held before"):
        db.write(fail)
    assert stored(path) == {}


def test_map_grows(path, monkeypatch):
    monkeypatch.setattr(database, "SMALLEST_MAP", 1 << 16)
    db = open_database(path, writable=True)
    for k in range(4):
        db.write(lambda transaction, k=k: transaction.put(bytes([k]), bytes(1 << 17)))
    assert [len(value) for value in stored(path).values()] == [1 << 17] * 4


def test_write_larger_than_every_map_raises(path, monkeypatch):
    monkeypatch.setattr(database, "DOUBLINGS", 2)
    db = open_database(path, writable=True)

    def full(transaction):
        raise lmdb.MapFullError("mdb_put: MDB_MAP_FULL")

    with pytest.raises(FormatError, match=r"db: cannot write: the store is full"):
        db.write(full)


def test_errors_of_paths(tmp_path):
    with pytest.raises(FormatError, match="missing: no such store"):
        open_database(tmp_path / "missing", writable=False)
    with pytest.raises(FormatError, match=r"expected a harmose store \(a folder with data\.mdb\)"):
        open_database(tmp_path, writable=False)
    (tmp_path / "data.mdb").write_bytes(b"")
    with pytest.raises(FormatError, match=r"data\.mdb is empty"):
        open_database(tmp_path, writable=False)


def test_pages_that_were_read_are_given_back(path, monkeypatch):
    """After many bytes the file is mapped anew, but not within a transaction, nor if another file has its name."""
    monkeypatch.setattr(database, "MAPPED_AT_MOST", 10)
    db = open_database(path, writable=True)
    db.write(lambda transaction: transaction.put(b"key", b"value"))
    first = db._env
    with db.read() as outer:
        db.n_bytes += 11
        with db.read() as inner:
            assert inner.get(b"key") == b"value"
        assert outer.get(b"key") == b"value"
        assert db._env is first
    assert stored(path) == {b"key": b"value"}
    second = db._env
    assert second is not first
    db.n_bytes += 11
    db.write(lambda transaction: transaction.put(b"key", b"other"))
    assert db._env is not second
    third = db._env
    path.rename(path.with_name("moved"))
    create_database(path)
    db.n_bytes += 11
    with db.read() as transaction:
        assert transaction.get(b"key") == b"other"
    assert db._env is third


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_what_is_read(path):
    """300 MB of values are read; the pages that the process holds stay near the 64 MB after which it lets go of them."""

    def file_pages() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))

    db = open_database(path, writable=True)
    for k in range(75):
        db.write(lambda transaction, k=k: transaction.put(b"%d" % k, bytes(4 << 20)))
    del db
    gc.collect()
    db, before, most = open_database(path, writable=False), file_pages(), 0
    for k in range(75):
        with db.read() as transaction:
            db.n_bytes += len(bytes(transaction.get(b"%d" % k)))
        most = max(most, file_pages() - before)
    assert most < 2 * database.MAPPED_AT_MOST
