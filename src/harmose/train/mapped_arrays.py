"""Arrays in files that are mapped into memory: npy files of a fixed size, written in pieces and read at random.

Their space on the disk is reserved when they are made, so that a full disk is an error then and not in the middle of a write.
"""

import mmap
import os
from pathlib import Path

import numpy as np


class MappedArray:
    """An array in a npy file.

    Attributes:
        values: the array. What is written to it is in the file if the array is `writable`, and nowhere else.
    """

    def __init__(self, file: Path, writable: bool = False) -> None:
        with file.open("r+b" if writable else "rb") as opened:
            if np.lib.format.read_magic(opened) != (1, 0):
                raise ValueError(f"{file}: expected an array of version 1.0")
            shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
            start, expected = opened.tell(), int(np.prod(shape)) * dtype.itemsize
            if os.fstat(opened.fileno()).st_size != start + expected:
                raise ValueError(f"{file}: expected {start + expected} bytes")
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY)
        self.values: np.ndarray = np.frombuffer(self._map, dtype, offset=start, count=expected // dtype.itemsize)
        self.values = self.values.reshape(shape)

    @staticmethod
    def create(file: Path, dtype: np.dtype | type, shape: tuple[int, ...]) -> "MappedArray":
        """Make a file of zeros; `OSError` where the disk is full."""
        dtype = np.dtype(dtype)
        with file.open("w+b") as opened:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(opened, header)
            opened.flush()
            size = opened.tell() + int(np.prod(shape)) * dtype.itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(opened.fileno(), 0, size)
            else:  # macOS: a full disk is found when the file is written
                opened.truncate(size)
        return MappedArray(file, writable=True)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        self._map.flush()

    def release(self) -> None:
        """Give the memory of the pages back; they are read again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
