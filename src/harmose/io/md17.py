"""Read the Hamiltonians of MD17's molecules (SchNOrb, Schuett et al., arXiv 1906.10033; QHNet, arXiv 2306.04922).

    schnorb_hamiltonian_*.db    ASE database: positions in angstrom; row.data with hamiltonian, overlap, energy
    *.npz                       the same as arrays: numbers (N,), positions (F, N, 3), hamiltonian and overlap (F, n, n)

Matrices are in Hartree and in ORCA's order of def2-SVP (p as z, x, y; d as z2, xz, yz, x2-y2, xy). Some copies of the data
have the order of PySCF or QHNet, or positions in Bohr, without saying so. The right order and unit are those in which the
stored S agrees with PySCF's S of def2-SVP. A file for which none agrees is refused.
"""

import struct
import zipfile
import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase.db
import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import basis_set, overlap, to_blocks
from harmose.io.sqlite import columns, open_sqlite
from harmose.so3.conventions import E3NN, PYSCF, Convention
from harmose.units import BOHR, HARTREE

ORCA = Convention("orca", {1: (2, 0, 1), 2: (4, 2, 0, 1, 3)})
"""ORCA: m = 0, 1, -1, 2, -2. Signs of f and higher shells, which def2-SVP does not have here, are not included."""

BASIS = "def2-svp"
TOLERANCE = 1e-3
"""Largest difference of S and PySCF's S. A wrong order gives tenths, positions with six decimals give 1e-6."""

LOCAL_HEADER = 30
"""Bytes before the name of a file within a zip archive; the last four hold the lengths of the name and of what follows."""

NAMES = {
    "numbers": ("numbers", "atomic_numbers", "nuclear_charges", "Z", "z", "atoms"),
    "positions": ("positions", "R", "pos", "coords"),
    "hamiltonian": ("hamiltonian", "H", "Ham", "fock"),
    "overlap": ("overlap", "S"),
    "energy": ("energy", "E"),
}
"""Accepted names of the arrays of a `.npz`."""


@dataclass(frozen=True)
class Reading:
    """Order of orbitals and unit of positions of a file."""

    convention: Convention
    unit: float
    """Unit of positions in angstrom."""


READINGS = tuple(Reading(c, unit) for unit in (1.0, BOHR) for c in (ORCA, PYSCF, E3NN))


class MD17:
    """A source of samples, one for each frame. Subclasses read the arrays."""

    metadata: Mapping[str, Any] = MappingProxyType({"basis": BASIS})

    def __init__(self, path: Path):
        self.path = path
        self._basis: BasisSet | None = None
        self._reading = READINGS[0]

    def names(self) -> list[str]:
        raise NotImplementedError

    def _frame(self, name: str) -> Mapping[str, Any]:
        """Return `numbers`, `positions`, `hamiltonian` and, if stored, `overlap` and `energy`."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> Sample:
        frame, where = self._frame(name), f"{self.path}: frame {name}"
        structure, h, s = _checked(where, frame)
        if self._basis is None:
            self._basis = basis_set(BASIS, {1, 6, 7, 8, 9, *structure.numbers.tolist()})
        basis = self._basis
        expected = int(basis.counts(structure.numbers).sum())
        if h.shape != (expected, expected) or s.shape != h.shape:
            raise FormatError(
                f"{where}: expected H and S of {expected} orbitals ({BASIS}), got {h.shape} and {s.shape}"
            )
        self._reading = reading = _fitting(where, structure, s, basis, self._reading)
        structure.positions *= reading.unit
        layout = zeros(structure, basis)
        energy = frame.get("energy")
        return Sample(
            name,
            structure,
            basis,
            to_blocks(h, layout, name=f"{where}: H", convention=reading.convention),
            overlap=to_blocks(s, layout, energy=False, name=f"{where}: S", convention=reading.convention),
            n_electrons=float(structure.numbers.sum()),
            energy=None if energy is None else float(np.asarray(energy).ravel()[0]) * HARTREE,
            provenance={"format": "md17", "basis": BASIS},
        )


def _checked(where: str, frame: Mapping[str, Any]) -> tuple[Atoms, np.ndarray, np.ndarray]:
    for key in ("hamiltonian", "overlap"):
        if frame.get(key) is None:
            words = "H without S: its orbitals may be in any order" if key == "overlap" else "no H"
            raise FormatError(f"{where}: expected hamiltonian and overlap, got {words}")
    if any(np.iscomplexobj(frame[key]) for key in ("numbers", "positions", "hamiltonian", "overlap")):
        raise FormatError(f"{where}: expected arrays of real numbers, got complex ones")
    try:
        numbers = np.asarray(frame["numbers"]).ravel().astype(np.int64)
        positions, h, s = (np.asarray(frame[key], dtype=np.float64) for key in ("positions", "hamiltonian", "overlap"))
    except (TypeError, ValueError):
        raise FormatError(f"{where}: expected arrays of numbers, got something else") from None
    if positions.shape != (len(numbers), 3):
        raise FormatError(f"{where}: expected positions of {len(numbers)} atoms, got shape {positions.shape}")
    return Atoms(numbers, positions), h, s


def _fitting(where: str, structure: Atoms, s: np.ndarray, basis: BasisSet, first: Reading) -> Reading:
    """Return the reading in which S agrees with PySCF; `first` is tried first."""
    degrees = [l for z in structure.numbers.tolist() for l in basis.degrees(z)]
    expected: dict[float, np.ndarray] = {}
    off: list[float] = []
    for reading in sorted(READINGS, key=lambda reading: reading != first):
        if reading.unit not in expected:
            moved = structure.copy()
            moved.positions *= reading.unit
            expected[reading.unit] = overlap(moved, BASIS, basis).dense()
        off.append(float(np.abs(reading.convention.to_inside(s, degrees) - expected[reading.unit]).max()))
        if off[-1] < TOLERANCE:
            return reading
    raise FormatError(f"{where}: expected S of {BASIS} in ORCA's, PySCF's or harmose's order, got one that differs by "
                      f"{min(off):.2g} from each")  # fmt: skip


class MD17Database(MD17):
    """An ASE database with matrices in `row.data`. Samples are named by the rows' ids."""

    def __init__(self, path: str | Path):
        super().__init__(Path(path))
        # ASE would turn any other file into an empty database.
        if not {"id", "numbers", "positions", "data"} <= set(columns(self.path, "systems")):
            raise FormatError(f"{self.path}: expected an ASE database, got another file")
        with open_sqlite(self.path) as connection:
            self._ids = {str(row): row for (row,) in connection.execute("SELECT id FROM systems ORDER BY id")}
        with _readable(str(self.path)):
            self._database = ase.db.connect(str(self.path), type="db", use_lock_file=False)
            metadata = self._database.metadata
        # SchNOrb's script subtracts the mean energy and stores it here.
        self._offset = sum(float(metadata.get(key) or 0.0) for key in ("mean_energy", "energy_offset"))

    def names(self) -> list[str]:
        return list(self._ids)

    def _frame(self, name: str) -> Mapping[str, Any]:
        if name not in self._ids:
            raise FormatError(f"{self.path}: no frame {name!r}")
        with _readable(f"{self.path}: frame {name}"):
            row = self._database.get(id=self._ids[name])
            data = dict(row.data)
            arrays = {key: _unpacked(data, key) for key in ("hamiltonian", "overlap", "energy")}
            numbers, positions = row.numbers, row.positions
        if arrays["energy"] is not None:
            arrays["energy"] = float(np.asarray(arrays["energy"]).ravel()[0]) + self._offset
        return {"numbers": numbers, "positions": positions, **arrays}


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn the many types of errors that ASE raises for damaged rows into `FormatError`."""
    try:
        yield
    except Exception:
        raise FormatError(f"{where}: expected a readable row of an ASE database, got damage") from None


def _unpacked(data: Mapping[str, Any], key: str) -> Any:
    """Return an array of a row, stored as an array or, by SchNetPack before 1.0, in base64 with shape and number type."""
    value = data.get(key)
    if isinstance(value, str | bytes) and f"_shape_{key}" in data:
        dtype = np.dtype(str(data[f"_dtype_{key}"]))
        return np.frombuffer(b64decode(value), dtype=dtype).reshape(data[f"_shape_{key}"])
    return value


class MD17Arrays(MD17):
    """A `.npz` of frames, named by their index. `numbers` is one array for all frames, or one for each."""

    def __init__(self, path: str | Path):
        super().__init__(Path(path))
        self._arrays = dict(_arrays(self.path))
        for key in ("numbers", "positions", "hamiltonian"):
            if key not in self._arrays:
                raise FormatError(f"{self.path}: expected {key}, got no array of this name ({', '.join(NAMES[key])})")
        self._n_frames = len(self._arrays["positions"]) if self._arrays["positions"].ndim == 3 else -1
        for key, array in self._arrays.items():
            per_frame = key != "numbers" or array.ndim > 1
            if self._n_frames < 0 or (per_frame and (array.ndim == 0 or len(array) != self._n_frames)):
                raise FormatError(f"{self.path}: expected positions (F, N, 3) and {key} of as many frames, got shapes "
                                  f"{self._arrays['positions'].shape} and {array.shape}")  # fmt: skip

    def names(self) -> list[str]:
        return [str(k) for k in range(self._n_frames)]

    def _frame(self, name: str) -> Mapping[str, Any]:
        k = int(name) if name.isdecimal() else -1
        if not 0 <= k < self._n_frames:
            raise FormatError(f"{self.path}: no frame {name!r}")
        numbers = self._arrays["numbers"]
        frame = {key: array[k] for key, array in self._arrays.items() if key != "numbers"}
        return {**frame, "numbers": numbers[k] if numbers.ndim > 1 else numbers}


def _array(path: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of a `.npz`, which stays on disk where it is not compressed: matrices of all frames are large."""
    if info.compress_type != zipfile.ZIP_STORED:
        with file.open(info) as content:
            return np.lib.format.read_array(content, allow_pickle=False)
    with file.open(info) as content:
        while content.read(1 << 20):  # to the end, where the checksum is compared
            pass
    with open(path, "rb") as raw:
        raw.seek(info.header_offset)
        lengths = struct.unpack("<HH", raw.read(LOCAL_HEADER)[-4:])  # of name and extra field
        raw.seek(info.header_offset + LOCAL_HEADER + sum(lengths))
        version = np.lib.format.read_magic(raw)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(raw)
        if dtype.hasobject:
            raise ValueError("objects")
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", raw.tell(), shape, "F" if by_columns else "C")


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(path) as file:
            present = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
            for key, names in NAMES.items():
                for name in names:
                    if name in present:
                        yield key, _array(path, file, present[name])
                        break
    except (OSError, ValueError, EOFError, TypeError, MemoryError, KeyError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile, zlib.error):  # fmt: skip
        raise FormatError(f"{path}: expected a .npz of numbers, got a damaged or another file") from None
