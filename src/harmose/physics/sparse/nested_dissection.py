"""Factors of a large Hermitian matrix by nested dissection: a few large dense blocks in place of many small ones.

    S = A_bb - A_bo A_oo^-1 A_ob

Atoms are halved, again and again; those of one half that touch the other are a border between the two (George, SIAM J. Numer.
Anal. 10, 345 (1973)). Halves come from the second eigenvector of the graph (Pothen, Simon and Liou, SIAM J. Matrix Anal. Appl.
11, 430 (1990)). What is innermost is eliminated first: of each part the own orbitals o, whose Schur complement S is handed to
the border b (Duff and Reid, ACM TOMS 9, 302 (1983)). Within o pivots are exchanged, between parts not: `solve` refines, and says
if it cannot. Nearly all time is in products of dense matrices. Factors of more than `IN_MEMORY` bytes go to a file.
"""

import tempfile
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from harmose.errors import SingularMatrix
from harmose.physics.sparse.row_blocks import ranges

LEAF = 500
"""Rows of a part that is not halved any more."""
SINGLE = 40_000
"""Rows from which on factors are in single precision: half the memory and time, and `solve` refines."""
IN_MEMORY = 2e9
STRIP = 2048
"""Columns of a Schur complement at once: only its lower triangle is worked out."""
STEPS, ENOUGH = 40, 1e-11
"""Of refinement: steps at most, and the residual relative to b that ends them."""


class Part(NamedTuple):
    """Blocks of rows that are eliminated together, later ones that these touch then, and the parts eliminated before them."""

    own: np.ndarray
    border: np.ndarray
    below: list[int]


class Dissection:
    """`factorization.Factors` of a CSR or BSR matrix; a block of rows of the latter is one node of the graph."""

    def __init__(self, matrix: sparse.csr_matrix | sparse.bsr_matrix) -> None:
        self._matrix, self._block = matrix, matrix.blocksize[0] if matrix.format == "bsr" else 1
        single = np.dtype(np.complex64 if np.iscomplexobj(matrix.data) else np.float32)
        self._dtype = matrix.dtype if matrix.shape[0] < SINGLE else single
        n = len(matrix.indptr) - 1
        graph = sparse.csr_matrix((np.ones(len(matrix.indices), np.float32), matrix.indices, matrix.indptr), (n, n))
        self._parts = parts(graph, max(LEAF // self._block, 1))
        self._at = [(self._rows(part.own), self._rows(part.border)) for part in self._parts]
        self._factors = self._eliminated()

    def negative(self) -> None:
        """Not known: pivots are exchanged without regard to symmetry."""

    def free(self) -> None:
        del self._factors, self._matrix

    @property
    def n_values(self) -> int:
        return sum(len(own) * (len(own) + len(border)) for own, border in self._at)

    def solve(self, b: np.ndarray) -> np.ndarray:
        x, size = self._once(b), np.linalg.norm(b)
        for _ in range(STEPS):
            rest = b - self._matrix @ x
            if np.linalg.norm(rest) <= ENOUGH * size:
                return x
            x += self._once(rest)
        raise SingularMatrix("the matrix is singular to rounding")

    def _once(self, b: np.ndarray) -> np.ndarray:
        x = b.astype(self._dtype)
        for (own, border), (lu, pivots, across) in zip(self._at, self._factors, strict=True):
            x[border] -= across.conj().T @ x[own]
            x[own] = lu_solve((lu, pivots), x[own], trans=1, check_finite=False)
        for (own, border), (_, _, across) in zip(reversed(self._at), reversed(self._factors), strict=True):
            x[own] -= across @ x[border]
        return x.astype(np.result_type(b, self._matrix.dtype))

    def _rows(self, blocks: np.ndarray) -> np.ndarray:
        return (blocks[:, None] * self._block + np.arange(self._block)).ravel()

    def _eliminated(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each part the LU factors of A_oo, their pivots, and A_oo^-1 A_ob."""
        room = _Room(self.n_values, self._dtype)
        out, complements = [], {}
        place = np.empty(len(self._matrix.indptr) - 1, int)
        for k, part in enumerate(self._parts):
            oo, bo, bb = self._assembled(part, place, complements)
            lu, pivots = lu_factor(oo.T, overwrite_a=True, check_finite=False)  # by columns, as LAPACK has it
            if not np.abs(np.diagonal(lu)).min(initial=1.0) > 0:
                raise SingularMatrix("the matrix is singular to rounding")
            lu = room.kept(lu)
            del oo
            across = room.kept(lu_solve((lu, pivots), bo.conj().T, trans=1, check_finite=False))
            for start in range(0, len(bb), STRIP):
                strip = slice(start, start + STRIP)
                bb[start:, strip] -= bo[start:] @ across[:, strip]
            out.append((lu, pivots, across))
            if len(bb):
                complements[k] = bb
        return out

    def _assembled(
        self, part: Part, place: np.ndarray, complements: dict[int, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A_oo, A_bo and the lower triangle of A_bb (the upper one has no meaning), less what was eliminated before.

        Takes the Schur complements of the parts below from `complements`.
        """
        size, n_own, n_border = self._block, len(part.own), len(part.border)
        place[:] = -1
        place[part.own], place[part.border] = np.arange(n_own), np.arange(n_own, n_own + n_border)
        rows = np.repeat(np.arange(n_own), np.diff(self._matrix.indptr)[part.own])
        which = ranges(self._matrix.indptr, part.own)
        columns, values = place[self._matrix.indices[which]], self._matrix.data[which].reshape(-1, size, size)
        oo = np.zeros((n_own, size, n_own, size), self._dtype)
        bo = np.zeros((n_border, size, n_own, size), self._dtype)
        inside, later = (columns >= 0) & (columns < n_own), columns >= n_own
        oo[rows[inside], :, columns[inside]] = values[inside]
        bo[columns[later] - n_own, :, rows[later]] = values[later].conj().swapaxes(1, 2)
        oo, bo = oo.reshape(n_own * size, -1), bo.reshape(n_border * size, n_own * size)
        bb = np.zeros((n_border * size, n_border * size), self._dtype)
        for i in part.below:
            complement = complements.pop(i)
            at = self._rows(place[self._parts[i].border])  # ascending
            n = np.count_nonzero(at < len(oo))
            inner, outer = at[:n], at[n:] - len(oo)
            _add(oo, inner, inner, complement[:n, :n])
            _add(bo, outer, inner, complement[n:, :n])
            _add(bb, outer, outer, complement[n:, n:])
        _mirror(oo)
        return oo, bo, bb


def _add(to: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
    """A strip at a time, for the sake of memory."""
    for start in range(0, len(rows), STRIP):
        strip = slice(start, start + STRIP)
        to[rows[strip, None], columns] += values[strip]


def _mirror(square: np.ndarray) -> None:
    """The upper triangle becomes that of the Hermitian matrix of the lower one."""
    for start in range(0, len(square), STRIP):
        stop = start + STRIP
        corner = square[start:stop, start:stop]
        corner[...] = np.tril(corner) + np.tril(corner, -1).conj().T
        square[start:stop, stop:] = square[stop:, start:stop].conj().T


def parts(graph: sparse.csr_matrix, leaf: int) -> list[Part]:
    """Of a symmetric pattern, innermost first; `leaf`: nodes of a part that is not halved any more."""
    owned: list[tuple[np.ndarray, list[int]]] = []
    _dissect(graph, np.arange(graph.shape[0]), leaf, owned)
    order = np.empty(graph.shape[0], int)  # of elimination
    order[np.concatenate([own for own, _ in owned])] = np.arange(graph.shape[0])
    out: list[Part] = []
    for own, below in owned:
        touched = [graph.indices[ranges(graph.indptr, own)], *(out[i].border for i in below)]
        touched = np.unique(np.concatenate(touched))
        touched = touched[order[touched] > order[own[-1]]]
        out.append(Part(own, touched[np.argsort(order[touched])], below))
    return out


def _dissect(
    graph: sparse.csr_matrix, nodes: np.ndarray, leaf: int, out: list[tuple[np.ndarray, list[int]]]
) -> list[int]:
    """Adds the parts of these nodes, and says which of them are the last."""
    if len(nodes) <= leaf:
        out.append((nodes, []))
        return [len(out) - 1]
    inner = graph[nodes][:, nodes]
    upper = _half(inner)
    touching = np.flatnonzero(upper)[np.diff(inner[upper][:, ~upper].indptr) > 0]
    touched = np.flatnonzero(~upper)[np.diff(inner[~upper][:, upper].indptr) > 0]
    border = np.zeros(len(nodes), bool)
    border[min(touching, touched, key=len)] = True
    below: list[int] = []
    for side in (upper & ~border, ~upper & ~border):
        if side.any():
            below += _dissect(graph, nodes[side], leaf, out)
    if not border.any():
        return below
    out.append((nodes[border], below))
    return [len(out) - 1]


def _half(graph: sparse.csr_matrix) -> np.ndarray:
    """Which nodes are in one half: those where the slowest mode of a random walk is above its median."""
    n = graph.shape[0]
    root = 1 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1.0))
    walk = sparse.diags_array(root) @ graph @ sparse.diags_array(root)
    start = np.random.default_rng(0).normal(size=n).astype(walk.dtype)
    mode = np.arange(n)  # any halves will do
    if n > 2:
        with suppress(ArpackNoConvergence):
            values, vectors = eigsh(walk, 2, which="LA", v0=start, tol=1e-2, ncv=min(n, 12))
            mode = vectors[:, np.argmin(values)] * root
    upper = np.zeros(n, bool)
    upper[np.argsort(mode, kind="stable")[n // 2 :]] = True
    return upper


class _Room:
    """Memory for factors, or a file without a name that ends with them."""

    def __init__(self, n_values: int, dtype: np.dtype) -> None:
        self._taken, self._values = 0, None
        if n_values * dtype.itemsize > IN_MEMORY:
            with tempfile.TemporaryFile() as file:
                self._values = np.memmap(file, dtype, "w+", shape=(n_values,))

    def kept(self, matrix: np.ndarray) -> np.ndarray:
        if self._values is None:
            return matrix
        out = self._values[self._taken : self._taken + matrix.size].reshape(matrix.shape, order="F")
        self._taken += matrix.size
        out[...] = matrix
        return out
