"""`Store`: labelled samples on disk, one checksummed record each; kill -9 and a full disk leave it whole.

Keys of the database, by their first byte:

    m          JSON: format, version, basis, spin, metadata, splits, checksum
    n + name   position of the sample (8 bytes, big-endian) and BLAKE2b digest of its record (32 bytes)
    s + pos.   the record: a safetensors file (`data.record`)
    f + name   why this structure could not be labelled

Every change is one transaction. Records are written once and never changed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lmdb

from harmose.core.basis import BasisSet
from harmose.core.files import atomic_path
from harmose.core.sample import Sample, check_sample
from harmose.data.database import Database, create_database, open_database
from harmose.data.record import decode, encode, read_header
from harmose.errors import BasisError, FormatError, HarmoseError
from harmose.spin import Spin

FORMAT = "harmose-store"
VERSION = 1

META, NAME, RECORD, FAILURE = b"m", b"n", b"s", b"f"
LONGEST_NAME = 500
"""Bytes; an LMDB key has at most 511."""


@dataclass(frozen=True)
class Meta:
    """What the whole store has in common."""

    basis: BasisSet
    spin: Spin
    metadata: Mapping[str, Any]
    splits: Mapping[str, list[str]]

    def to_json(self) -> bytes:
        content = {
            "format": FORMAT,
            "version": VERSION,
            "basis": json.loads(self.basis.to_json()),
            "spin": self.spin.value,
            "metadata": dict(self.metadata),
            "splits": dict(self.splits),
        }
        content = json.loads(json.dumps(content))  # keys as they will be read: text
        return json.dumps(content | {"checksum": _checksum(content)}).encode()


def _checksum(content: Mapping[str, Any]) -> str:
    return _digest(json.dumps(content, sort_keys=True).encode()).hex()


def _parse_meta(raw: bytes | None, where: Path) -> Meta:
    try:
        content = json.loads(raw or b"")
        version = content["version"] if content["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{where}: not a harmose store: it has no readable description of itself") from None
    if version != VERSION:
        raise FormatError(f"{where}: expected a harmose store of version {VERSION}, got version {version}")
    checksum = content.pop("checksum", None)
    if checksum is not None and checksum != _checksum(content):
        raise FormatError(f"{where}: the store's description of itself is corrupt: its checksum does not match")
    try:
        splits = {str(name): [str(sample) for sample in samples] for name, samples in content["splits"].items()}
        basis = BasisSet.from_json(json.dumps(content["basis"]))
        return Meta(basis, Spin(content["spin"]), dict(content["metadata"]), splits)
    except (BasisError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{where}: the store's description of itself is corrupt ({error})") from None


class Store:
    """Samples of one basis set and spin kind, by name and in order of insertion.

    `Store.create(path, basis)` makes a new one, `Store.open(path)` reads, `Store.open(path, writable=True)` adds. Many
    processes may read at once, also while one writes; iteration and indexing give `Sample`s. A store is a context
    manager. Anything unreadable raises `FormatError` with the store's path and the sample's name.
    """

    def __init__(self, database: Database, writable: bool):
        """Use `Store.open` or `Store.create`."""
        self._database: Database | None = database
        self.path = database.path
        self.writable = writable
        self._seen: tuple[int, Meta, dict[str, tuple[bytes, bytes]] | None] = (-1, self._read_meta(), None)

    @staticmethod
    def create(
        path: str | Path, basis: BasisSet, spin: Spin = Spin.NONE, metadata: Mapping[str, Any] | None = None
    ) -> "Store":
        """A new, empty, writable store; `FormatError` when `path` exists. It appears complete or not at all."""
        with new_store(path, basis, spin, metadata):
            pass
        return Store.open(path, writable=True)

    @staticmethod
    def open(path: str | Path, writable: bool = False) -> "Store":
        """An existing store; nothing is created. `FormatError` when it is not one, or of another version."""
        return Store(open_database(Path(path), writable), writable)

    def close(self) -> None:
        self._database = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self):
        return Store.open, (str(self.path), self.writable)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def _open_database(self) -> Database:
        if self._database is None:
            raise FormatError(f"{self.path}: the store is closed")
        return self._database

    @property
    def basis(self) -> BasisSet:
        return self._meta.basis

    @property
    def spin(self) -> Spin:
        return self._meta.spin

    @property
    def metadata(self) -> dict[str, Any]:
        """What was given at creation: the settings of the labelling."""
        return dict(self._meta.metadata)

    @property
    def splits(self) -> dict[str, list[str]]:
        """Names of the samples of each split, e.g. train, val, test."""
        return {name: list(samples) for name, samples in self._meta.splits.items()}

    def set_splits(self, splits: Mapping[str, Iterable[str]]) -> None:
        """Replace the splits; `FormatError` for a name that the store does not have, or that is in two splits."""
        chosen = {str(split): list(names) for split, names in splits.items()}
        seen: dict[str, str] = {}
        for split, names in chosen.items():
            for name in names:
                if name not in self._entries:
                    raise FormatError(f"{self.path}: split {split} names the sample {name!r}, which the store lacks")
                if name in seen:
                    raise FormatError(f"{self.path}: sample {name!r} is in the splits {seen[name]} and {split}")
                seen[name] = split
        self._change_meta(lambda meta: replace(meta, splits=chosen))

    def extend_basis(self, basis: BasisSet) -> None:
        """Add the elements of `basis`; `BasisError` where the two disagree about an element."""
        self._change_meta(lambda meta: replace(meta, basis=meta.basis.merged(basis)))

    def _change_meta(self, change: Callable[[Meta], Meta]) -> None:
        self._check_writable()
        self._open_database.write(lambda txn: txn.put(META, change(_parse_meta(_get(txn, META), self.path)).to_json()))

    def _read_meta(self) -> Meta:
        with self._open_database.read() as txn:
            raw = _get(txn, META)
        return _parse_meta(raw, self.path)

    def _refresh(self) -> tuple[int, Meta, dict[str, tuple[bytes, bytes]] | None]:
        now = self._open_database.transaction_id
        if self._seen[0] != now:
            fresh, old = self._read_meta(), self._seen[1]
            self._seen = (now, old if fresh == old else fresh, None)
        return self._seen

    @property
    def _meta(self) -> Meta:
        return self._refresh()[1]

    @property
    def _entries(self) -> dict[str, tuple[bytes, bytes]]:
        """Position and digest of every sample, in order of insertion."""
        now, meta, entries = self._refresh()
        if entries is None:
            with self._open_database.read() as txn:
                found = [(key, self._entry(key, value)) for key, value in _with_prefix(txn, NAME)]
            entries = dict(sorted(found, key=lambda item: item[1][0]))
            self._seen = (now, meta, entries)
        return entries

    def _entry(self, name: str, value: bytes) -> tuple[bytes, bytes]:
        if len(value) != 40:
            raise FormatError(f"{self.path}: sample {name!r} is corrupt: its entry has {len(value)} bytes, not 40")
        return value[:8], value[8:]

    def names(self) -> list[str]:
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        with self._open_database.read() as txn:
            return _get(txn, NAME + name.encode()) is not None

    def __iter__(self) -> Iterator[Sample]:
        return (self[name] for name in self.names())

    def __getitem__(self, name: str) -> Sample:
        """The sample; `FormatError` when the store does not have it or its record is corrupt."""
        raw, basis = self.record(name), self.basis
        try:
            return decode(raw, name, basis)
        except (HarmoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{self.path}: sample {name!r} is unreadable: {error}") from None

    def provenance(self, name: str) -> dict[str, Any]:
        """What the labelling code noted about a sample, without decoding its matrices."""
        return read_header(self.record(name))["provenance"]

    def record(self, name: str) -> bytes:
        """The sample's verified record as it lies on disk."""
        with self._open_database.read() as txn:
            value = _get(txn, NAME + name.encode())
            if value is None:
                raise FormatError(f"{self.path}: no sample named {name!r}")
            position, digest = self._entry(name, value)
            raw = _get(txn, RECORD + position)
        if raw is None or _digest(raw) != digest:
            raise FormatError(f"{self.path}: sample {name!r} is corrupt: its checksum does not match")
        return raw

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the sorted digests of all records: the same for the same samples in any order."""
        return hashlib.sha256(b"".join(sorted(digest for _, digest in self._entries.values()))).hexdigest()

    def append(self, sample: Sample, check: bool = True) -> None:
        """Add a sample, all of it or nothing. `check=False` leaves out `check_sample`.

        Raises `FormatError` for a name that is taken, `BasisError` or `FormatError` for another basis or spin, what
        `check_sample` raises for a bad sample, and `FormatError` when the disk is full.
        """
        self.append_all([sample], check)

    def append_all(self, samples: Iterable[Sample], check: bool = True) -> None:
        """Add samples in one transaction, all of them or none: writing waits for the disk once. Arguments and errors as of `append`."""
        self._check_writable()
        records = []
        for sample in samples:
            self.check_fits(sample)
            if check:
                check_sample(sample)
            records.append((sample.name, encode(sample)))
        self.append_records(records)

    def check_fits(self, sample: Sample) -> None:
        """Raise `FormatError` or `BasisError` unless the sample has the store's spin kind and basis set."""
        elements = set(sample.structure.numbers.tolist())
        if sample.spin is not self.spin:
            raise FormatError(f"{self.path}: expected spin {self.spin}, got {sample.spin} in sample {sample.name!r}")
        if self.basis.restricted(elements) != sample.basis.restricted(elements):
            raise BasisError(
                f"{self.path}: expected basis {self.basis.name} with the store's shells and radii, got another one "
                f"({sample.basis.name}) in sample {sample.name!r}"
            )

    def append_records(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Add names and records that `Store.record` of a store with the same basis and spin has given: all or none."""
        self._check_writable()
        for name, _ in records:
            if not 0 < len(name.encode()) <= LONGEST_NAME:
                raise FormatError(
                    f"{self.path}: expected a sample name of 1 to {LONGEST_NAME} bytes, got {len(name.encode())}"
                )

        def add(txn: lmdb.Transaction) -> None:
            for name, raw in records:
                key, position = name.encode(), _next_position(txn)
                if not txn.put(NAME + key, position + _digest(raw), overwrite=False):
                    raise FormatError(f"{self.path}: expected new names, got {name!r}, which the store already has")
                txn.put(RECORD + position, raw)
                txn.delete(FAILURE + key)

        self._open_database.write(add)

    def remember_failure(self, name: str, reason: str) -> None:
        """Note why a structure could not be labelled; forgotten once a sample of this name is appended."""
        self._check_writable()
        key, value = FAILURE + name.encode()[:LONGEST_NAME], reason.encode()
        self._open_database.write(lambda txn: txn.put(key, value))

    @property
    def failures(self) -> dict[str, str]:
        """Reason by name."""
        with self._open_database.read() as txn:
            return {name: value.decode(errors="replace") for name, value in _with_prefix(txn, FAILURE)}

    def _check_writable(self) -> None:
        if not self.writable:
            raise FormatError(f"{self.path}: the store was opened for reading only")


@contextmanager
def new_store(
    path: str | Path, basis: BasisSet, spin: Spin = Spin.NONE, metadata: Mapping[str, Any] | None = None
) -> Iterator[Store]:
    """A writable store that appears at `path` when the block ends well, and not at all when it raises."""
    with atomic_path(path, overwrite=False) as hidden:
        create_database(hidden)
        meta = Meta(basis, spin, dict(metadata or {}), {})
        open_database(hidden, writable=True).write(lambda txn: txn.put(META, meta.to_json()))
        with Store.open(hidden, writable=True) as store:
            yield store


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=32).digest()


def _get(txn: lmdb.Transaction, key: bytes) -> bytes | None:
    value = txn.get(key)
    return None if value is None else bytes(value)


def _with_prefix(txn: lmdb.Transaction, prefix: bytes) -> Iterator[tuple[str, bytes]]:
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    while found and cursor.key()[:1] == prefix:
        yield bytes(cursor.key())[1:].decode(errors="replace"), bytes(cursor.value())
        found = cursor.next()


def _next_position(txn: lmdb.Transaction) -> bytes:
    # RECORD is the greatest prefix, so the last key of the database is the last record.
    cursor = txn.cursor()
    last = int.from_bytes(cursor.key()[1:], "big") if cursor.last() and cursor.key()[:1] == RECORD else -1
    return (last + 1).to_bytes(8, "big")
