"""Folders of prepared samples beside a store (`harmose.train.prepared`): where they are, and how to remove them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from harmose.errors import FormatError

INDEX = "index.safetensors"
"""File that is written last: without it a folder is not complete."""


@dataclass(frozen=True)
class PreparedSet:
    """A folder of prepared samples.

    Attributes:
        folder: the folder.
        n_bytes: size of its files.
        n_samples: number of samples; 0 if the folder is not complete.
    """

    folder: Path
    n_bytes: int
    n_samples: int


def cache_folder(store: Path) -> Path:
    """Return the folder beside a store that holds its prepared samples."""
    store = store.absolute()
    return store.with_name(f"{store.name}.cache")


def prepared_sets(folder: Path) -> list[PreparedSet]:
    """Return what a folder as that of `cache_folder` holds."""
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [PreparedSet(path, size_of(path), _n_samples(path / INDEX)) for path in found]


def remove_prepared(folder: Path) -> None:
    """Remove a folder as that of `cache_folder`; `FormatError` if it holds anything else."""
    for path in folder.iterdir():
        others = {"parts", "arrays", "lock", INDEX, "fit.safetensors"}
        if not path.is_dir() or any(x.name not in others and not x.name.startswith(".") for x in path.iterdir()):
            raise FormatError(f"{path}: expected prepared samples, got something else: nothing was removed")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise FormatError(f"{folder}: cannot be removed ({error.strerror})") from None


def size_of(folder: Path) -> int:
    """Return the size of all files of a folder in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _n_samples(index: Path) -> int:
    try:
        with safe_open(index, "np") as file:
            return len(json.loads(file.get_tensor("names").tobytes()))
    except (SafetensorError, OSError, ValueError):
        return 0
