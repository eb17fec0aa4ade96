"""Atomic writes: a file or a folder appears complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmose.errors import FormatError


@contextmanager
def atomic_path(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield a hidden path beside `path` at which the block writes one file or one folder.

    When the block ends, what it wrote is flushed to the disk and moved to `path`. When it raises, what it wrote is
    removed, and `path` is as it was. The hidden path has the suffix of `path`, by which some writers choose a format.

    Args:
        path: file or folder to write. Its parent folder must exist.
        overwrite: replace what is at `path`. If False, an existing `path` is an error.

    Raises:
        FormatError: `path` exists and `overwrite` is False.
    """
    path = Path(path)
    if not overwrite:
        _check_new(path)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.new{path.suffix}")
    try:
        yield hidden
        _flush(hidden)
        if not overwrite:
            _check_new(path)
        if path.is_dir():
            # No system call replaces a folder that has files in it.
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.replace(path, old)
            os.replace(hidden, path)
            _remove(old)
        else:
            os.replace(hidden, path)
    finally:
        _remove(hidden)


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write a file atomically, text as UTF-8, and its parent folders. `FormatError` says why if this fails."""
    path = Path(path)
    raw = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as hidden:
            hidden.write_bytes(raw)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror or error})") from None


def _check_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FormatError(f"{path}: expected a new path, got one that exists")


def _flush(path: Path) -> None:
    files = (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
