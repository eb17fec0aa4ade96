"""CP2K's matrix files: find those of a run, and read one.

There is one file for each spin and periodic image, `PROJECT-KS_SPIN_1_R_<n>-1_0.csr`; without k-points, one for each spin.
The input may name them otherwise, by FILENAME in &KS_CSR_WRITE and &S_CSR_WRITE:

    x             PROJECT-x-KS_SPIN_1...
    ./place/x     place/x-KS_SPIN_1...
    ./place/      place/PROJECT-KS_SPIN_1...

The iteration `-1_0` is missing where COMMON_ITERATION_LEVELS takes it out.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harmose.errors import FormatError
from harmose.io.cp2k.output import Output
from harmose.io.cp2k.structure import parse_input

RECORD = np.dtype([("head", "<i4"), ("row", "<i4"), ("col", "<i4"), ("value", "<f8"), ("tail", "<i4")])
"""Fortran record of a binary file: row, column and value, with the length in bytes (16) before and after."""

NAME = re.compile(r"(?P<prefix>KS|S)_SPIN_(?P<spin>\d+)(?:_(?P<kind>[RK])_(?P<image>\d+))?(?:-(?P<iteration>.+))?\.csr")
"""Name of a file after `PROJECT-` or what stands in its place."""


def matrix_files(output: Output) -> dict[tuple[str, int, int], Path]:
    """Return the files by prefix, spin and image (0 without k-points); `FormatError` if they are of several steps."""
    files, iterations = {}, set()
    for prefix in ("KS", "S"):
        for stem in _stems(output, prefix):
            found = [(file, match) for file, match in _named_after(stem) if match["prefix"] == prefix]
            for file, match in found:
                if match["kind"] == "K":
                    raise FormatError(
                        f"{file}: expected matrices in real space, got one of a k-point (set REAL_SPACE T in CP2K)"
                    )
                files[prefix, int(match["spin"]), int(match["image"] or 0)] = file
                iterations.add(match["iteration"] or "none")
            if found:
                break
    if len(iterations) > 1:
        raise FormatError(
            f"{output.path.parent}: expected the matrices of one step, got {', '.join(sorted(iterations))}"
        )
    return files


def _named_after(stem: Path) -> list[tuple[Path, re.Match[str]]]:
    if not stem.parent.is_dir():
        return []
    files = stem.parent.glob(f"{_escaped(stem.name)}-*.csr")
    return [(file, match) for file in files if (match := NAME.fullmatch(file.name[len(stem.name) + 1 :]))]


def _stems(output: Output, prefix: str) -> list[Path]:
    """Return where the files of a matrix may be, without `-KS_SPIN_1...`: where the input says, beside the output, by default."""
    folder, default = output.path.parent, output.path.parent / output.project
    given = _file_name(output, prefix)
    if given is None:
        return [default]
    place, slash, name = given.rpartition("/")
    if not slash:
        return [folder / f"{output.project}-{name}", folder / name, default]
    return [folder / place / (name or output.project), folder / (name or output.project), default]


def _file_name(output: Output, prefix: str) -> str | None:
    """Return FILENAME of the section in the input beside the output; None if it is not given, or there is no input."""
    path = output.path.parent / Path(output.input_name).name
    if not path.is_file():
        return None
    section = parse_input(path).find("FORCE_EVAL", "DFT", "PRINT", f"{prefix}_CSR_WRITE")
    return (section.get("FILENAME") or "").strip("\"' =") or None


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def image_files(prefix: str, spin: int, output: Output, files: Mapping) -> list[tuple[Path, np.ndarray | None]]:
    """Return the files of one matrix, each with its R (3,) or, without k-points, None. `FormatError` for a missing file."""
    keyword = f"&{prefix}_CSR_WRITE with REAL_SPACE T"
    stem = _stems(output, prefix)[0]
    name = f"{stem.name}-{prefix}_SPIN_{spin}"
    if output.kmesh is None and (prefix, spin, 0) in files:
        return [(files[prefix, spin, 0], None)]
    if not any(key[:2] == (prefix, spin) for key in files):
        raise FormatError(f"{stem.parent}: expected {name}*.csr, found none; CP2K writes it with {keyword}")
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
            raise FormatError(f"{path}: expected records of {RECORD.itemsize} bytes, got {len(raw)} bytes: "
                              "the file is cut off; copy it again, or run CP2K again")  # fmt: skip
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


def check_diagonal(path: Path, rows: np.ndarray, cols: np.ndarray, n_orbitals: int) -> None:
    """`FormatError` unless the matrix of the home cell has all diagonal elements; a cut at the end of a record lacks some."""
    there = np.zeros(n_orbitals, dtype=bool)
    there[rows[rows == cols]] = True
    if not there.all():
        raise FormatError(
            f"{path}: expected the {n_orbitals} diagonal elements of the home cell, got {there.sum()}: the file is cut "
            f"off; copy it again, or run CP2K again"
        )


def _read_text(path: Path, raw: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if raw and not raw.endswith(b"\n"):
        raise FormatError(f"{path}: expected whole lines `row column value`, got a last line that is cut off; copy the file "
                          "again, or run CP2K again")  # fmt: skip
    try:
        numbers = np.array(raw.split(), dtype=np.float64).reshape(-1, 3)
    except ValueError:
        raise FormatError(f"{path}: expected lines `row column value` or CP2K's binary records") from None
    return numbers[:, 0], numbers[:, 1], numbers[:, 2]
