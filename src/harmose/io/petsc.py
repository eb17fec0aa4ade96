"""PETSc's binary files of H(k) and S(k), for SLEPc's eigensolvers on clusters.

A folder holds one file for each matrix, `H.petsc` and `S.petsc`, in the big-endian layout that PETSc documents for
`MatView` with a binary viewer:

    int32   1211216                        (MAT_FILE_CLASSID)
    int32   rows, columns, values
    int32   number of values in each row   (rows)
    int32   column of each value, from 0   (values)
    float64 values                         (values; a complex value as its real and imaginary part)

Collinear H is in `H.up.petsc` and `H.dn.petsc`. Values are real at Gamma; elsewhere they are complex, and PETSc must be
configured with complex scalars.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy import sparse

from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.physics.sparse.bloch import sparse_at
from harmose.spin import Spin

CLASS_ID = 1211216
CHUNK = 2**22
"""Number of values that are converted to big-endian at a time."""


def write_petsc(folder: str | Path, sample: Sample, kpoint: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
    """Write H(k), in eV, and S(k), if the sample has S, at one k-point (fractional) to a new folder.

    `FormatError` if `folder` exists.
    """
    h, s = sample.hamiltonian, sample.overlap
    names = ("H.up", "H.dn") if h.spin is Spin.COLLINEAR else ("H",)
    matrices: dict[str, sparse.csr_matrix] = dict(zip(names, sparse_at(h, kpoint), strict=True))
    if s is not None:
        matrices["S"] = sparse_at(s, kpoint, h.spin)[0]
    with atomic_path(folder, overwrite=False) as hidden:
        hidden.mkdir()
        for name, matrix in matrices.items():
            write_matrix(hidden / f"{name}.petsc", matrix)


def write_matrix(path: Path, matrix: sparse.csr_matrix) -> None:
    """Write one sparse matrix; `FormatError` if it has too many values for PETSc's 32-bit indices."""
    if matrix.nnz >= 2**31:
        raise FormatError(
            f"{path.name}: expected fewer than 2^31 values, which PETSc's 32-bit files hold, got {matrix.nnz}"
        )
    with path.open("wb") as file:
        np.array([CLASS_ID, *matrix.shape, matrix.nnz], dtype=">i4").tofile(file)
        _put(file, np.diff(matrix.indptr), ">i4")
        _put(file, matrix.indices, ">i4")
        _put(file, matrix.data, ">c16" if np.iscomplexobj(matrix.data) else ">f8")


def _put(file: BinaryIO, values: np.ndarray, dtype: str) -> None:
    for start in range(0, len(values), CHUNK):
        values[start : start + CHUNK].astype(dtype).tofile(file)
