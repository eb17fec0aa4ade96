"""Factors of a sparse Hermitian matrix A, from which A x = b is solved many times and negative eigenvalues are counted.

By Sylvester's law of inertia A = L D L^dagger has as many negative eigenvalues as D. With A = H - E S these are the states below
the energy E: exact, from one factorization, without any eigenvector.

The solvers are our `nested_dissection` (the default, since it needs no further package; measurements are in docs/performance.md),
MKL's PARDISO where `pypardiso` is installed (`pip install harmose[pardiso]`), and scipy's SuperLU, which cannot count.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import scipy

from harmose.errors import ConfigError, MatrixError, SingularMatrix
from harmose.physics.sparse.bloch import Matrix
from harmose.physics.sparse.nested_dissection import NestedDissection
from harmose.physics.sparse.settings import DEFAULT, SparseSettings


class Factorization(Protocol):
    """Factors of a Hermitian matrix A (n, n)."""

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A^-1 b for b (n,). Raises `SingularMatrix` where A has no inverse."""
        ...

    def negative(self) -> int | None:
        """Return the number of negative eigenvalues of A; None where the solver cannot tell."""
        ...

    def free(self) -> None:
        """Give the memory back."""
        ...


Factorize = Callable[[Matrix], Factorization]


class SuperLU:
    """scipy's supernodal LU, pivots on the diagonal where they are not small, so that fill stays that of a symmetric matrix."""

    def __init__(self, matrix: Matrix) -> None:
        options: dict[str, Any] = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 1e-3}
        try:
            self._lu = scipy.sparse.linalg.splu(matrix.tocsc(), options={"SymmetricMode": True}, **options)
        except RuntimeError as error:
            if "singular" in str(error):
                raise SingularMatrix("the matrix is singular to rounding") from None
            raise

    def solve(self, b: np.ndarray) -> np.ndarray:
        return self._lu.solve(b)

    def negative(self) -> None:
        """Return None: pivots are exchanged without regard to symmetry."""

    def free(self) -> None:
        del self._lu


class Pardiso:
    """MKL's L D L^T with pivots of one and two rows (Schenk and Gaertner, ETNA 23, 158 (2006)), through `pypardiso`.

    pypardiso takes real matrices. A complex one, X + iY, is solved as the real one [[X, -Y], [Y, X]], which has each of its
    eigenvalues twice.
    """

    SYMMETRIC_INDEFINITE = -2
    SETTINGS: ClassVar = {
        1: 1,  # not the defaults
        2: 2,  # order by METIS
        8: 2,  # steps of iterative refinement
        10: 8,  # pivots are perturbed to 1e-8
        11: 1,  # scale
        13: 1,  # weighted matching
        18: -1,  # count the values of the factors
        21: 1,  # Bunch-Kaufman pivots
    }  # numbers as in the manual, from 1
    PERTURBED, NEGATIVE = 14, 23

    def __init__(self, matrix: Matrix) -> None:
        try:
            from pypardiso import PyPardisoSolver

            self._solver = PyPardisoSolver(self.SYMMETRIC_INDEFINITE, size_limit_storage=np.inf)
        except ImportError:  # not installed, or without MKL
            raise ConfigError("solver: pardiso needs the package pypardiso (pip install harmose[pardiso])") from None
        self._is_complex = np.iscomplexobj(matrix.data)
        if self._is_complex:
            x, y = matrix.real, matrix.imag
            matrix = scipy.sparse.bmat([[x, -y], [y, x]], format="csr")
        self._upper = scipy.sparse.triu(matrix, format="csr").astype(np.float64)
        for number, value in self.SETTINGS.items():
            self._solver.set_iparm(number, value)
        self._call(self._solver.factorize, self._upper)

    def solve(self, b: np.ndarray) -> np.ndarray:
        if not self._is_complex:
            return self._call(self._solver.solve, self._upper, b)
        real, imaginary = np.split(
            self._call(self._solver.solve, self._upper, np.concatenate([np.real(b), np.imag(b)])), 2
        )
        return real + 1j * imaginary

    def negative(self) -> int | None:
        """Return the number of negative eigenvalues; None after pivots were perturbed, which may change signs."""
        if self._solver.get_iparm(self.PERTURBED):
            return None
        return int(self._solver.get_iparm(self.NEGATIVE)) // (2 if self._is_complex else 1)

    def free(self) -> None:
        self._solver.free_memory(everything=True)

    @staticmethod
    def _call(function: Callable[..., Any], *arguments: Any) -> Any:
        from pypardiso.pardiso_wrapper import PyPardisoError

        try:
            return function(*arguments)
        except PyPardisoError as error:
            if error.value == -4:
                raise SingularMatrix("the matrix is singular to rounding") from None
            if error.value == -2:
                raise MemoryError("PARDISO: not enough memory for the factors") from None
            raise MatrixError(f"PARDISO: error {error.value}") from None


def factorizer(name: str | None = None, settings: SparseSettings = DEFAULT) -> Factorize:
    """Return the class that factorizes: `dissection` (default), `pardiso` or `superlu`; `ConfigError` for other names."""
    solvers: dict[str, Factorize] = {
        "dissection": partial(NestedDissection, settings=settings),
        "pardiso": Pardiso,
        "superlu": SuperLU,
    }
    if name is not None and name not in solvers:
        raise ConfigError(f"solver: expected {', '.join(solvers)}, got {name!r}")
    return solvers[name or "dissection"]
