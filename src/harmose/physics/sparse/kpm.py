"""Density of states by the kernel polynomial method (Weisse, Wellein, Alvermann and Fehske, Rev. Mod. Phys. 78, 275 (2006)).

Our own, with `resolvent`, `fsai` and `row_blocks`, which nothing else uses: no well-kept library does it for a non-orthogonal basis.

The operator of `resolvent` has the eigenvalues lambda = 1 / (e + c). With x = (lambda - m) / w in [-1, 1],

    mu_n = sum_i lambda_i T_n(x_i) = < r^dagger S T_n r >,        r random with the covariance M
    sum_i lambda_i delta(lambda - lambda_i) = (mu_0 + 2 sum_n g_n mu_n T_n(x)) / (pi w sqrt(1 - x^2))

where g_n is Jackson's kernel; divided by e + c this is the density of states. Time and memory grow as the number of atoms, and
the relative error of the density falls as its square root. Each product of the matrices gives two moments.

Each state is broadened to nearly a Gaussian, whose width in energy is that of the kernel in x, pi / N, times (e + c)^2 w
sqrt(1 - x^2): smallest at the bottom of the spectrum.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, pi

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.fft import dct
from scipy.linalg import eigvalsh
from scipy.optimize import minimize_scalar

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError
from harmose.physics.density_of_states import DensityOfStates
from harmose.physics.eigen import check_pair
from harmose.physics.occupations import electrons_per_state, solve_chemical_potential
from harmose.physics.sparse.bloch import GAMMA, Matrix, pencils
from harmose.physics.sparse.resolvent import Resolvent, resolvent
from harmose.physics.sparse.row_blocks import clusters, columns_of, dense_submatrix, ranges
from harmose.physics.sparse.settings import DEFAULT, SparseSettings
from harmose.spin import Spin

MAX_MOMENTS = 100_000


@dataclass(frozen=True)
class KpmSettings:
    """Settings of the kernel polynomial method.

    Attributes:
        n_moments: Number of polynomials, even; default: as many as the width needs.
        n_vectors: Number of random vectors, from `seed`.
        seed: Random seed of the stochastic trace.
        dtype: Precision of the dense row blocks, float32 or float64.
        sparse: Sizes and limits of the sparse operator.
    """

    n_moments: int | None = None
    n_vectors: int = 16
    seed: int = 0
    dtype: type = np.float32
    sparse: SparseSettings = DEFAULT

    def __post_init__(self) -> None:
        if self.n_moments is not None and not (2 < self.n_moments <= MAX_MOMENTS and self.n_moments % 2 == 0):
            raise ConfigError(f"moments: expected an even number from 4 to {MAX_MOMENTS}, got {self.n_moments}")
        if not 0 < self.n_vectors <= 10_000:
            raise ConfigError(f"vectors: expected 1 to 10000, got {self.n_vectors}")


@dataclass(frozen=True, eq=False)
class ChebyshevMoments:
    """Moments `values` (v, N) of each random vector, of one spin: lambda = middle + half * x, c is `shift` in eV.

    `n_states` is the number of states. `spread`: see `Resolvent`.
    """

    values: np.ndarray
    shift: float
    middle: float
    half: float
    n_states: int
    spread: tuple[float, float]

    def width(self, energies: ArrayLike) -> np.ndarray:
        """Return the standard deviation in eV of a broadened state at each of `energies` (n_e,)."""
        e = np.asarray(energies, dtype=np.float64)
        x = (1 / (e + self.shift) - self.middle) / self.half
        return pi / self.values.shape[1] * self.half * np.sqrt(np.clip(1 - x * x, 0, 1)) * (e + self.shift) ** 2

    def density(self, energies: ArrayLike) -> np.ndarray:
        """Return the states per eV at `energies` (n_e,), from each vector (v, n_e)."""
        e = np.asarray(energies, dtype=np.float64)
        x = (1 / np.maximum(e + self.shift, 1e-9) - self.middle) / self.half
        inside = (np.abs(x) < 1) & (e > -self.shift)
        theta = np.arccos(np.where(inside, x, 0.0))
        out = np.zeros((len(self.values), len(e)))
        damped = self.values * jackson(self.values.shape[1])
        damped[:, 1:] *= 2
        for part in np.array_split(np.arange(len(e)), max(1, e.size * damped.shape[1] // 2**24)):
            out[:, part] = damped @ np.cos(np.arange(damped.shape[1])[:, None] * theta[part])
        return out * inside / (pi * self.half * np.where(inside, np.sin(theta), 1.0) * (e + self.shift))

    def count(self, energies: ArrayLike) -> np.ndarray:
        """Return the number of states below `energies` (n_e,), from each vector (v, n_e)."""
        e, counts = self._cumulative
        at = np.asarray(energies, dtype=np.float64)
        return np.array([np.interp(at, e, row, left=0.0) for row in counts])

    @cached_property
    def _cumulative(self) -> tuple[np.ndarray, np.ndarray]:
        """Energies (n,) and the number of states below each, from each vector (v, n)."""
        # Equidistant in theta = arccos x, where the sum of moments is a cosine transform: lambda falls, e rises.
        n = self.values.shape[1]
        points = 4 * n
        padded = np.zeros((len(self.values), points))
        padded[:, :n] = self.values * jackson(n)
        lam = self.middle + self.half * np.cos(pi * (np.arange(points) + 0.5) / points)
        lam, series = lam[lam > 0], dct(padded, type=3, axis=1)[:, lam > 0]
        weight = series / points / lam
        return 1 / lam - self.shift, np.cumsum(weight, axis=1) - weight / 2

    @property
    def counted_states(self) -> tuple[float, float]:
        """All states as the vectors count them, which is to be `n_states`, and the standard error of that number."""
        counts = self.count([np.inf])[:, 0]
        return float(counts.mean()), _standard_error(counts)


def jackson(n: int) -> np.ndarray:
    """Return the damping factors g_0 ... g_(n-1) of Jackson's kernel, which is positive and of the width pi / n."""
    k, q = np.arange(n), pi / (n + 1)
    return ((n - k + 1) * np.cos(k * q) + np.sin(k * q) / np.tan(q)) / (n + 1)


def chebyshev_moments(operator: Resolvent, n_moments: int, random: np.ndarray) -> ChebyshevMoments:
    """Return `n_moments` (even) of each of the start vectors `random` (n, v), whose mean covariance is to be 1."""
    high = operator.highest * 1.002
    middle = high / 2
    half = middle * 1.0005
    x = operator.start(random.astype(operator.dtype))

    def apply(sx: np.ndarray) -> np.ndarray:
        return (operator.inverse(sx) - middle * current) / half

    current, sx = x, operator.s @ x
    values = np.empty((random.shape[1], n_moments))
    values[:, 0] = _dots(current, sx)
    previous, current = current, apply(sx)
    values[:, 1] = _dots(current, sx)
    for n in range(1, n_moments // 2):
        sx = operator.s @ current
        following = 2 * apply(sx) - previous
        values[:, 2 * n] = 2 * _dots(current, sx) - values[:, 0]
        values[:, 2 * n + 1] = 2 * _dots(following, sx) - values[:, 1]
        previous, current = current, following
    if not np.isfinite(values).all() or np.abs(values).max() > 1.5 * values[:, 0].max():
        raise MatrixError("density of states: moments grow, so that the spectrum is wider than its estimated bounds")
    return ChebyshevMoments(values, operator.shift, middle, half, operator.n, operator.spread)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Re a^dagger b of each column, summed in float64."""
    return np.einsum("iv,iv->v", a.conj(), b, dtype=np.result_type(a, np.float64)).real


def _standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of `values` (v,); NaN for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def random_vectors(n: int, count: int, seed: int, is_complex: bool) -> np.ndarray:
    """Return columns of +1 and -1, or of phases, (n, count): of all with the covariance 1 those with the least variance."""
    generator = np.random.default_rng(seed)
    if is_complex:
        return np.exp(2j * pi * generator.random((n, count)))
    return generator.choice([-1.0, 1.0], size=(n, count))


@dataclass(frozen=True, eq=False)
class KernelPolynomials:
    """Moments of each spin at one k-point, and the Fermi level in eV with its standard error, None where not computed."""

    spin: Spin
    moments: tuple[ChebyshevMoments, ...]
    fermi_level: float | None = None
    fermi_error: float | None = None

    def dos(self, window: tuple[float, float], points: int = 1001) -> tuple[DensityOfStates, np.ndarray]:
        """Return the density of states and its standard error, in the shape of its `total`.

        `window` is in eV from the Fermi level, or on the scale of H without one.
        """
        zero = self.fermi_level or 0.0
        grid = zero + np.linspace(*window, points)
        each = np.stack([m.density(grid) for m in self.moments])
        total, error = each.mean(axis=1), each.std(axis=1, ddof=1) / np.sqrt(each.shape[1])
        if self.spin is not Spin.COLLINEAR:
            total, error = total[0], error[0]
        return DensityOfStates(grid, total, {}, self.spin, self.fermi_level, error), error

    def electrons(self, energies: ArrayLike) -> np.ndarray:
        """Return the number of electrons below `energies` (n_e,), from each vector (v, n_e)."""
        return electrons_per_state(self.spin) * np.sum([m.count(energies) for m in self.moments], axis=0)


def kpm(
    h: BlockMatrix,
    s: BlockMatrix | None,
    structure: Atoms,
    window: tuple[float, float] = (-20.0, 10.0),
    width: float = 0.1,
    n_electrons: float | None = None,
    fermi_level: float | None = None,
    kpoint: ArrayLike = GAMMA,
    settings: KpmSettings = KpmSettings(),
) -> KernelPolynomials:
    """Compute the Chebyshev moments of H(k) and S(k), from which come the density of states and the number of electrons.

    Args:
        h: Hamiltonian in eV, any spin.
        s: Overlap.
        structure: Its positions decide which atoms form a cluster.
        window: Energies in eV from the Fermi level (without one: on the scale of H) at which states are resolved to `width`.
        width: Standard deviation in eV of a broadened state.
        n_electrons: Electrons per cell, from which the Fermi level at zero temperature is found unless `fermi_level` is set.
        fermi_level: Fermi level in eV, on the scale of H.
        kpoint: Fractional coordinates (3,).
        settings: Number of moments and vectors, precision.

    Raises:
        MatrixError: As `eigen.eigenvalues` (but where S is not positive definite the resolvent has no inverse).
        ConfigError: Numbers without meaning.
    """
    s = check_pair(h, s)
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(f"window: expected two energies in eV, the lower first, got {low:g} and {high:g}")
    if not 0 < width < np.inf:
        raise ConfigError(f"density of states: expected a positive width in eV, got {width}")
    rows = _cluster_rows(structure, h, settings.sparse.cluster_atoms)
    moments = []
    for h_k, s_k in pencils(h, s, kpoint, settings.dtype):
        dtype = np.result_type(h_k.dtype, s_k.dtype)
        bottom, level = _estimate(h_k, s_k, rows, n_electrons, h.spin, settings.sparse.sample_orbitals)
        zero = fermi_level if fermi_level is not None else level if n_electrons is not None else 0.0
        shift, needed = choose_shift(bottom - 1.0, (zero + low, zero + high), width, settings.sparse.least_shift)
        operator = resolvent(h_k, s_k, rows, shift, dtype, settings.sparse)
        del h_k, s_k
        random = random_vectors(operator.n, settings.n_vectors, settings.seed, np.issubdtype(dtype, np.complexfloating))
        moments.append(chebyshev_moments(operator, settings.n_moments or needed, random))
    result = KernelPolynomials(h.spin, tuple(moments), fermi_level)
    if fermi_level is None and n_electrons is not None:
        level, error = _fermi_level(result, n_electrons)
        result = replace(result, fermi_level=level, fermi_error=error)
    return result


def choose_shift(bottom: float, window: tuple[float, float], width: float, least: float) -> tuple[float, int]:
    """Return the shift c (eV) for which the fewest moments resolve `width` (eV) in the window, and their number, even.

    `bottom` is the lower end of the spectrum; -c is at least `least` below it.
    """
    e = np.linspace(max(window[0], bottom), max(window[1], bottom + 1.0), 200)

    def needed(log_margin: float) -> float:
        c = np.exp(log_margin) - bottom
        half = 0.5 / (bottom + c)
        x = (1 / (e + c)) / half - 1
        return float((pi * half * np.sqrt(np.clip(1 - x * x, 0, 1)) * (e + c) ** 2).max() / width)

    best = minimize_scalar(needed, bounds=(np.log(least), np.log(1000.0)), method="bounded")
    number = 2 * ceil(needed(best.x) / 2)
    if number > MAX_MOMENTS:
        raise ConfigError(f"density of states: a width of {width:g} eV in this window needs {number} moments")
    return float(np.exp(best.x) - bottom), max(number, 16)


def _fermi_level(polynomials: KernelPolynomials, n_electrons: float) -> tuple[float, float]:
    """Return the level (eV) below which the mean count has the electrons, and its standard error."""
    bottom = -min(m.shift for m in polynomials.moments)
    ends = bottom + 1e-2, bottom + 1e5

    def count(level: float) -> float:
        return float(polynomials.electrons([level]).mean())

    level = solve_chemical_potential(count, n_electrons, *ends)
    spread = _standard_error(polynomials.electrons([level])[:, 0])
    if np.isnan(spread):
        return level, spread
    least, most = np.nextafter(count(ends[0]), np.inf), np.nextafter(count(ends[1]), -np.inf)
    lower, upper = (
        solve_chemical_potential(count, float(np.clip(n, least, most)), *ends)
        for n in (n_electrons - spread, n_electrons + spread)
    )
    return level, (upper - lower) / 2


def _cluster_rows(structure: Atoms, h: BlockMatrix, size: int) -> list[np.ndarray]:
    """Return the rows of H(k) of each cluster; of a spinor operator those of both spins."""
    of_clusters = [ranges(h.orbital_starts, atoms) for atoms in clusters(structure, size)]
    if h.spin is Spin.SPINOR:
        return [np.concatenate([rows, rows + h.n_orbitals]) for rows in of_clusters]
    return of_clusters


def _estimate(
    h: Matrix, s: Matrix, rows: list[np.ndarray], n_electrons: float | None, spin: Spin, size: int
) -> tuple[float, float]:
    """Return roughly the bottom of the spectrum and the Fermi level: those of a few neighbouring clusters, cut out."""
    first = rows[len(rows) // 2]
    reached = columns_of(s, first)
    near = [r for r in rows if r is not first and np.isin(r[0], reached)]
    sizes = len(first) + np.cumsum([len(r) for r in near])
    inside = np.sort(np.concatenate([first, *near[: np.searchsorted(sizes, size, side="right")]]))
    dtype = np.dtype(np.complex128 if np.iscomplexobj(h.data) or np.iscomplexobj(s.data) else np.float64)
    e = eigvalsh(*(dense_submatrix(x, inside, dtype) for x in (h, s)))
    capacity = electrons_per_state(spin) * h.shape[0] * (2 if spin is Spin.COLLINEAR else 1)
    filled = 0.0 if n_electrons is None else min(max(n_electrons / capacity, 0.0), 1.0)
    return float(e[0]), float(e[round(filled * (len(e) - 1))])
