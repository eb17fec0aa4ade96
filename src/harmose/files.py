"""Reading and writing samples: one function each, and one table of what a path may be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harmose.data.store import Store, new_store
from harmose.errors import FormatError
from harmose.io.npz import read_npz, write_npz
from harmose.sample import Sample


@dataclass(frozen=True)
class Reader:
    """A kind of file or folder: how to recognise it, and how to read the sample `name` (None: the only one) of it."""

    kind: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str | None], Sample]


def read(path: str | Path, name: str | None = None) -> Sample:
    """The sample at `path`: a harmose store (its only sample, or the one called `name`) or a `.npz` of harmose.

    Raises `FormatError` when there is nothing at `path`, when its kind is not known, or when it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    for reader in READERS:
        if reader.recognises(path):
            return reader.read(path, name)
    known = ", ".join(reader.kind for reader in READERS)
    raise FormatError(f"{path}: expected one of: {known}; got another kind of file or folder")


def write(path: str | Path, sample: Sample) -> None:
    """Write a sample to a new `.npz` file, or, under any other name, to a new store; never over what exists.

    The file or store appears complete or not at all.
    """
    if Path(path).suffix == ".npz":
        write_npz(path, sample)
        return
    with new_store(path, sample.basis, sample.spin) as store:
        store.append(sample, check=False)


def _read_store(path: Path, name: str | None) -> Sample:
    with Store.open(path) as store:
        if name is not None:
            return store[name]
        names = store.names()
        if len(names) != 1:
            some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise FormatError(f"{path}: expected the name of one of its {len(names)} samples ({some}), got none")
        return store[names[0]]


def _read_npz(path: Path, name: str | None) -> Sample:
    sample = read_npz(path)
    if name is not None and sample.name != name:
        raise FormatError(f"{path}: expected the sample {name!r}, got {sample.name!r}")
    return sample


READERS = (
    Reader("harmose store", lambda path: path.is_dir() and (path / "data.mdb").is_file(), _read_store),
    Reader("harmose .npz", lambda path: path.suffix == ".npz" and path.is_file(), _read_npz),
)
"""The first that recognises a path reads it."""
