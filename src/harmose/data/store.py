"""`Store`: samples on disk, one record with a checksum for each. A killed process or a full disk does not damage it.

Keys of the database, by their first byte:

    m          JSON: format, version, basis, spin, metadata, splits, checksum
    r          radial functions of the basis set, if they are known: BLAKE2b digest and a safetensors file
    n + name   position of the sample (8 bytes, big-endian) and BLAKE2b digest of its record (32 bytes)
    s + pos.   the record: a safetensors file (`data.record`)
    f + name   reason why this structure could not be labelled

Each change is one transaction. Records are written once and never changed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lmdb
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from harmose.core.basis import BasisSet
from harmose.core.files import atomic_path
from harmose.core.radial import RadialBasis
from harmose.core.sample import Sample, check_sample
from harmose.core.species import species_of
from harmose.data.database import Database, create_database, open_database
from harmose.data.record import decode, encode, read_header
from harmose.errors import BasisError, FormatError, HarmoseError
from harmose.spin import Spin

FORMAT = "harmose-store"
VERSION = 1

META, NAME, RECORD, FAILURE, RADIAL = b"m", b"n", b"s", b"f", b"r"
RECORDS_PER_TRANSACTION, BYTES_PER_TRANSACTION = 64, 1 << 26
"""Most records that are written at once, and bytes after which fewer are: each transaction waits for the disk."""

LONGEST_NAME = 500
"""Largest number of bytes of a name; an LMDB key has at most 511."""


@dataclass(frozen=True)
class Meta:
    """Properties of a whole store; see `Store`."""

    basis: BasisSet
    spin: Spin
    metadata: Mapping[str, Any]
    splits: Mapping[str, list[str]]

    def to_json(self) -> bytes:
        """JSON text with a checksum."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "basis": json.loads(self.basis.to_json()),
            "spin": self.spin.value,
            "metadata": dict(self.metadata),
            "splits": dict(self.splits),
        }
        content = json.loads(json.dumps(content))  # turns keys into text, as they will be read
        return json.dumps(content | {"checksum": _checksum(content)}).encode()


def _checksum(content: Mapping[str, Any]) -> str:
    return _digest(json.dumps(content, sort_keys=True).encode()).hex()


def _parse_meta(raw: bytes | None, where: Path) -> Meta:
    try:
        content = json.loads(raw or b"")
        version = content["version"] if content["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{where}: not a harmose store: its metadata is unreadable") from None
    if version != VERSION:
        raise FormatError(f"{where}: expected a harmose store of version {VERSION}, got version {version}")
    checksum = content.pop("checksum", None)
    if checksum is not None and checksum != _checksum(content):
        raise FormatError(f"{where}: the store's metadata is corrupt: its checksum does not match")
    try:
        splits = {str(name): [str(sample) for sample in samples] for name, samples in content["splits"].items()}
        basis = BasisSet.from_json(json.dumps(content["basis"]))
        return Meta(basis, Spin(content["spin"]), dict(content["metadata"]), splits)
    except (BasisError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{where}: the store's metadata is corrupt ({error})") from None


class Store:
    """Samples of one basis set and one spin kind on disk, by name and in order of insertion.

    Many processes may read at once, also while one writes. Iteration and indexing return `Sample` objects. A store is a
    context manager. All methods raise `FormatError`, with the path of the store, if the file cannot be read.

    Attributes:
        path: folder of the store.
        writable: True if samples can be added.

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> with harmose.Store.create("predictions", h.basis) as store:
        ...     store.append(harmose.Sample("water", water, h.basis, h))
        >>> store = harmose.Store.open("predictions")
        >>> store
        Store('predictions', 1 sample, spin none, basis 'def2-svp')
        >>> [sample.name for sample in store], store["water"].hamiltonian.n_orbitals
        (['water'], 24)
    """

    def __init__(self, path: str | Path, writable: bool = False):
        """Open an existing store, as `Store.open` does; `Store.create` makes a new one.

        Args:
            path: folder of the store.
            writable: True to add samples.

        Raises:
            FormatError: for a folder that is not a store, or a store of another version.
        """
        self._database: Database | None = open_database(Path(path), writable)
        self.path = self._database.path
        self.writable = writable
        # The metadata as last read, as bytes and as an object.
        self._raw_meta, self._known_meta = self._read_meta()
        # Number of the last transaction read, and the samples' places at that time.
        self._cache: tuple[int, dict[str, tuple[bytes, bytes]] | None] = (-1, None)

    @staticmethod
    def create(
        path: str | Path, basis: BasisSet, spin: Spin = Spin.NONE, metadata: Mapping[str, Any] | None = None
    ) -> "Store":
        """Make a new, empty store and open it for writing; it appears complete or not at all.

        Args:
            path: folder of the store; must not exist.
            basis: basis set of all samples.
            spin: spin kind of all samples.
            metadata: settings that all samples share, as JSON values.

        Returns:
            The store, open for writing.

        Raises:
            FormatError: for a path that exists.
        """
        with new_store(path, basis, spin, metadata):
            pass
        return Store.open(path, writable=True)

    @staticmethod
    def open(path: str | Path, writable: bool = False) -> "Store":
        """Open an existing store.

        Args:
            path: folder of the store.
            writable: True to add samples; False leaves the folder unchanged.

        Returns:
            The store.

        Raises:
            FormatError: for a folder that is not a store, or a store of another version.
        """
        return Store(path, writable)

    def close(self) -> None:
        """Close the store; its methods raise `FormatError` from then on."""
        self._database = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self):
        return Store.open, (str(self.path), self.writable)

    def __repr__(self) -> str:
        if self._database is None:
            return f"Store({str(self.path)!r}, closed)"
        samples = f"{len(self)} sample{'' if len(self) == 1 else 's'}"
        return f"Store({str(self.path)!r}, {samples}, spin {self.spin}, basis {self.basis.name!r})"

    @property
    def _open_database(self) -> Database:
        if self._database is None:
            raise FormatError(f"{self.path}: the store is closed")
        return self._database

    @property
    def basis(self) -> BasisSet:
        """Basis set of all samples."""
        return self._meta.basis

    @property
    def spin(self) -> Spin:
        """Spin kind of all samples."""
        return self._meta.spin

    @property
    def metadata(self) -> dict[str, Any]:
        """Settings that all samples share, as passed to `create`."""
        return dict(self._meta.metadata)

    @property
    def splits(self) -> dict[str, list[str]]:
        """Names of the samples of each split, such as train, val and test."""
        return {name: list(samples) for name, samples in self._meta.splits.items()}

    def set_splits(self, splits: Mapping[str, Iterable[str]]) -> None:
        """Replace all splits.

        Args:
            splits: names of the samples of each split.

        Raises:
            FormatError: for a name that the store lacks, or that is in two splits.
        """
        chosen = {str(split): list(names) for split, names in splits.items()}
        split_of: dict[str, str] = {}
        for split, names in chosen.items():
            for name in names:
                if name not in self._entries:
                    raise FormatError(f"{self.path}: split {split} names the sample {name!r}, which the store lacks")
                if name in split_of:
                    raise FormatError(f"{self.path}: sample {name!r} is in the splits {split_of[name]} and {split}")
                split_of[name] = split
        self._change_meta(lambda meta: replace(meta, splits=chosen))

    @property
    def radial(self) -> RadialBasis | None:
        """Radial functions of the basis set, for S of predictions; None where they are not known for all elements."""
        with self._open_database.read() as txn:
            raw = _get(txn, RADIAL)
        if raw is None:
            return None
        if _digest(raw[32:]) != raw[:32]:
            raise FormatError(f"{self.path}: the radial functions are corrupt: their checksum does not match")
        try:
            arrays = load_arrays(raw[32:])
            if {int(name.partition(".")[0]) for name in arrays} != set(self.basis.elements):
                return None  # the store has more elements than when they were written
            return RadialBasis.from_arrays(self.basis, arrays)
        except (SafetensorError, BasisError, ValueError) as error:
            raise FormatError(f"{self.path}: the radial functions are corrupt ({error})") from None

    def set_radial(self, radial: RadialBasis) -> None:
        """Keep the radial functions of the basis set, so that models of these samples can compute S.

        Args:
            radial: radial functions of all elements of the store.

        Raises:
            BasisError: they are those of other shells, or an element is missing.
        """
        self._check_writable()
        content = save_arrays(radial.like(self.basis).to_arrays())
        self._open_database.write(lambda txn: txn.put(RADIAL, _digest(content) + content))

    def extend_basis(self, basis: BasisSet) -> None:
        """Add elements to the store's basis set.

        Args:
            basis: basis set of the same name; elements that the store has must be the same.

        Raises:
            BasisError: for other shells or radii of an element.
        """
        self._change_meta(lambda meta: replace(meta, basis=meta.basis.merged(basis)))

    def _change_meta(self, change: Callable[[Meta], Meta]) -> None:
        self._check_writable()
        self._open_database.write(lambda txn: txn.put(META, change(_parse_meta(_get(txn, META), self.path)).to_json()))

    def _read_meta(self) -> tuple[bytes | None, Meta]:
        with self._open_database.read() as txn:
            raw = _get(txn, META)
        return raw, _parse_meta(raw, self.path)

    def _refresh(self) -> tuple[int, dict[str, tuple[bytes, bytes]] | None]:
        now = self._open_database.transaction_id
        if self._cache[0] != now:
            with self._open_database.read() as txn:
                unchanged = _get(txn, META) == self._raw_meta
            if not unchanged:  # names of all splits: too long to parse after each sample that is added
                self._raw_meta, self._known_meta = self._read_meta()
            self._cache = (now, None)
        return self._cache

    @property
    def _meta(self) -> Meta:
        self._refresh()
        return self._known_meta

    @property
    def _entries(self) -> dict[str, tuple[bytes, bytes]]:
        """Position and digest of each sample, in order of insertion."""
        now, entries = self._refresh()
        if entries is None:
            with self._open_database.read() as txn:
                pairs = [(key, self._entry(key, value)) for key, value in _with_prefix(txn, NAME)]
            entries = dict(sorted(pairs, key=lambda pair: pair[1][0]))
            self._cache = (now, entries)
        return entries

    def _entry(self, name: str, value: bytes) -> tuple[bytes, bytes]:
        if len(value) != 40:
            raise FormatError(f"{self.path}: sample {name!r} is corrupt: its entry has {len(value)} bytes, not 40")
        return value[:8], value[8:]

    def names(self) -> list[str]:
        """Names of all samples, in order of insertion.

        Returns:
            The names.
        """
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
        """The sample with this name.

        Raises:
            FormatError: for a name that the store lacks, and for a corrupt record.
        """
        raw, basis = self.record(name), self.basis
        try:
            return decode(raw, name, basis)
        except (HarmoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{self.path}: sample {name!r} is unreadable: {error}") from None

    def provenance(self, name: str) -> dict[str, Any]:
        """`Sample.provenance` of one sample, read without its matrices.

        Args:
            name: name of the sample.

        Returns:
            JSON values: code, version, functional, cycles, group, ...

        Raises:
            FormatError: for a name that the store lacks, and for a corrupt record.
        """
        return read_header(self.record(name))["provenance"]

    def record(self, name: str) -> bytes:
        """The bytes of a sample on disk, with verified checksum.

        Args:
            name: name of the sample.

        Returns:
            The record, as `append_records` of another store takes it.

        Raises:
            FormatError: for a name that the store lacks, and for a corrupt record.
        """
        with self._open_database.read() as txn:
            value = _get(txn, NAME + name.encode())
            if value is None:
                raise FormatError(f"{self.path}: no sample named {name!r}")
            position, digest = self._entry(name, value)
            raw = _get(txn, RECORD + position)
            self._open_database.n_bytes += len(raw or b"")
        if raw is None or _digest(raw) != digest:
            raise FormatError(f"{self.path}: sample {name!r} is corrupt: its checksum does not match")
        return raw

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal digits over all records; depends on the samples, not on their order."""
        return hashlib.sha256(b"".join(sorted(digest for _, digest in self._entries.values()))).hexdigest()

    def append(self, sample: Sample, check: bool = True) -> None:
        """Add one sample, all of it or nothing.

        Args:
            sample: a sample of the store's basis set and spin kind, with a new name.
            check: False to skip `check_sample`.

        Raises:
            FormatError: for a name that the store has, another spin kind, or a full disk.
            BasisError: for another basis set.
            MatrixError: for operators that fail `check_sample`.
            StructureError: for a structure that fails `check_sample`.
        """
        self.append_all([sample], check)

    def append_all(self, samples: Iterable[Sample], check: bool = True) -> None:
        """Add samples in one transaction, which waits for the disk only once: all of them or none.

        Args:
            samples: samples as in `append`.
            check: False to skip `check_sample`.

        Raises:
            HarmoseError: the errors of `append`.
        """
        self._check_writable()
        records = []
        for sample in samples:
            self.check_fits(sample)
            if check:
                check_sample(sample)
            records.append((sample.name, encode(sample)))
        self.append_records(records)

    def check_fits(self, sample: Sample) -> None:
        """Check that a sample has the store's spin kind and basis set.

        Args:
            sample: a sample with any name.

        Raises:
            FormatError: for another spin kind.
            BasisError: for another basis set.
        """
        elements = set(species_of(sample.structure).tolist())
        if sample.spin is not self.spin:
            # Not the store's path: a new store has a hidden one until it is complete.
            raise FormatError(
                f"sample {sample.name!r}: expected spin {self.spin}, got {sample.spin}; the samples of a store have one spin kind"
            )
        if self.basis.restricted(elements) != sample.basis.restricted(elements):
            raise BasisError(
                f"sample {sample.name!r}: expected basis {self.basis.name} with the store's shells and radii, got another one "
                f"({sample.basis.name})"
            )

    def extend(self, samples: Iterable[Sample], check: bool = True) -> None:
        """Add any number of samples, some in each transaction, while they are made; memory does not grow with their number.

        Args:
            samples: samples as in `append`. After an error those that are on disk stay there.
            check: False to skip `check_sample`.

        Raises:
            HarmoseError: the errors of `append`.
        """

        def records() -> Iterator[tuple[str, bytes]]:
            for sample in samples:
                self.check_fits(sample)
                if check:
                    check_sample(sample)
                yield sample.name, encode(sample)

        self._check_writable()
        self.extend_records(records())

    def extend_records(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Add any number of records of another store, some in each transaction.

        Args:
            records: name and `Store.record` of each sample.

        Raises:
            FormatError: as in `append_records`.
        """
        batch, size = [], 0
        for name, raw in records:
            batch.append((name, raw))
            size += len(raw)
            if len(batch) == RECORDS_PER_TRANSACTION or size > BYTES_PER_TRANSACTION:
                self.append_records(batch)
                batch, size = [], 0
        if batch:
            self.append_records(batch)

    def append_records(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Add records of another store with the same basis set and spin kind: all of them or none.

        Args:
            records: name and `Store.record` of each sample.

        Raises:
            FormatError: for a name that the store has or that is too long, or a full disk.
        """
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
        self._open_database.n_bytes += sum(len(raw) for _, raw in records)

    def remember_failure(self, name: str, reason: str) -> None:
        """Store the reason why a structure could not be labelled; a later sample with its name removes it.

        Args:
            name: name that the sample would have.
            reason: one line.
        """
        self.remember_failures({name: reason})

    def remember_failures(self, reasons: Mapping[str, str]) -> None:
        """Store the reasons why structures could not be labelled, in one transaction.

        Args:
            reasons: one line for each name, as in `remember_failure`.
        """
        self._check_writable()
        if not reasons:
            return

        def add(txn: lmdb.Transaction) -> None:
            for name, reason in reasons.items():
                txn.put(FAILURE + name.encode()[:LONGEST_NAME], reason.encode())

        self._open_database.write(add)

    @property
    def failures(self) -> dict[str, str]:
        """Reasons why structures could not be labelled, by name."""
        with self._open_database.read() as txn:
            return {name: value.decode(errors="replace") for name, value in _with_prefix(txn, FAILURE)}

    def _check_writable(self) -> None:
        if not self.writable:
            raise FormatError(f"{self.path}: the store was opened for reading only")


@contextmanager
def new_store(
    path: str | Path, basis: BasisSet, spin: Spin = Spin.NONE, metadata: Mapping[str, Any] | None = None
) -> Iterator[Store]:
    """A writable store that appears at `path` at the end of the `with` block, or not at all if the block raises."""
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
    more = cursor.set_range(prefix)
    while more and cursor.key()[:1] == prefix:
        yield bytes(cursor.key())[1:].decode(errors="replace"), bytes(cursor.value())
        more = cursor.next()


def _next_position(txn: lmdb.Transaction) -> bytes:
    # RECORD is the largest prefix, so the last key of the database is that of the last record.
    cursor = txn.cursor()
    last = int.from_bytes(cursor.key()[1:], "big") if cursor.last() and cursor.key()[:1] == RECORD else -1
    return (last + 1).to_bytes(8, "big")
