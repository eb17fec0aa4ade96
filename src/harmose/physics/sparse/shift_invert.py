"""The states nearest to a level, of matrices that are too large for all of them: shift-invert Lanczos.

    (H - sigma S)^-1 S c = nu c,        e = sigma + 1 / nu

The states nearest to sigma have the largest |nu|, which Lanczos finds first (Ericsson and Ruhe, Math. Comp. 35, 1251
(1980); ARPACK's mode 3). H - sigma S is factorized once for each k-point, without a dense matrix (`physics.factorization`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError, SingularMatrix
from harmose.physics.bloch import check_kpoints
from harmose.physics.eigen import check_pair, eigenvalues, solve
from harmose.physics.sparse.bloch import GAMMA, pencils, shifted
from harmose.physics.sparse.factorization import Factorize, Factors, Matrix, factorizer
from harmose.spin import Spin

ASIDE = 1e-3
"""How far (eV) sigma is moved off an eigenvalue."""
ON_TOP = 1e-7
"""An eigenvalue so near (eV) to sigma takes digits from all others."""
TOLERANCE = 1e-6
"""Largest |H c - e S c| / |S c| in eV that is no error: the distance of e from an exact level is far below it."""
CONVERGED = 1e-9
"""Error of nu relative to it: one of e relative to e - sigma."""
DENSE = 400
"""Matrices so small are solved as a whole."""


@dataclass(frozen=True, eq=False)
class NearStates:
    """`energies` (n_k, n) in eV, ascending, collinear (2, n_k, n); `coefficients` (n_k, m, n), c^dagger S c = 1, or None.

    `below` (n_k,), collinear (2, n_k): how many states of H(k) lie below the lowest of them, -1 where that is not known.
    """

    level: float
    energies: np.ndarray
    coefficients: np.ndarray | None
    below: np.ndarray


def states_near(
    h: BlockMatrix,
    s: BlockMatrix | None,
    level: float,
    n: int,
    kpoints: ArrayLike | None = None,
    vectors: bool = False,
    solver: str | None = None,
) -> NearStates:
    """The `n` states of H(k) c = e S(k) c nearest to `level` (eV, on H's scale) at each of `kpoints` (n_k, 3), default Gamma.

    Energies are those of `eigen.eigenvalues` to 1e-8 eV. `vectors`: with coefficients, as of `eigen.solve`. `solver`: as of
    `factorization.factorizer`. Time and memory are those of the factors of H(k) - level S(k).

    Raises `MatrixError` as `eigenvalues`, `ConfigError` for a number of states or solver without meaning.
    """
    s = check_pair(h, s)
    k = check_kpoints(GAMMA if kpoints is None else kpoints)
    size = h.n_orbitals * (2 if h.spin is Spin.SPINOR else 1)
    if not 0 < n <= size:
        raise ConfigError(f"states near a level: expected 1 to {size} states, got {n}")
    if not np.isfinite(level):
        raise ConfigError(f"states near a level: expected an energy in eV, got {level}")
    if size <= max(DENSE, 3 * n):
        return _of_all(h, s, level, n, k, vectors)
    factorize = factorizer(solver)
    found = [[nearest(h_k, s_k, level, n, factorize, vectors) for h_k, s_k in pencils(h, s, at)] for at in k]
    energies, coefficients, below = (np.array([[one[part] for one in at] for at in found]) for part in range(3))
    n_spins = 2 if h.spin is Spin.COLLINEAR else 1
    energies, coefficients, below = (
        x.swapaxes(0, 1) if n_spins == 2 else x[:, 0] for x in (energies, coefficients, below)
    )
    return NearStates(level, energies, coefficients if vectors else None, below)


def _of_all(h: BlockMatrix, s: BlockMatrix, level: float, n: int, k: np.ndarray, vectors: bool) -> NearStates:
    """The same from all states."""
    energies, coefficients = solve(h, s, k) if vectors else (eigenvalues(h, s, k), None)
    chosen = np.sort(np.argsort(np.abs(energies - level), axis=-1, kind="stable")[..., :n], axis=-1)
    if coefficients is not None:
        coefficients = np.take_along_axis(coefficients, chosen[..., None, :], axis=-1)
    return NearStates(level, np.take_along_axis(energies, chosen, axis=-1), coefficients, chosen[..., 0])


def nearest(
    h: Matrix, s: Matrix, level: float, n: int, factorize: Factorize, vectors: bool = False
) -> tuple[np.ndarray, np.ndarray, int]:
    """Energies (n,), coefficients (m, n) (or (m, 0)) and the number of states below the lowest, -1 where not known."""
    for sigma in (level, level + ASIDE, level - 1.618 * ASIDE):
        try:
            energies, c, below = _around(h, s, sigma, n, factorize)
        except SingularMatrix:
            continue
        if np.abs(energies - sigma).min() < ON_TOP:
            continue
        order = np.argsort(energies)
        energies, c = energies[order], c[:, order]
        below = -1 if below is None else below - int(np.count_nonzero(energies < sigma))
        chosen = np.sort(np.argsort(np.abs(energies - level), kind="stable")[:n])
        below = -1 if below < 0 else below + int(chosen[0])
        _check(h, s, energies[chosen], c[:, chosen])
        return energies[chosen], c[:, chosen if vectors else slice(0)], below
    raise MatrixError(f"states near a level: H - E S is singular at and around E = {level:g} eV")


def _around(
    h: Matrix, s: Matrix, sigma: float, n: int, factorize: Factorize
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Energies and coefficients, and how many states lie below sigma."""
    factors = factorize(shifted(h, s, -sigma))
    try:
        # Of states at one distance on both sides of sigma, or of level, more are needed than asked for.
        return *_lanczos(h, s, sigma, min(n + 2, h.shape[0] - 2), factors), factors.negative()
    finally:
        factors.free()


def _lanczos(h: Matrix, s: Matrix, sigma: float, n: int, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    dtype = np.result_type(h.dtype, s.dtype)
    inverse = LinearOperator(h.shape, matvec=lambda b: factors.solve(b.astype(dtype)), dtype=dtype)  # type: ignore[call-arg]
    # A start of its own: results are the same in every run.
    start = np.random.default_rng(0).normal(size=h.shape[0]).astype(dtype)
    try:
        return eigsh(h, n, s, sigma, OPinv=inverse, v0=start, ncv=min(h.shape[0], max(2 * n + 1, 20)), tol=CONVERGED)
    except ArpackNoConvergence as error:
        raise MatrixError(
            f"states near a level: {len(error.eigenvalues)} of {n} converged around {sigma:g} eV"
        ) from None


def _check(h: Matrix, s: Matrix, energies: np.ndarray, c: np.ndarray) -> None:
    overlap = s @ c
    residual = np.linalg.norm(h @ c - overlap * energies, axis=0) / np.linalg.norm(overlap, axis=0)
    if not residual.max(initial=0.0) < TOLERANCE:
        raise MatrixError(
            f"states near a level: |H c - e S c| is {residual.max():.1e} eV, expected below {TOLERANCE:g}"
        )
