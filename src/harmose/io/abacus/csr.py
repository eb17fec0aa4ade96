"""ABACUS's sparse matrices H(R) and S(R) as text: one CSR matrix for each lattice vector R.

    STEP: 0                                      --- Ionic Step 1 ---
    Matrix Dimension of H(R): 53                 ...
    Matrix number of H(R): 51                    53 # number of localized basis
    Rx Ry Rz n                                   51 # number of Bravais lattice vector R
    n values                                     the structure; the text "CSR Format"; then
    n columns                                    Rx Ry Rz n, and below comments the same three tables
    53 + 1 starts of rows

Left: ABACUS up to 3.8. Right: newer versions. The file names do not differ. Complex values are written as (re,im).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmose.errors import FormatError


@dataclass(frozen=True)
class CellMatrices:
    """A matrix with `size` rows and columns: `values[k] = <rows[k], home cell | X | cols[k], cell cells[k]>`."""

    size: int
    rows: np.ndarray
    cols: np.ndarray
    cells: np.ndarray
    values: np.ndarray


def read_cell_matrices(path: Path) -> CellMatrices:
    """Read the matrices of a file; `FormatError` if it is damaged or holds the steps of a trajectory."""
    try:
        with path.open(errors="replace") as file:
            return _read(path, file)
    except OSError as error:
        raise FormatError(f"{path}: expected a readable file ({error.strerror})") from None


def _read(path: Path, file: Iterator[str]) -> CellMatrices:
    size, n_cells = _header(path, file)
    if not (0 < size <= path.stat().st_size and 0 < n_cells <= path.stat().st_size):
        raise FormatError(f"{path}: expected matrices of some orbitals for some cells, got {size} orbitals and {n_cells} cells "
                          f"in {path.stat().st_size} bytes")  # fmt: skip
    body = _Body(path, file)
    parts = [body.matrix(size) for _ in range(n_cells)]
    body.end()
    cells, rows, cols, values = zip(*parts)
    counts = [len(r) for r in rows]
    return CellMatrices(
        size,
        np.concatenate(rows),
        np.concatenate(cols),
        np.repeat(np.array(cells, dtype=np.int64), counts, axis=0),
        np.concatenate(values),
    )


_SIZE = re.compile(r"Matrix Dimension of .*:\s*(\d+)\s*$|^\s*(\d+)\s*# number of localized basis")
_CELLS = re.compile(r"Matrix number of .*:\s*(\d+)\s*$|^\s*(\d+)\s*# number of Bravais lattice vector")
_MAX_DIGITS = 12


def _header(path: Path, file: Iterator[str]) -> tuple[int, int]:
    """Return the numbers of orbitals and cells. The next lines of `file` are the first matrix."""
    size = None
    for number, line in enumerate(file):
        if size is None and number > 20:
            break
        if found := _SIZE.search(line):
            size = _whole(path, found)
        elif size is not None and (found := _CELLS.search(line)):
            if found[1] is None and not any("CSR Format" in line for line in file):
                break
            return size, _whole(path, found)
    raise FormatError(f"{path}: expected sparse matrices of ABACUS (out_mat_hs2), got a file without their header; copy it "
                      "again, or run ABACUS again")  # fmt: skip


def _whole(path: Path, found: re.Match[str]) -> int:
    digits = found[1] or found[2]
    if len(digits) > _MAX_DIGITS:
        raise FormatError(f"{path}: expected a number of orbitals and cells, got {digits[:40]}")
    return int(digits)


class _Body:
    """Reads tables of numbers. A table may span several lines; comments name the next table."""

    def __init__(self, path: Path, file: Iterator[str]) -> None:
        self.path, self._lines, self._pending = path, iter(file), None
        self._comment = ""

    def _line(self) -> str | None:
        """Return the next line with numbers, None at the end."""
        if self._pending is not None:
            line, self._pending = self._pending, None
            return line
        for line in self._lines:
            text = line.strip()
            if text.startswith("#"):
                self._comment = text
            elif text:
                return text
        return None

    def _numbers(self, count: int, what: str, dtype: type = int) -> np.ndarray:
        words: list[str] = []
        is_complex = False
        while len(words) < count * (1 + is_complex):
            line = self._line()
            if line is None:
                raise self._damaged(f"the end of the file after {len(words)} of {count} {what}")
            if "(" in line:
                is_complex = True
                line = line.translate(_BRACKETS)
            words += line.split()
        if len(words) != count * (1 + is_complex):
            raise self._damaged(f"{len(words)} numbers where {count} {what} were expected")
        try:
            values = np.array(words, dtype=dtype)
        except (ValueError, OverflowError):
            raise self._damaged(f"{what} that are no numbers ({' '.join(words)[:40]!r})") from None
        return values.view(np.complex128) if is_complex and dtype is float else values

    def matrix(self, size: int) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
        """Read cell, rows, columns and values of one matrix."""
        *cell, count = self._numbers(4, "numbers of a cell").tolist()
        if max(map(abs, cell)) > 100 or not 0 <= count <= size * size:
            raise self._damaged(f"{count} elements for cell {cell} of a matrix of {size} orbitals")
        if count == 0:
            self._pass_empty(size)
            return cell, np.zeros(0, int), np.zeros(0, int), np.zeros(0)
        values = self._numbers(count, f"values of cell {cell}", float)
        cols = self._numbers(count, f"columns of cell {cell}")
        starts = self._numbers(size + 1, f"rows of cell {cell}")
        if starts[0] != 0 or starts[-1] != count or (np.diff(starts) < 0).any() or cols.min() < 0 or cols.max() >= size:
            raise self._damaged(f"rows and columns of cell {cell} that do not fit {count} elements of {size} orbitals")
        return cell, np.repeat(np.arange(size), np.diff(starts)), cols, values

    def _pass_empty(self, size: int) -> None:
        """Skip the row starts that newer versions write for an empty matrix."""
        self._comment = ""
        self._pending = self._line()
        if "row" in self._comment:
            self._numbers(size + 1, "rows")

    def end(self) -> None:
        line = self._line()
        if line is not None and "step" in line.lower():
            raise FormatError(f"{self.path}: expected the matrices of one geometry, got several steps of a trajectory")
        if line is not None:
            raise self._damaged(f"{line[:40]!r} after the last matrix")

    def _damaged(self, found: str) -> FormatError:
        return FormatError(
            f"{self.path}: expected whole sparse matrices of ABACUS, got {found}; copy the file again, or run ABACUS again"
        )


_BRACKETS = str.maketrans("()[],", "     ")
