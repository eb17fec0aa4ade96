"""Factors of a large Hermitian matrix by nested dissection: a few large dense blocks in place of many small ones.

    A = [[A_oo, A_ob], [A_bo, A_bb]],        S = A_bb - A_bo A_oo^-1 A_ob

Atoms are halved again and again; those of one half that touch the other separate the two (George, SIAM J. Numer. Anal. 10,
345 (1973)). Halves come from the second eigenvector of the graph (Pothen, Simon and Liou, SIAM J. Matrix Anal. Appl. 11,
430 (1990)). Each set of rows o is eliminated before the separators b that it touches; its Schur complement S is added to
the next of them (multifrontal method: Duff and Reid, ACM TOMS 9, 302 (1983)). Nearly all time is in products of dense matrices.

Why not a library alone: docs/performance.md has the measurements. SuperLU takes three times as long at 11,000 orbitals. PARDISO is
as fast or faster, but needs MKL (840 MB), double precision, and all factors in memory.

Pivots are exchanged within blocks of the diagonal only. The factors are therefore those of A + E with an error E that may be
larger than rounding, and `solve` refines. Refinement converges if and only if (A + E)^-1 E has eigenvalues below 1 alone; then no
A + t E is singular for t = 0 to 1, and A has as many negative eigenvalues as its factors (In A = In A_oo + In S; Haynsworth,
Linear Algebra Appl. 1, 73 (1968)), in single precision too.
"""

import tempfile
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import scipy

from harmose.errors import SingularMatrix
from harmose.physics.sparse.bloch import Matrix
from harmose.physics.sparse.row_blocks import ranges
from harmose.physics.sparse.settings import DEFAULT, SparseSettings


class Front(NamedTuple):
    """Nodes `own` that are eliminated together, later nodes `border` that they then touch, and fronts `children` before them."""

    own: np.ndarray
    border: np.ndarray
    children: list[int]


class NestedDissection:
    """A `factorization.Factorization`; each block of rows of a BSR matrix, or row of a CSR one, is a node of the graph."""

    def __init__(self, matrix: Matrix, settings: SparseSettings = DEFAULT) -> None:
        self._matrix, self._settings = matrix, settings
        self._block = matrix.blocksize[0] if matrix.format == "bsr" else 1
        single = np.dtype(np.complex64 if np.iscomplexobj(matrix.data) else np.float32)
        self._dtype = matrix.dtype if matrix.shape[0] < settings.single_above else single
        n = len(matrix.indptr) - 1
        graph = scipy.sparse.csr_matrix(
            (np.ones(len(matrix.indices), np.float32), matrix.indices, matrix.indptr), (n, n)
        )
        self._fronts = fronts(graph, max(settings.leaf_rows // self._block, 1))
        self._rows = [(self._rows_of(front.own), self._rows_of(front.border)) for front in self._fronts]
        self._negative = 0
        self._factors = self._factorize()

    def negative(self) -> int:
        return self._negative

    def free(self) -> None:
        del self._factors, self._matrix

    @property
    def n_values(self) -> int:
        """Number of values of the factors."""
        return sum(len(own) * (len(own) + len(border)) for own, border in self._rows)

    def solve(self, b: np.ndarray) -> np.ndarray:
        x, size, previous = self._substitute(b), np.linalg.norm(b) or 1.0, np.inf
        for _ in range(self._settings.max_refinements):
            rest = b - self._matrix @ x
            residual = np.linalg.norm(rest) / size
            stagnates = residual > 0.9 * previous
            if residual <= (self._settings.refined_enough if stagnates else self._settings.refined):
                return x
            if stagnates:
                break
            x, previous = x + self._substitute(rest), residual
        raise SingularMatrix("the matrix is singular to rounding")

    def _substitute(self, b: np.ndarray) -> np.ndarray:
        """A^-1 b from the factors, without refinement."""
        x = b.astype(self._dtype)
        for (own, border), (factors, across) in zip(self._rows, self._factors, strict=True):
            own_x = x[own]
            x[border] -= across.conj().T @ own_x
            solve_ldl(factors, own_x, self._settings.pivot_rows)
            x[own] = own_x
        for (own, border), (_, across) in zip(reversed(self._rows), reversed(self._factors), strict=True):
            x[own] -= across @ x[border]
        return x.astype(np.result_type(b, self._matrix.dtype))

    def _rows_of(self, nodes: np.ndarray) -> np.ndarray:
        return (nodes[:, None] * self._block + np.arange(self._block)).ravel()

    def _factorize(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the factors of A_oo and A_oo^-1 A_ob for each front."""
        storage = _Storage(self.n_values, self._dtype, self._settings.memory_bytes)
        pivot_rows, strip = self._settings.pivot_rows, self._settings.strip_columns
        out, complements = [], {}
        place = np.empty(len(self._matrix.indptr) - 1, int)
        for k, front in enumerate(self._fronts):
            oo, bo, bb = self._assemble(front, place, complements)
            self._negative += factorize_ldl(oo, pivot_rows, strip)
            oo = storage.keep(oo)
            across = np.conjugate(bo.T, out=np.empty(bo.T.shape, self._dtype))
            solve_ldl(oo, across, pivot_rows)
            across = storage.keep(across)
            subtract_lower(bb, bo, across, strip)
            out.append((oo, across))
            if len(bb):
                complements[k] = bb
        return out

    def _assemble(
        self, front: Front, place: np.ndarray, complements: dict[int, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return A_oo, A_bo and A_bb of a front, with the Schur complements of its children, which leave `complements`.

        Only the lower triangles of A_oo and A_bb have a meaning.
        """
        size, n_own, n_border = self._block, len(front.own), len(front.border)
        place[:] = -1
        place[front.own], place[front.border] = np.arange(n_own), np.arange(n_own, n_own + n_border)
        rows = np.repeat(np.arange(n_own), np.diff(self._matrix.indptr)[front.own])
        which = ranges(self._matrix.indptr, front.own)
        columns, values = place[self._matrix.indices[which]], self._matrix.data[which].reshape(-1, size, size)
        oo = np.zeros((n_own, size, n_own, size), self._dtype)
        bo = np.zeros((n_border, size, n_own, size), self._dtype)
        inside, later = (columns >= 0) & (columns < n_own), columns >= n_own
        oo[rows[inside], :, columns[inside]] = values[inside]
        bo[columns[later] - n_own, :, rows[later]] = values[later].conj().swapaxes(1, 2)
        oo, bo = oo.reshape(n_own * size, -1), bo.reshape(n_border * size, n_own * size)
        bb = np.zeros((n_border * size, n_border * size), self._dtype)
        for child in front.children:
            complement = complements.pop(child)
            at = self._rows_of(place[self._fronts[child].border])  # ascending
            n = np.count_nonzero(at < len(oo))
            inner, outer = at[:n], at[n:] - len(oo)
            self._add(oo, inner, inner, complement[:n, :n])
            self._add(bo, outer, inner, complement[n:, :n])
            self._add(bb, outer, outer, complement[n:, n:])
        return oo, bo, bb

    def _add(self, to: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """Add `values` at `rows` and `columns`, a strip of rows at a time: numpy copies what it indexes."""
        for start in range(0, len(rows), self._settings.strip_columns):
            strip = slice(start, start + self._settings.strip_columns)
            to[rows[strip, None], columns] += values[strip]


def factorize_ldl(a: np.ndarray, size: int, strip: int) -> int:
    """Overwrite the lower triangle of a Hermitian matrix (n, n) by L and D^-1 of A = L D L^dagger, D of blocks of `size` rows.

    Returns the number of negative eigenvalues. Raises `SingularMatrix` where a block of D has no inverse.
    """
    negative = 0
    for start in range(0, len(a), size):
        stop = start + size
        diagonal, below = a[start:stop, start:stop], a[stop:, start:stop]
        block = np.tril(diagonal, -1)
        block = block + block.conj().T + np.diag(np.real(diagonal.diagonal()))
        _, pivots, _ = scipy.linalg.ldl(block)  # pivots of one and of two rows: tridiagonal
        beside = np.abs(pivots.diagonal(-1))
        negative += int(np.count_nonzero(scipy.linalg.eigvalsh_tridiagonal(pivots.diagonal().real, beside) < 0))
        try:
            diagonal[...] = np.linalg.inv(block)
        except np.linalg.LinAlgError:
            raise SingularMatrix("the matrix is singular to rounding") from None
        lower = below @ diagonal
        subtract_lower(a[stop:, stop:], lower, below.conj().T, strip)
        below[...] = lower
    return negative


def solve_ldl(factors: np.ndarray, x: np.ndarray, size: int) -> None:
    """Overwrite x, (n,) or (n, m), by A^-1 x, from the factors of `factorize_ldl`."""
    starts = range(0, len(x), size)
    for start in starts:
        stop = start + size
        x[stop:] -= factors[stop:, start:stop] @ x[start:stop]
    for start in reversed(starts):
        stop = start + size
        x[start:stop] = factors[start:stop, start:stop] @ x[start:stop]
        x[start:stop] -= factors[stop:, start:stop].conj().T @ x[stop:]


def subtract_lower(a: np.ndarray, left: np.ndarray, right: np.ndarray, strip: int) -> None:
    """Subtract left @ right, which is Hermitian, from the lower triangle of `a`."""
    for start in range(0, len(a), strip):
        columns = slice(start, start + strip)
        a[start:, columns] -= left[start:] @ right[:, columns]


def fronts(graph: "scipy.sparse.csr_matrix", leaf: int) -> list[Front]:
    """Return the fronts of a symmetric pattern in the order of elimination; sets of at most `leaf` nodes are not halved."""
    eliminated: list[tuple[np.ndarray, list[int]]] = []
    _dissect(graph, np.arange(graph.shape[0]), leaf, eliminated)
    order = np.empty(graph.shape[0], int)  # of elimination
    order[np.concatenate([own for own, _ in eliminated])] = np.arange(graph.shape[0])
    out: list[Front] = []
    for own, children in eliminated:
        touched = [graph.indices[ranges(graph.indptr, own)], *(out[i].border for i in children)]
        touched = np.unique(np.concatenate(touched))
        touched = touched[order[touched] > order[own[-1]]]
        out.append(Front(own, touched[np.argsort(order[touched])], children))
    return out


def _dissect(
    graph: "scipy.sparse.csr_matrix", nodes: np.ndarray, leaf: int, out: list[tuple[np.ndarray, list[int]]]
) -> list[int]:
    """Append the sets of `nodes` that are eliminated together, with their children; return the indices of the last ones."""
    if len(nodes) <= leaf:
        out.append((nodes, []))
        return [len(out) - 1]
    inner = graph[nodes][:, nodes]
    upper = _half(inner)
    touching = np.flatnonzero(upper)[np.diff(inner[upper][:, ~upper].indptr) > 0]
    touched = np.flatnonzero(~upper)[np.diff(inner[~upper][:, upper].indptr) > 0]
    separator = np.zeros(len(nodes), bool)
    separator[min(touching, touched, key=len)] = True
    children: list[int] = []
    for side in (upper & ~separator, ~upper & ~separator):
        if side.any():
            children += _dissect(graph, nodes[side], leaf, out)
    if not separator.any():
        return children
    out.append((nodes[separator], children))
    return [len(out) - 1]


def _half(graph: "scipy.sparse.csr_matrix") -> np.ndarray:
    """Return True for the nodes (n,) of one half: those where the slowest mode of a random walk is above its median."""
    n = graph.shape[0]
    root = 1 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1.0))
    walk = scipy.sparse.diags_array(root) @ graph @ scipy.sparse.diags_array(root)
    start = np.random.default_rng(0).normal(size=n).astype(walk.dtype)
    mode = np.arange(n)  # any halves will do
    if n > 2:
        with suppress(scipy.sparse.linalg.ArpackNoConvergence):
            values, vectors = scipy.sparse.linalg.eigsh(walk, 2, which="LA", v0=start, tol=1e-2, ncv=min(n, 12))
            mode = vectors[:, np.argmin(values)] * root
    upper = np.zeros(n, bool)
    upper[np.argsort(mode, kind="stable")[n // 2 :]] = True
    return upper


class _Storage:
    """Memory for the factors, or a temporary file without a name for more than `limit` bytes."""

    def __init__(self, n_values: int, dtype: np.dtype, limit: float) -> None:
        self._taken, self._values = 0, None
        if n_values * dtype.itemsize > limit:
            with tempfile.TemporaryFile() as file:
                self._values = np.memmap(file, dtype, "w+", shape=(n_values,))

    def keep(self, matrix: np.ndarray) -> np.ndarray:
        if self._values is None:
            return matrix
        out = self._values[self._taken : self._taken + matrix.size].reshape(matrix.shape)
        self._taken += matrix.size
        out[...] = matrix
        return out
