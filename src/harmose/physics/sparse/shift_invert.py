"""The states nearest to an energy, for matrices too large to be diagonalized: shift-invert Lanczos.

    (H - sigma S)^-1 S c = nu c,        e = sigma + 1 / nu

The states nearest to sigma have the largest |nu|, which Lanczos finds first (Ericsson and Ruhe, Math. Comp. 35, 1251
(1980); ARPACK's mode 3). H - sigma S is factorized once for each k-point, without a dense matrix (`factorization`).
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError, SingularMatrix
from harmose.physics.bloch import check_kpoints
from harmose.physics.eigen import at_kpoints, check_pair, solve
from harmose.physics.ghosts import on_site_of, overlap_ratios
from harmose.physics.sparse.bloch import GAMMA, Matrix, pencils, shifted
from harmose.physics.sparse.factorization import Factorization, Factorize, factorizer
from harmose.physics.sparse.settings import DEFAULT, SparseSettings
from harmose.spin import Spin


@dataclass(frozen=True, eq=False)
class NearStates:
    """States nearest to `center` (eV): `energies` (n_k, n) in eV, ascending; collinear (2, n_k, n).

    `coefficients` (n_k, m, n), collinear (2, n_k, m, n), with c^dagger S c = 1, or None. `below` (n_k,), collinear (2, n_k): the
    number of states of H(k) below the lowest of them, -1 where the solver cannot count. `ratios`: `ghosts.overlap_ratios`, in
    the shape of the energies.
    """

    center: float
    energies: np.ndarray
    coefficients: np.ndarray | None
    below: np.ndarray
    ratios: np.ndarray


def states_near(
    h: BlockMatrix,
    s: BlockMatrix | None,
    center: float,
    n: int,
    kpoints: ArrayLike | None = None,
    vectors: bool = False,
    solver: str | None = None,
    settings: SparseSettings = DEFAULT,
) -> NearStates:
    """Return the `n` states of H(k) c = e S(k) c nearest to `center` at each of `kpoints`, with the energies of `eigenvalues`.

    Time and memory are those of the factors of H(k) - center S(k).

    Args:
        h: Hamiltonian in eV, any spin.
        s: Overlap.
        center: Energy in eV, on the scale of H.
        n: Number of states at each k-point and of each spin.
        kpoints: Fractional coordinates (n_k, 3); default Gamma.
        vectors: True for coefficients as well, as from `eigen.solve`.
        solver: `dissection` (default), `pardiso` or `superlu`.
        settings: Sizes and tolerances.

    Raises:
        MatrixError: As `eigenvalues`; states that did not converge.
        ConfigError: A number of states, an energy or a solver without meaning.
    """
    s = check_pair(h, s)
    k = check_kpoints(GAMMA if kpoints is None else kpoints)
    size = h.n_orbitals * (2 if h.spin is Spin.SPINOR else 1)
    if not 0 < n <= size:
        raise ConfigError(f"states near an energy: expected 1 to {size} states, got {n}")
    if not np.isfinite(center):
        raise ConfigError(f"states near an energy: expected an energy in eV, got {center}")
    if size <= max(settings.diagonalize_below, 3 * n):
        return _from_all_states(h, s, center, n, k, vectors)
    factorize = factorizer(solver, settings)
    atoms = on_site_of(s, h.spin)

    def near(h_k: Matrix, s_k: Matrix) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        energies, c, below = nearest_states(h_k, s_k, center, n, factorize, True, settings)
        return energies, c if vectors else c[:, :0], below, overlap_ratios(c, s_k, atoms)

    results = [[near(*pair) for pair in pencils(h, s, point)] for point in k]
    # (n_k, n_spins, ...) to (n_spins, n_k, ...), or (n_k, ...) for one spin
    arrays = (np.array([[spin[part] for spin in point] for point in results]) for part in range(4))
    energies, coefficients, below, ratios = (x.swapaxes(0, 1) if h.spin is Spin.COLLINEAR else x[:, 0] for x in arrays)
    return NearStates(center, energies, coefficients if vectors else None, below, ratios)


def _from_all_states(h: BlockMatrix, s: BlockMatrix, center: float, n: int, k: np.ndarray, vectors: bool) -> NearStates:
    """Return the same by diagonalization."""
    energies, coefficients = solve(h, s, k)
    chosen = np.sort(np.argsort(np.abs(energies - center), axis=-1, kind="stable")[..., :n], axis=-1)
    coefficients = np.take_along_axis(coefficients, chosen[..., None, :], axis=-1)
    ratios = overlap_ratios(coefficients, at_kpoints(s, k, h.spin), on_site_of(s, h.spin))
    energies = np.take_along_axis(energies, chosen, axis=-1)
    return NearStates(center, energies, coefficients if vectors else None, chosen[..., 0], ratios)


def nearest_states(
    h: Matrix,
    s: Matrix,
    center: float,
    n: int,
    factorize: Factorize,
    vectors: bool = False,
    settings: SparseSettings = DEFAULT,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return energies (n,), coefficients (m, n), or (m, 0), and the number of states below the lowest, -1 where not counted."""
    step = settings.sigma_step
    for sigma in (center, center + step, center - 1.618 * step):
        try:
            # Two more than n: states may be at one distance on both sides.
            factors = factorize(shifted(h, s, -sigma))
            try:
                energies, c = _lanczos(h, s, sigma, min(n + 2, h.shape[0] - 2), factors, settings.lanczos_tolerance)
                below_sigma = factors.negative()
            finally:
                factors.free()
        except SingularMatrix:
            continue
        if np.abs(energies - sigma).min() < settings.sigma_clearance:
            continue
        order = np.argsort(energies)
        energies, c = energies[order], c[:, order]
        chosen = np.sort(np.argsort(np.abs(energies - center), kind="stable")[:n])
        _check_residual(h, s, energies[chosen], c[:, chosen], settings.max_residual)
        below = -1 if below_sigma is None else below_sigma - np.count_nonzero(energies < sigma) + chosen[0]
        return energies[chosen], c[:, chosen if vectors else slice(0)], int(below)
    raise MatrixError(f"states near an energy: H - E S is singular at and around E = {center:g} eV")


def _lanczos(
    h: Matrix, s: Matrix, sigma: float, n: int, factors: Factorization, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return energies (n,) and coefficients (m, n) of the states nearest to sigma."""
    dtype = np.result_type(h.dtype, s.dtype)
    inverse = scipy.sparse.linalg.LinearOperator(h.shape, matvec=lambda b: factors.solve(b.astype(dtype)), dtype=dtype)  # type: ignore[call-arg]
    # A start vector of our own: results are the same in every run.
    start = np.random.default_rng(0).normal(size=h.shape[0]).astype(dtype)
    try:
        return scipy.sparse.linalg.eigsh(
            h, n, s, sigma, OPinv=inverse, v0=start, ncv=min(h.shape[0], max(2 * n + 1, 20)), tol=tolerance
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        raise MatrixError(
            f"states near an energy: {len(error.eigenvalues)} of {n} converged around {sigma:g} eV"
        ) from None


def _check_residual(h: Matrix, s: Matrix, energies: np.ndarray, c: np.ndarray, limit: float) -> None:
    overlap = s @ c
    residual = np.linalg.norm(h @ c - overlap * energies, axis=0) / np.linalg.norm(overlap, axis=0)
    if not residual.max(initial=0.0) < limit:
        raise MatrixError(f"states near an energy: |H c - e S c| is {residual.max():.1e} eV, expected below {limit:g}")
