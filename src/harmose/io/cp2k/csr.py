"""CP2K's matrix files: find those of a run, and read one.

There is one file for each spin and periodic image, `PROJECT-KS_SPIN_1_R_<n>-1_0.csr`; without k-points, one for each spin.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harmose.errors import FormatError
from harmose.io.cp2k.output import Output

RECORD = np.dtype([("head", "<i4"), ("row", "<i4"), ("col", "<i4"), ("value", "<f8"), ("tail", "<i4")])
"""Fortran record of a binary file: row, column and value, with the length in bytes (16) before and after."""

NAME = re.compile(r"(?P<prefix>KS|S)_SPIN_(?P<spin>\d+)(?:_(?P<kind>[RK])_(?P<image>\d+))?-(?P<iteration>.+)\.csr")
"""Name of a file after `PROJECT-`."""


def matrix_files(output: Output) -> dict[tuple[str, int, int], Path]:
    """Return the files by prefix, spin and image (0 without k-points); `FormatError` if they are of several steps."""
    files, iterations = {}, set()
    for file in output.path.parent.glob(f"{_escaped(output.project)}-*.csr"):
        match = NAME.fullmatch(file.name[len(output.project) + 1 :])
        if match is None:
            continue
        if match["kind"] == "K":
            raise FormatError(
                f"{file}: expected matrices in real space, got one of a k-point (set REAL_SPACE T in CP2K)"
            )
        files[match["prefix"], int(match["spin"]), int(match["image"] or 0)] = file
        iterations.add(match["iteration"])
    if len(iterations) > 1:
        raise FormatError(
            f"{output.path.parent}: expected the matrices of one step, got {', '.join(sorted(iterations))}"
        )
    return files


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def image_files(prefix: str, spin: int, output: Output, files: Mapping) -> list[tuple[Path, np.ndarray | None]]:
    """Return the files of one matrix, each with its R (3,) or, without k-points, None. `FormatError` for a missing file."""
    keyword = f"&{prefix}_CSR_WRITE with REAL_SPACE T"
    name = f"{output.project}-{prefix}_SPIN_{spin}"
    if output.kmesh is None and (prefix, spin, 0) in files:
        return [(files[prefix, spin, 0], None)]
    if not any(key[:2] == (prefix, spin) for key in files):
        raise FormatError(f"{output.path.parent}: expected {name}*.csr, found none; CP2K writes it with {keyword}")
    cells = output.images.get(prefix, output.images.get("KS"))
    if cells is None:
        raise FormatError(f"{output.path}: expected the list of periodic images (PRINT_LEVEL MEDIUM), found none")
    written = {image for kind, s, image in files if (kind, s) == (prefix, spin)}
    wrong = sorted(written ^ set(range(1, len(cells) + 1)))
    if wrong:
        state = "unexpected" if wrong[0] in written else "missing"
        raise FormatError(
            f"{output.path.parent}: {state} {name}_R_{wrong[0]}-*.csr; the output lists {len(cells)} images"
        )
    return [(files[prefix, spin, image + 1], cell) for image, cell in enumerate(cells)]


def read_csr(path: Path, n_orbitals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read rows (nnz,), columns (nnz,), both from 0, and values (nnz,) of a text or binary file."""
    raw = path.read_bytes()
    if raw[:4] == b"\x10\x00\x00\x00":
        if len(raw) % RECORD.itemsize:
            raise FormatError(f"{path}: expected records of {RECORD.itemsize} bytes, got {len(raw)} bytes: cut off")
        table = np.frombuffer(raw, RECORD)
        if (table["head"] != 16).any() or (table["tail"] != 16).any():
            raise FormatError(f"{path}: expected Fortran records of row, column and value, got something else")
        rows, cols, values = table["row"], table["col"], table["value"]
    else:
        rows, cols, values = _read_text(path, raw)
    rows, cols = rows.astype(np.int64), cols.astype(np.int64)
    if len(rows) and not (min(rows.min(), cols.min()) >= 1 and max(rows.max(), cols.max()) <= n_orbitals):
        raise FormatError(f"{path}: expected rows and columns from 1 to {n_orbitals}, got {min(rows.min(), cols.min())} to "
                          f"{max(rows.max(), cols.max())}")  # fmt: skip
    return rows - 1, cols - 1, values


def _read_text(path: Path, raw: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if raw and not raw.endswith(b"\n"):
        raise FormatError(f"{path}: expected whole lines `row column value`, got a last line that is cut off")
    try:
        numbers = np.array(raw.split(), dtype=np.float64).reshape(-1, 3)
    except ValueError:
        raise FormatError(f"{path}: expected lines `row column value` or CP2K's binary records") from None
    return numbers[:, 0], numbers[:, 1], numbers[:, 2]
