"""One LMDB file, opened once per process: read and write transactions that raise `FormatError` when they fail.

LMDB maps a file into memory only once in a process, so all users of a file share one `Database`; it is closed with its
last user. A write that does not fit into the map is repeated in a map twice as large.
"""

import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lmdb

from harmose.errors import FormatError

T = TypeVar("T")

MAPPED_AT_MOST = 1 << 26
"""Bytes that are read or written before the file is mapped anew: its pages count as memory of the process until then."""

SMALLEST_MAP = 1 << 26
"""Bytes of address space, not of disk space, that an empty database reserves."""

MAX_READERS = 512
"""Largest number of read transactions at one time, in all processes together."""

NEARLY_FULL = 1 << 20
"""Free bytes on a disk below which a failed write is reported as a full disk."""

DOUBLINGS = 24
"""Number of times that one write may double the map: 64 MiB to 1 PiB."""

_OPEN: "weakref.WeakValueDictionary[tuple[int, int], Database]" = weakref.WeakValueDictionary()
_OPEN_LOCK = threading.Lock()


def open_database(path: Path, writable: bool) -> "Database":
    """The database in the folder `path`. Raises `FormatError` if it is missing, empty, truncated or of another kind."""
    file = path / "data.mdb"
    if not path.exists():
        raise FormatError(f"{path}: no such store")
    if not file.is_file():
        raise FormatError(f"{path}: expected a harmose store (a folder with data.mdb), got something else")
    stat = file.stat()
    if stat.st_size == 0:
        raise FormatError(f"{path}: not a harmose store: data.mdb is empty")
    with _OPEN_LOCK:
        database = _OPEN.get(_file_id(path))
        if database is None:
            database = Database(path, writable)
            _OPEN[_file_id(path)] = database
        database.path = path
        if writable:
            database.make_writable()
        return database


def _file_id(path: Path) -> tuple[int, int]:
    stat = (path / "data.mdb").stat()
    return stat.st_dev, stat.st_ino


def create_database(path: Path) -> None:
    """Make an empty database in the new folder `path`."""
    path.mkdir(parents=True)
    _environment(path, writable=True, create=True).close()


def _environment(path: Path, writable: bool, create: bool = False) -> lmdb.Environment:
    file, lock_file = path / "data.mdb", path / "lock.mdb"
    size = file.stat().st_size if file.exists() else 0
    # The lock file lists readers, so that a writer does not reuse pages that they still read. A read-only copy, where
    # readers cannot write to it, has no writer either and needs no lock.
    lock = writable or (lock_file.exists() and os.access(lock_file, os.R_OK | os.W_OK))
    try:
        env = lmdb.open(
            str(path),
            map_size=max(SMALLEST_MAP, 2 * size),
            readonly=not writable,
            lock=lock,
            create=create,
            max_readers=MAX_READERS,
        )
        if lock:
            env.reader_check()  # removes readers that were killed from the list
        return env
    except lmdb.VersionMismatchError:
        raise FormatError(f"{path}: data.mdb was written by another version of LMDB") from None
    except lmdb.InvalidError:
        raise FormatError(f"{path}: not a harmose store: data.mdb is truncated or not an LMDB file") from None
    except lmdb.Error as error:
        raise FormatError(f"{path}: cannot open the store: {_reason(error)}") from None


class Database:
    """Transactions on one LMDB file; only `open_database` makes one."""

    def __init__(self, path: Path, writable: bool):
        self.path = path
        self.writable = writable
        self.n_bytes = 0
        """Bytes read and written since the file was mapped; whoever reads or writes much adds to it in the transaction."""
        self._file_id = _file_id(path)
        self._n_transactions = 0
        self._lock = threading.RLock()
        self._env = _environment(path, writable)
        self._check_complete()

    def __del__(self) -> None:
        # A traceback can keep a transaction alive; were the file still open then, LMDB could not open it again.
        if (env := getattr(self, "_env", None)) is not None:
            env.close()

    def _expected_size(self) -> int:
        return (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]

    def _check_complete(self) -> None:
        # Reading a page beyond the end of a mapped file would kill the process with SIGBUS.
        size, expected = os.path.getsize(self.path / "data.mdb"), self._expected_size()
        if size < expected:
            self._env.close()
            raise FormatError(f"{self.path}: data.mdb is truncated: expected at least {expected} bytes, got {size}")

    def make_writable(self) -> None:
        """Open the file again for writing, unless it is already."""
        with self._lock:
            if not self.writable:
                self._env.close()
                self._env = _environment(self.path, writable=True)
                self.writable = True

    @property
    def transaction_id(self) -> int:
        """Number that each committed write of any process increases."""
        with self._lock:
            return self._env.info()["last_txnid"]

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """Read transaction: a view of the database that later writes do not change."""
        with self._lock:
            self._release_memory()
            self._n_transactions += 1
            try:
                with self._begin_read() as transaction:
                    yield transaction
            except lmdb.Error as error:
                raise FormatError(f"{self.path}: the store is corrupt: {_reason(error)}") from None
            finally:
                self._n_transactions -= 1

    def _release_memory(self) -> None:
        if self.n_bytes <= MAPPED_AT_MOST or self._n_transactions:
            return
        self.n_bytes = 0
        try:
            same = _file_id(self.path) == self._file_id
        except OSError:
            same = False
        if same:  # else the store was moved or replaced, and its old file lives as long as this map
            self._env.close()
            self._env = _environment(self.path, self.writable)

    def _begin_read(self) -> lmdb.Transaction:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:
            # Another process has made the file larger than our map.
            self._env.set_mapsize(0)
            return self._env.begin()

    def write(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Run `work` in one transaction: all of it reaches the disk, or nothing does and `FormatError` is raised."""
        with self._lock:
            self._release_memory()
            for _ in range(DOUBLINGS):
                self._n_transactions += 1
                try:
                    with self._env.begin(write=True) as transaction:
                        result = work(transaction)
                    self._pad()
                    return result
                except lmdb.MapFullError:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)
                except (lmdb.Error, OSError) as error:
                    raise FormatError(
                        f"{self.path}: cannot write: {self._cause(error)}; what the store held before is unharmed"
                    ) from None
                finally:
                    self._n_transactions -= 1
            raise FormatError(f"{self.path}: cannot write: the store is full; what it held before is unharmed")

    def _cause(self, error: Exception) -> str:
        # LMDB reports a write that a full disk cuts short as an input/output error.
        free = shutil.disk_usage(self.path).free
        return "no space left on the disk" if free < NEARLY_FULL else _reason(error)

    def _pad(self) -> None:
        # LMDB does not always write pages that a transaction allocated and freed; `_check_complete` needs their space.
        file, expected = self.path / "data.mdb", self._expected_size()
        if os.path.getsize(file) < expected:
            os.truncate(file, expected)


def _reason(error: Exception) -> str:
    """Message of the operating system, without LMDB's prefix of path or function."""
    return str(error).rsplit(": ", 1)[-1]
