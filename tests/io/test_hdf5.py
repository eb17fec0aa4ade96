"""Numbers out of HDF5 files, and one line for all else."""

import h5py
import numpy as np
import pytest

from harmose.errors import FormatError
from harmose.io.hdf5 import numbers, open_hdf5


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["real"] = np.arange(1000.0)
        file["complex"] = np.arange(3) * 1j
        file["text"] = "hello"
        file["group/inner"] = 1
        file["elsewhere"] = h5py.ExternalLink("/etc/other.h5", "x")
        file["soft"] = h5py.SoftLink("/real")
        file.create_dataset("unwritten", (10**9,), chunks=(1000,), dtype="f8")
        file.create_dataset("packed", data=np.zeros(10**6), compression="gzip")
    return path


def test_numbers(file):
    with open_hdf5(file) as opened:
        assert np.array_equal(numbers(opened, "real"), np.arange(1000.0))
        assert np.array_equal(numbers(opened, "complex"), np.arange(3) * 1j)
        assert not numbers(opened, "packed").any()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "expected it in the file"),
        ("text", "expected numbers"),
        ("group", "expected numbers, got group"),
        ("elsewhere", "expected it in the file"),
        ("soft", "expected it in the file"),
        ("unwritten", "claims 8000000000 bytes and holds 0"),
    ],
)
def test_other_datasets(file, name, words):
    with pytest.raises(FormatError, match=rf"x\.h5: dataset '{name}': {words}"), open_hdf5(file) as opened:
        numbers(opened, name)


def test_damaged_files(tmp_path, file):
    with pytest.raises(FormatError, match="no such file"), open_hdf5(tmp_path / "nothing.h5"):
        pass
    data = file.read_bytes()
    for bad in (b"", b"hello", data[: len(data) // 2]):
        file.write_bytes(bad)
        with (
            pytest.raises(FormatError, match=r"x\.h5: expected an HDF5 file, got a truncated or another file"),
            open_hdf5(file),
        ):
            pass
    broken = bytearray(data)
    at = data.index(np.arange(1000.0).tobytes()[:64])
    broken[64 : at // 2] = b"\xff" * (at // 2 - 64)
    file.write_bytes(bytes(broken))
    words = r"x\.h5: (expected an HDF5 file|the HDF5 file is damaged|dataset)"
    with pytest.raises(FormatError, match=words), open_hdf5(file) as opened:
        numbers(opened, "real")
