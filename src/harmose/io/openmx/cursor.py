"""Read a binary file record by record, and never more than it holds."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from harmose.errors import FormatError


class Cursor:
    """A place in an open binary file of little-endian C numbers. Every request is compared with the bytes that are left."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path = path
        self._file = file
        self._size = path.stat().st_size

    @property
    def left(self) -> int:
        """Bytes from here to the end."""
        return self._size - self._file.tell()

    def integers(self, what: str, *shape: int) -> np.ndarray:
        """Read C integers of this shape."""
        return self._array(what, "<i4", shape)

    def numbers(self, what: str, *shape: int) -> np.ndarray:
        """Read C doubles of this shape."""
        return self._array(what, "<f8", shape)

    def skip(self, what: str, size: int) -> int:
        """Go on by `size` bytes; return the offset of the first of them."""
        self._check_left(what, size)
        offset = self._file.tell()
        self._file.seek(size, 1)
        return offset

    def raw(self, size: int) -> bytes:
        """Read bytes."""
        return self._file.read(size)

    def check(self, holds: bool | np.bool_, expected: str) -> None:
        """`FormatError` that begins with the file unless a condition holds; `expected` says which, and what came."""
        if not holds:
            raise FormatError(f"{self.path}: expected {expected}: it is damaged, or no .scfout file")

    def _array(self, what: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        kind, count = np.dtype(dtype), 1
        for n in shape:
            count *= n
        self._check_left(what, count * kind.itemsize)
        return np.frombuffer(self._file.read(count * kind.itemsize), kind).reshape(shape)

    def _check_left(self, what: str, size: int) -> None:
        if not 0 <= size <= self.left:
            raise FormatError(f"{self.path}: expected {size} bytes with {what}, got {self.left}: the file is cut off or "
                              "damaged; copy it again, or run OpenMX again")  # fmt: skip
