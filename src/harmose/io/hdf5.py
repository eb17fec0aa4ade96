"""Read arrays of numbers from HDF5 files that may be damaged or malicious.

Only datasets of the file itself are read: no links to other files, no objects, no text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader
import numpy as np

from harmose.errors import FormatError

if TYPE_CHECKING:
    import h5py
else:
    h5py = lazy_loader.load("h5py")  # imported on first use

COMPRESSION = 2000
"""Largest plausible compression ratio. A dataset that claims more was not written completely."""


@contextmanager
def open_hdf5(path: Path) -> Iterator["h5py.File"]:
    """Yield the open file; `FormatError` if it is missing, truncated, not HDF5, or if h5py fails inside the block."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError):
        raise FormatError(
            f"{path}: expected an HDF5 file, got a truncated or another file; copy it again, or write it again"
        ) from None
    try:
        with file:
            yield file
    except (OSError, RuntimeError, KeyError):  # h5py's errors for damaged data
        raise FormatError(f"{path}: the HDF5 file is damaged; copy it again, or write it again") from None


def numbers(file: "h5py.File", name: str) -> np.ndarray:
    """Read the dataset `name` of integers, floats or complex numbers; `FormatError` for anything else."""
    where = f"{file.filename}: dataset {name!r}"
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise FormatError(f"{where}: expected it in the file, got {', '.join(list(file)[:5]) or 'nothing'} only")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iufc":
        kind = dataset.dtype if isinstance(dataset, h5py.Dataset) else type(dataset).__name__.lower()
        raise FormatError(f"{where}: expected numbers, got {kind}")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > COMPRESSION * max(stored, 1):
        raise FormatError(f"{where}: claims {dataset.nbytes} bytes and holds {stored}")
    return dataset[()]
