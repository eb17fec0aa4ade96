"""PETSc's binary files of H(k) and S(k): for SLEPc's solvers on clusters, where they do not fit on one machine.

A folder with one file for each matrix, `H.petsc` and `S.petsc`, in the layout that PETSc's MatView documents for a binary viewer,
big-endian throughout:

    int32   1211216                        (MAT_FILE_CLASSID)
    int32   rows, columns, values
    int32   values of each row             (rows)
    int32   column of each value, from 0   (values)
    float64 values                         (values; a complex one as its real and imaginary part)

Of collinear spins H is `H.up.petsc` and `H.dn.petsc`. Real at Gamma; else for a PETSc that was configured with complex scalars.
`harmose.io.files.write_petsc` writes a sample at a k-point.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy import sparse

from harmose.core.files import atomic_path
from harmose.errors import FormatError

CLASS_ID = 1211216
CHUNK = 2**22
"""Values that are turned to big-endian at once."""


def write_petsc(folder: str | Path, matrices: Mapping[str, sparse.csr_matrix]) -> None:
    """Each matrix by its name as a file of a new folder; `FormatError` where `folder` exists."""
    with atomic_path(folder, overwrite=False) as hidden:
        hidden.mkdir()
        for name, matrix in matrices.items():
            _write(hidden / f"{name}.petsc", matrix)


def _write(path: Path, matrix: sparse.csr_matrix) -> None:
    if matrix.nnz >= 2**31:
        raise FormatError(
            f"{path.name}: expected fewer than 2^31 values, which PETSc's 32-bit files hold, got {matrix.nnz}"
        )
    with path.open("wb") as file:
        np.array([CLASS_ID, *matrix.shape, matrix.nnz], dtype=">i4").tofile(file)
        _put(file, np.diff(matrix.indptr), ">i4")
        _put(file, matrix.indices, ">i4")
        _put(file, matrix.data, ">c16" if np.iscomplexobj(matrix.data) else ">f8")


def _put(file: BinaryIO, values: np.ndarray, kind: str) -> None:
    for start in range(0, len(values), CHUNK):
        values[start : start + CHUNK].astype(kind).tofile(file)
