"""SIESTA's binary files: Intel's logicals, and whatever is cut off or overwritten gives one FormatError."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from harmose.errors import FormatError
from harmose.io.siesta.files import check_file
from harmose.io.siesta.siesta import read_siesta


@pytest.fixture(scope="module")
def runs(shared_data) -> Path:
    return shared_data / "dft-outputs"


def test_headers(runs):
    for name, version, n_spin, n_electrons in (
        ("siesta-Si/Si.HSX", 2, 1, 8),
        ("siesta-Fe/fe.HSX", 1, 2, 16),
        ("siesta-Pt2-soc/Pt2_xx.HSX", 1, 8, 36),
        ("siesta-Pt2-soc/Pt2_xx.TSHS", 1, 8, 36),
    ):
        header, _ = check_file(runs / name)
        assert (header.version, header.n_spin) == (version, n_spin)
        assert header.n_electrons == pytest.approx(n_electrons)


def test_logicals_of_intel_compilers(runs, tmp_path):
    source = runs / "siesta-Si" / "Si.HSX"
    words = np.fromfile(source, dtype="<i4")
    assert words[4] == -1  # .true. of Intel's compiler
    words[4] = 1
    words.tofile(tmp_path / "Si.HSX")
    shutil.copy(runs / "siesta-Si" / "Si.ion.nc", tmp_path)
    intel, gnu = read_siesta(source), read_siesta(tmp_path)
    assert np.array_equal(intel.hamiltonian.values, gnu.hamiltonian.values)
    assert intel.basis == gnu.basis
    assert np.fromfile(source, dtype="<i4")[4] == -1


def test_truncated_and_altered_files(runs, tmp_path):
    """One FormatError whatever is cut off or overwritten, and never an allocation of what a header claims."""
    for folder, name in (("siesta-Si", "Si.HSX"), ("siesta-Pt2-soc", "Pt2_xx.TSHS"), ("siesta-Fe", "fe.HSX")):
        data = (runs / folder / name).read_bytes()
        path = tmp_path / name
        rng = np.random.default_rng(0)
        for size in [0, 3, 4, 16, 24, 400, *rng.integers(0, len(data), 10).tolist(), len(data) - 4]:
            path.write_bytes(data[:size])
            with pytest.raises(FormatError, match=f"{name}: expected a"):
                read_siesta(path)
        path.write_bytes(data + b"\0" * 16)
        with pytest.raises(FormatError, match="bytes after the last record"):
            read_siesta(path)
        # the sizes in the header: atoms, orbitals, spins, species (or all orbitals, elements), cells
        start = 28 if name.endswith("HSX") else 16
        for word in range(5):
            for value in (-1, 0, 3, 2**31 - 1):
                altered = bytearray(data)
                struct.pack_into("<i", altered, start + 4 * word, value)
                if bytes(altered) == data:
                    continue
                path.write_bytes(altered)
                with pytest.raises(FormatError, match=f"{name}: expected"):
                    read_siesta(path)


def test_columns_outside_all_cells(runs, tmp_path):
    words = np.fromfile(runs / "siesta-Fe" / "fe.HSX", dtype="<i4")
    per_row = np.flatnonzero(words == 76)[0]  # the record of 19 numbers, then the first row's columns
    words[per_row + 1 + 19 + 2] = 2**30
    words.tofile(tmp_path / "fe.HSX")
    with pytest.raises(FormatError, match=r"fe.HSX: expected"):
        read_siesta(tmp_path)


def test_overlap_without_hamiltonian(runs, tmp_path):
    """TS.S.Save: the third logical says that there is no H."""
    words = np.fromfile(runs / "siesta-Pt2-soc" / "Pt2_xx.TSHS", dtype="<i4")
    header, _ = check_file(runs / "siesta-Pt2-soc" / "Pt2_xx.TSHS")
    words[header.logicals[2]] = 1
    words.tofile(tmp_path / "Pt2_xx.TSHS")
    with pytest.raises(FormatError, match="expected H and S, got a TSHS file with S only"):
        read_siesta(tmp_path)
