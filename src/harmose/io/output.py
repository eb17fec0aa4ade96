"""Folders that appear complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmose.errors import FormatError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A hidden folder to write into, at `path` when the block ends well and gone when it raises.

    `FormatError` when `path` exists.
    """
    if path.exists() or path.is_symlink():
        raise FormatError(f"{path}: expected a new path, got one that exists")
    hidden = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        hidden.mkdir()
        yield hidden
        os.rename(hidden, path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
