"""One LMDB file, opened once per process: read and write transactions whose failures are plain `FormatError`s.

LMDB allows a file to be mapped only once in a process, so every `Database` of one file is the same object, closed when
the last holder lets it go. The map grows with the data: a write that does not fit is repeated in a map twice as large.
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

SMALLEST_MAP = 1 << 26
"""Bytes of address space that an empty database reserves; no disk space goes with it."""

MAX_READERS = 512
"""Read transactions at one time, of all processes together."""

NEARLY_FULL = 1 << 20
"""Free bytes below which a failed write is blamed on the full disk."""

DOUBLINGS = 24
"""How often one write may double the map: 64 MiB to 1 PiB."""

_OPEN: "weakref.WeakValueDictionary[tuple[int, int], Database]" = weakref.WeakValueDictionary()
_OPEN_LOCK = threading.Lock()


def open_database(path: Path, writable: bool) -> "Database":
    """The database in directory `path`; `FormatError` when it is missing, empty, truncated or of another kind."""
    file = path / "data.mdb"
    if not path.exists():
        raise FormatError(f"{path}: no such store")
    if not file.is_file():
        raise FormatError(f"{path}: expected a harmose store (a directory with data.mdb), got something else")
    stat = file.stat()
    if stat.st_size == 0:
        raise FormatError(f"{path}: not a harmose store: data.mdb is empty")
    with _OPEN_LOCK:
        database = _OPEN.get((stat.st_dev, stat.st_ino))
        if database is None:
            database = Database(path, writable)
            _OPEN[stat.st_dev, stat.st_ino] = database
        database.path = path
        if writable:
            database.make_writable()
        return database


def create_database(path: Path) -> None:
    """An empty database in the new directory `path`."""
    path.mkdir(parents=True)
    _environment(path, writable=True, create=True).close()


def _environment(path: Path, writable: bool, create: bool = False) -> lmdb.Environment:
    file, lock_file = path / "data.mdb", path / "lock.mdb"
    size = file.stat().st_size if file.exists() else 0
    # Readers enter themselves in the lock file, or a writer would reuse pages that they still read. Where they cannot
    # (a read-only copy) they make do without: there is no writer either.
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
            env.reader_check()  # forget readers that were killed
        return env
    except lmdb.VersionMismatchError:
        raise FormatError(f"{path}: data.mdb was written by another version of LMDB") from None
    except lmdb.InvalidError:
        raise FormatError(f"{path}: not a harmose store: data.mdb is truncated or not an LMDB file") from None
    except lmdb.Error as error:
        raise FormatError(f"{path}: cannot open the store: {_reason(error)}") from None


class Database:
    """Transactions on one LMDB file; made by `open_database` alone."""

    def __init__(self, path: Path, writable: bool):
        self.path = path
        self.writable = writable
        self._lock = threading.RLock()
        self._env = _environment(path, writable)
        self._check_complete()

    def __del__(self) -> None:
        # A transaction that a traceback keeps alive must not keep the file open: LMDB would refuse to open it again.
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
        with self._lock:
            if not self.writable:
                self._env.close()
                self._env = _environment(self.path, writable=True)
                self.writable = True

    @property
    def transaction_id(self) -> int:
        """Grows with every committed write, of any process."""
        with self._lock:
            return self._env.info()["last_txnid"]

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """A consistent view of the database."""
        with self._lock:
            try:
                with self._begin_read() as transaction:
                    yield transaction
            except lmdb.Error as error:
                raise FormatError(f"{self.path}: the store is corrupt: {_reason(error)}") from None

    def _begin_read(self) -> lmdb.Transaction:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:
            # Another process has made the file larger than our map.
            self._env.set_mapsize(0)
            return self._env.begin()

    def write(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """`work` in one transaction: all of it reaches the disk, or nothing does and an error is raised."""
        with self._lock:
            for _ in range(DOUBLINGS):
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
                        f"{self.path}: cannot write: {self._why_not(error)}; what the store held before is unharmed"
                    ) from None
            raise FormatError(f"{self.path}: cannot write: the store is full; what it held before is unharmed")

    def _why_not(self, error: Exception) -> str:
        # A write that a full disk cuts short reaches us as an input/output error.
        free = shutil.disk_usage(self.path).free
        return "no space left on the disk" if free < NEARLY_FULL else _reason(error)

    def _pad(self) -> None:
        # LMDB need not write pages that one transaction allocated and freed, but a short file counts as truncated here.
        file, expected = self.path / "data.mdb", self._expected_size()
        if os.path.getsize(file) < expected:
            os.truncate(file, expected)


def _reason(error: Exception) -> str:
    """The operating system's words, without LMDB's prefix of path or function."""
    return str(error).rsplit(": ", 1)[-1]
