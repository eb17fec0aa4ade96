"""Check SIESTA's binary matrix files HSX and TSHS before sisl reads them.

sisl's Fortran code reads on past a missing record, allocates the sizes that a header claims, and accepts only 1 as .true.,
where Intel's compiler writes -1. Both files are sequences of Fortran records (a 4-byte length before and after each). All
lengths follow from the header and the number of elements of each row, so a file is checked without reading its matrices.

    HSX 1, 2   version | double? | atoms, orbitals, spins, species, cells (3) | cell, Fermi level, charge, T |
               R of cells, positions, species and last orbital of atoms | labels | shells, per species | (2: k-grid) |
               elements of each row | columns, per row | H, per spin and row | S, per row
    HSX 0      orbitals, orbitals of all cells, spins, elements | Gamma? | (home orbitals) | elements of each row |
               columns, H, S per row | charge, T | vectors, per row | species | ...
    TSHS 1     version | atoms, orbitals, orbitals of all cells, spins, elements | cells | cell, positions |
               Gamma? Gamma of TS? S only? | k-grid | Fermi level, charge, T | step | last orbital of atoms |
               elements of each row | columns, S per row | H per spin and row | (R of cells, unless Gamma)
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmose.errors import FormatError


@dataclass(frozen=True)
class Header:
    """Header of a file. `n_spin` is 1, 2, 4 or 8; `logicals` are the places of the logicals, in words of four bytes.

    `n_electrons` and `fermi_level` (Ry) are as written, which may be infinity; HSX 0 has no Fermi level.
    """

    version: int
    n_spin: int
    n_electrons: float
    logicals: tuple[int, ...]
    fermi_level: float | None = None


@contextmanager
def readable(path: Path) -> Iterator[tuple[Path, Header]]:
    """Yield a file that sisl can read, and its header: `path`, or a temporary copy whose logicals are 0 and 1.

    The path of the copy has only ASCII characters, since sisl's Fortran code takes no others. `FormatError` unless `path`
    is a whole HSX or TSHS file.
    """
    header, words = check_file(path)
    at = list(header.logicals)
    if np.isin(words[at], (0, 1)).all() and str(path).isascii():
        yield path, header
        return
    with tempfile.TemporaryDirectory(prefix="harmose-") as folder:
        try:
            copy = Path(shutil.copyfile(path, Path(folder) / f"copy{path.suffix}"))
        except OSError as error:
            raise FormatError(
                f"{path}: expected room for a copy with corrected logicals in {folder}, got {error.strerror}"
            ) from None
        repaired = np.memmap(copy, dtype="<i4", mode="r+")
        repaired[at] = repaired[at] != 0
        repaired.flush()
        yield copy, header


def check_file(path: Path) -> tuple[Header, np.ndarray]:
    """Return the header of a file and its content as 4-byte words; `FormatError` unless it is whole."""
    size = path.stat().st_size
    if size < 24 or size % 4:
        raise _damaged(path, f"a file of {size} bytes")
    try:
        words = np.memmap(path, dtype="<i4", mode="r")
    except OSError as error:
        raise FormatError(f"{path}: expected a readable file, got {error.strerror}") from None
    file = _Records(path, words)
    kind = "TSHS" if path.suffix.upper() == ".TSHS" else "HSX"
    if words[0] == 16 and kind == "HSX":
        return _hsx_0(file), words
    version = int(file.ints(1)[0])
    if version not in ((1,) if kind == "TSHS" else (1, 2)):
        raise FormatError(f"{path}: expected a SIESTA {kind} file of version {'1' if kind == 'TSHS' else '0 to 2'}, got "
                          f"version {version}")  # fmt: skip
    return (_tshs(file) if kind == "TSHS" else _hsx(file, version)), words


class _Records:
    """Reads one record after the other, and checks every length before it is used."""

    def __init__(self, path: Path, words: np.ndarray) -> None:
        self.path, self.words, self.at = path, words, 0

    def next(self, n_words: int | None = None) -> np.ndarray:
        """Return the next record as 4-byte words; it must have `n_words` if this is given."""
        start, left = self.at, len(self.words) - self.at - 2
        length = int(self.words[start]) if left >= 0 else -1
        n = length // 4
        if length < 0 or length % 4 or n > left or self.words[start + 1 + n] != length:
            raise _damaged(self.path, f"no whole record at byte {4 * start}")
        if n_words is not None and n != n_words:
            raise _damaged(
                self.path, f"a record of {length} bytes where {4 * n_words} were expected, at byte {4 * start}"
            )
        self.at = start + n + 2
        return self.words[start + 1 : start + 1 + n]

    def ints(self, n: int) -> list[int]:
        return [int(x) for x in self.next(n)]

    def doubles(self, n: int) -> np.ndarray:
        return np.frombuffer(self.next(2 * n).tobytes(), dtype="<f8")

    def rows(self, n_words: np.ndarray) -> None:
        """Skip records of these lengths (in words) without reading them."""
        n_words = np.asarray(n_words, dtype=np.int64)
        ends = self.at + np.cumsum(n_words + 2)
        if len(ends) and (ends[-1] > len(self.words) or n_words.min() < 0):
            raise _damaged(self.path, f"{4 * len(self.words)} bytes where at least {4 * int(ends[-1])} were expected")
        starts = ends - n_words - 2
        whole = (self.words[starts] == 4 * n_words) & (self.words[ends - 1] == 4 * n_words)
        if not whole.all():
            raise _damaged(self.path, f"no whole record at byte {4 * int(starts[np.argmin(whole)])}")
        self.at = int(ends[-1]) if len(ends) else self.at

    def sizes(self, **sizes: int) -> None:
        bad = {name: n for name, n in sizes.items() if n < 1}
        if bad:
            raise _damaged(self.path, ", ".join(f"{n} {name}" for name, n in bad.items()))

    def matrix(self, per_row: np.ndarray, n_spin: int, words_per_value: int) -> None:
        """Skip the columns of each row, then the rows of n_spin + 1 matrices."""
        self.rows(per_row)
        for _ in range(n_spin + 1):
            self.rows(per_row.astype(np.int64) * words_per_value)

    def end(self) -> None:
        if self.at != len(self.words):
            raise _damaged(self.path, f"{4 * (len(self.words) - self.at)} bytes after the last record")


def _hsx(file: _Records, version: int) -> Header:
    logical = file.at + 1
    double = bool(file.ints(1)[0])
    n_atoms, n_orbitals, n_spin, n_species, *cells = file.ints(7)
    file.sizes(atoms=n_atoms, orbitals=n_orbitals, species=n_species, cells=min(cells))
    _check_spin(file, n_spin)
    numbers = file.doubles(12)
    # R of all cells; then for each atom its position (three doubles), species and last orbital.
    atoms = file.next(3 * int(np.prod(cells, dtype=np.float64)) + 8 * n_atoms)
    species = atoms[-2 * n_atoms : -n_atoms]  # not from the last orbitals, which sisl writes wrongly
    orbitals = file.next(8 * n_species).reshape(n_species, 8)[:, 7]
    if species.min() < 1 or species.max() > n_species or orbitals[species - 1].sum(dtype=np.int64) != n_orbitals:
        raise _damaged(file.path, "atoms that do not fit its species and orbitals")
    file.rows(3 * orbitals.astype(np.int64))
    if version == 2:
        file.next(15)
    per_row = np.array(file.next(n_orbitals))
    file.matrix(per_row, n_spin, 2 if double else 1)
    file.end()
    return Header(version, n_spin, float(numbers[10]), (logical,), float(numbers[9]))


def _hsx_0(file: _Records) -> Header:
    n_orbitals, n_all, n_spin, n_elements = file.ints(4)
    file.sizes(orbitals=n_orbitals, elements=n_elements)
    _check_spin(file, n_spin)
    logical = file.at + 1
    gamma = bool(file.ints(1)[0])
    if n_all % n_orbitals or (gamma and n_all != n_orbitals):
        raise _damaged(file.path, f"{n_orbitals} orbitals in the home cell and {n_all} in all cells")
    if not gamma:
        file.next(n_all)
    per_row = np.array(file.next(n_orbitals))
    if per_row.sum(dtype=np.int64) != n_elements:
        raise _damaged(file.path, f"rows of {per_row.sum(dtype=np.int64)} elements where {n_elements} were expected")
    file.matrix(per_row, n_spin, 1)
    charge = float(file.doubles(2)[0])
    if not gamma:
        file.rows(3 * per_row.astype(np.int64))
    n_species = file.ints(1)[0]
    file.sizes(species=n_species)
    orbitals = file.next(8 * n_species).reshape(n_species, 8)[:, 7]
    file.rows(np.full(int(orbitals.sum(dtype=np.int64)), 3))
    n_atoms = file.ints(1)[0]
    species = file.next(n_atoms)
    if n_atoms < 1 or species.min() < 1 or species.max() > n_species:
        raise _damaged(file.path, "atoms that do not fit its species")
    return Header(0, n_spin, charge, (logical,))


def _tshs(file: _Records) -> Header:
    n_atoms, n_orbitals, n_all, n_spin, n_elements = file.ints(5)
    file.sizes(atoms=n_atoms, orbitals=n_orbitals, elements=n_elements)
    _check_spin(file, n_spin)
    cells = file.ints(3)
    if min(cells) < 1 or np.prod(cells, dtype=np.float64) * n_orbitals != n_all:
        raise _damaged(file.path, f"{n_all} orbitals in {cells} cells of {n_orbitals}")
    file.next(2 * (9 + 3 * n_atoms))
    logicals = tuple(range(file.at + 1, file.at + 4))
    gamma, _, overlap_only = (bool(x) for x in file.ints(3))
    if overlap_only:
        raise FormatError(f"{file.path}: expected H and S, got a TSHS file with S only (SIESTA's TS.S.Save)")
    file.next(15)
    numbers = file.doubles(3)
    file.next(2)
    last = file.next(n_atoms + 1)
    if last[0] != 0 or last[-1] != n_orbitals or (np.diff(last) < 1).any():
        raise _damaged(file.path, "atoms that do not fit its orbitals")
    per_row = np.array(file.next(n_orbitals))
    if per_row.sum(dtype=np.int64) != n_elements:
        raise _damaged(file.path, f"rows of {per_row.sum(dtype=np.int64)} elements where {n_elements} were expected")
    file.matrix(per_row, n_spin, 2)
    if not gamma:
        file.next(3 * int(np.prod(cells)))
    file.end()
    return Header(1, n_spin, float(numbers[1]), logicals, float(numbers[0]))


def _check_spin(file: _Records, n_spin: int) -> None:
    if n_spin not in (1, 2, 4, 8):
        raise _damaged(file.path, f"{n_spin} spin components")


def _damaged(path: Path, found: str) -> FormatError:
    return FormatError(f"{path}: expected a whole SIESTA HSX or TSHS file (little-endian Fortran records), got {found}; "
                       "copy it again, or run SIESTA again")  # fmt: skip
