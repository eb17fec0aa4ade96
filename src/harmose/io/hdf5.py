"""HDF5 files of strangers: datasets of numbers, with one clear line where there is something else.

Nothing but plain datasets of this very file is read: no links to other files, no objects, no text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from harmose.errors import FormatError

COMPRESSION = 2000
"""No compression shrinks numbers by more; a dataset that claims more than this has not been written."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, for reading; `FormatError` when it is missing, truncated or not HDF5, also for damage found inside."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise FormatError(
            f"{path}: expected an HDF5 file, got a truncated or another file ({_reason(error)})"
        ) from None
    try:
        with file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # what h5py says of damaged data
        raise FormatError(f"{path}: the HDF5 file is damaged ({_reason(error)})") from None


def numbers(file: h5py.File, name: str) -> np.ndarray:
    """The dataset `name` as an array of integers, floats or complex numbers; `FormatError` for anything else."""
    where = f"{file.filename}: dataset {name!r}"
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise FormatError(f"{where}: expected it in the file, got {', '.join(list(file)[:5]) or 'nothing'} only")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iufc":
        kind = dataset.dtype if isinstance(dataset, h5py.Dataset) else type(dataset).__name__.lower()
        raise FormatError(f"{where}: expected numbers, got {kind}")
    held = dataset.id.get_storage_size()
    if dataset.nbytes > COMPRESSION * max(held, 1):
        raise FormatError(f"{where}: claims {dataset.nbytes} bytes and holds {held}")
    return dataset[()]


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
