"""Factors of a sparse Hermitian matrix, A = P^T L D L^dagger P: what solves A x = b many times, and counts negative eigenvalues.

MKL's PARDISO where `pypardiso` is installed (`pip install harmose[pardiso]`). Otherwise our own `dissection`, and SuperLU, which
comes with scipy, where states are counted: the same results from one processor and with more time and memory.

By Sylvester's law of inertia A has as many negative eigenvalues as D. With A = H - level S these are the states below a
level: exact, from one factorization, without any eigenvector.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from scipy import sparse
from scipy.linalg import get_lapack_funcs
from scipy.sparse.linalg import splu

from harmose.errors import ConfigError, MatrixError, SingularMatrix
from harmose.physics.sparse.nested_dissection import Dissection


class Factors(Protocol):
    """`solve`: A^-1 b of b (n,) or (n, m). `negative()`: how many eigenvalues of A are negative; None where not known."""

    def negative(self) -> int | None: ...

    def solve(self, b: np.ndarray) -> np.ndarray: ...

    def free(self) -> None: ...


Matrix: TypeAlias = "sparse.csr_matrix | sparse.bsr_matrix"
Factorize = Callable[[Matrix], Factors]


def factorizer(name: str | None = None, counts: bool = False) -> Factorize:
    """`pardiso`, `dissection`, `superlu` or `dense`; without a name the first that is installed and, if asked, `counts`.

    `ConfigError` for others.
    """
    if name is None:
        name = "pardiso" if _pardiso() is not None else "superlu" if counts else "dissection"
    if name == "dissection":
        return Dissection
    if name == "superlu":
        return SuperLU
    if name == "pardiso":
        if _pardiso() is None:
            raise ConfigError("solver: pardiso needs the package pypardiso (pip install harmose[pardiso])")
        return Pardiso
    if name == "dense":
        return Dense
    raise ConfigError(f"solver: expected pardiso, dissection, superlu or dense, got {name!r}")


class SuperLU:
    """Supernodal LU with pivots on the diagonal where they are not small, so that fill stays that of a symmetric matrix.

    `least`: the size of a diagonal pivot relative to the largest of its column below which another is taken; 0: never.
    """

    def __init__(self, matrix: Matrix, least: float = 1e-3) -> None:
        matrix = matrix.tocsr()
        # A Hermitian matrix by rows is its conjugate by columns.
        columns = sparse.csc_matrix((matrix.data.conj(), matrix.indices, matrix.indptr), shape=matrix.shape)
        options: dict[str, Any] = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": least}
        self._unstable = columns if least == 0 else None
        try:
            self._lu = splu(columns, options={"SymmetricMode": True}, **options)
        except RuntimeError as error:
            if "singular" in str(error):
                raise SingularMatrix("the matrix is singular to rounding") from None
            raise

    def negative(self) -> int | None:
        """With pivots on the diagonal only, L U is L D L^dagger, and the diagonal of U is D."""
        if not np.array_equal(self._lu.perm_r, self._lu.perm_c):
            return None
        return int(np.count_nonzero(self._lu.U.diagonal().real < 0))

    def solve(self, b: np.ndarray) -> np.ndarray:
        x = self._lu.solve(b)
        for _ in range(0 if self._unstable is None else 3):  # steps of iterative refinement
            x = x + self._lu.solve(b - self._unstable @ x)
        return x

    def free(self) -> None:
        del self._lu, self._unstable


class Dense:
    """L D L^dagger of LAPACK with the pivots of Bunch and Kaufman: for matrices of which little is zero. Always counts."""

    def __init__(self, matrix: Matrix) -> None:
        kind = "he" if np.iscomplexobj(matrix.data) else "sy"
        names = (f"{kind}trf", f"{kind}trf_lwork", f"{kind}trs")
        factorize, size, self._solve = get_lapack_funcs(names, dtype=matrix.dtype)
        work = int(np.real(size(matrix.shape[0], lower=1)[0]))
        self._factors, self._pivots, info = factorize(matrix.toarray().T.conj(), lwork=work, lower=1, overwrite_a=1)
        if info > 0:
            raise SingularMatrix("the matrix is singular to rounding")

    def negative(self) -> int | None:
        """Of a pivot of two rows one eigenvalue is negative."""
        pairs = self._pivots < 0
        return int(np.count_nonzero(np.real(np.diagonal(self._factors))[~pairs] < 0) + np.count_nonzero(pairs) // 2)

    def solve(self, b: np.ndarray) -> np.ndarray:
        return self._solve(self._factors, self._pivots, b, lower=1)[0].reshape(b.shape)

    def free(self) -> None:
        del self._factors


def _pardiso() -> Any:
    try:
        from pypardiso import PyPardisoSolver

        return PyPardisoSolver().libmkl.pardiso
    except ImportError:  # not installed, or without MKL
        return None


class Pardiso:
    """L D L^dagger with 1 x 1 and 2 x 2 pivots (Schenk and Gaertner, ETNA 23, 158 (2006)), of the upper triangle."""

    REAL_SYMMETRIC, COMPLEX_HERMITIAN = -2, -4
    FACTORIZE, SOLVE, FREE = 12, 33, -1
    OUT_OF_MEMORY, ZERO_PIVOT = -2, -4

    def __init__(self, matrix: Matrix) -> None:
        self._call_library = _pardiso()
        upper = sparse.triu(matrix, format="csr")
        upper.sort_indices()
        self._values = np.ascontiguousarray(upper.data, dtype=np.complex128 if np.iscomplexobj(upper) else np.float64)
        self._rows, self._cols = upper.indptr.astype(np.int32), upper.indices.astype(np.int32)
        self._kind = self.COMPLEX_HERMITIAN if np.iscomplexobj(upper) else self.REAL_SYMMETRIC
        self._handle, self._settings = np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int32)
        self._settings[[0, 1, 9, 10, 12, 20, 34]] = (
            1,
            2,
            8,
            1,
            1,
            1,
            1,
        )  # METIS; pivots perturbed by 1e-8; scaling; from 0
        self._settings[7] = 2  # steps of iterative refinement
        self._settings[17] = -1
        nothing = np.zeros(1, dtype=self._values.dtype)
        self._call(self.FACTORIZE, nothing, nothing)
        positive, negative, perturbed = self._settings[[21, 22, 13]].tolist()
        # The signs are reported of real matrices only, and a perturbed pivot may have either.
        self._negative = negative if positive + negative == len(self._rows) - 1 and not perturbed else None

    def negative(self) -> int | None:
        return self._negative

    @property
    def n_values(self) -> int:
        """Values of L."""
        return int(self._settings[17])

    def solve(self, b: np.ndarray) -> np.ndarray:
        b = np.asfortranarray(b, dtype=self._values.dtype)
        x = np.empty_like(b, order="F")
        self._call(self.SOLVE, b, x)
        return x

    def free(self) -> None:
        nothing = np.zeros(1, dtype=self._values.dtype)
        self._call(self.FREE, nothing, nothing)

    def _call(self, phase: int, b: np.ndarray, x: np.ndarray) -> None:
        import ctypes

        def whole(n: int):
            return ctypes.byref(ctypes.c_int32(n))

        def array(a: np.ndarray, kind: Any = ctypes.c_int32):
            return a.ctypes.data_as(ctypes.POINTER(kind))

        error, no_order = ctypes.c_int32(0), np.zeros(1, dtype=np.int32)
        n, n_columns = len(self._rows) - 1, 1 if b.ndim == 1 else b.shape[1]
        self._call_library(
            array(self._handle, ctypes.c_int64), whole(1), whole(1), whole(self._kind), whole(phase), whole(n),
            self._values.ctypes.data, array(self._rows), array(self._cols), array(no_order), whole(n_columns),
            array(self._settings), whole(0), b.ctypes.data, x.ctypes.data, ctypes.byref(error),
        )  # fmt: skip
        if error.value == self.ZERO_PIVOT:
            raise SingularMatrix("the matrix is singular to rounding")
        if error.value == self.OUT_OF_MEMORY:
            raise MemoryError("PARDISO: not enough memory for the factors")
        if error.value:
            raise MatrixError(f"PARDISO: error {error.value}")
