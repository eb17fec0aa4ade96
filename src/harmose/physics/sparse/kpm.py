"""Density of states by the kernel polynomial method (Weisse, Wellein, Alvermann and Fehske, Rev. Mod. Phys. 78, 275 (2006)).

The resolvent of `physics.resolvent` has the eigenvalues lambda = 1 / (e + c). With x = (lambda - m) / w in [-1, 1],

    mu_n = sum_i lambda_i T_n(x_i) = < r^dagger S T_n r >,        r random with the covariance M
    sum_i lambda_i delta(lambda - lambda_i) = (mu_0 + 2 sum_n g_n mu_n T_n(x)) / (pi w sqrt(1 - x^2))

where g_n is Jackson's kernel; divided by e + c this is the density of states. Time and memory grow as the number of atoms, and
the relative error of the density falls as its square root. Each product of the matrices gives two moments.

A level is broadened to nearly a Gaussian, whose width in energy is that of the kernel in x, pi / N, times (e + c)^2 w
sqrt(1 - x^2): smallest at the bottom of the spectrum.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, pi

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.linalg import eigvalsh
from scipy.optimize import minimize_scalar

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError
from harmose.physics.dos import DensityOfStates
from harmose.physics.eigen import check_pair
from harmose.physics.occupations import electrons_per_state
from harmose.physics.sparse.bloch import GAMMA, pencils
from harmose.physics.sparse.resolvent import Resolvent, resolvent
from harmose.physics.sparse.row_blocks import clusters, columns_of, dense_rows, ranges
from harmose.spin import Spin

VECTORS = 16
MARGIN = 5.0
"""Least distance (eV) of -c from the spectrum."""
MAX_MOMENTS = 100_000
LOCAL = 1500
"""Orbitals from which the ends of the spectrum are estimated, before the matrices are."""
Progress = Callable[[int, int], None]
"""Called with how many products are done, and of how many."""


@dataclass(frozen=True, eq=False)
class Moments:
    """`values` (v, N): the moments of each random vector, of one spin; eV throughout.

    `shift` is c, lambda = middle + half * x. `spread`: see `Resolvent`.
    """

    values: np.ndarray
    shift: float
    middle: float
    half: float
    n_states: int
    spread: tuple[float, float]

    def width(self, energies: ArrayLike) -> np.ndarray:
        """Standard deviation in eV of a level that is broadened."""
        e = np.asarray(energies, dtype=np.float64)
        x = (1 / (e + self.shift) - self.middle) / self.half
        return pi / self.values.shape[1] * self.half * np.sqrt(np.clip(1 - x * x, 0, 1)) * (e + self.shift) ** 2

    def density(self, energies: ArrayLike) -> np.ndarray:
        """States per eV at `energies` (n_e,), from each vector (v, n_e)."""
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
        """States below `energies` (n_e,), from each vector (v, n_e)."""
        # Equidistant in theta = arccos x, where the sum of moments is an even polynomial of cosines: lambda falls, e rises.
        n = self.values.shape[1]
        damped = self.values * jackson(n)
        points = 4 * n
        padded = np.zeros((len(damped), points))
        padded[:, :n] = damped
        theta = pi * (np.arange(points) + 0.5) / points
        # sum_n (2 - delta_n0) mu_n cos n theta: a cosine transform
        from scipy.fft import dct

        series = dct(padded, type=3, axis=1)
        lam = self.middle + self.half * np.cos(theta)
        weight = np.where(lam > 0, series / points / np.where(lam > 0, lam, 1.0), 0.0)
        total = np.cumsum(weight, axis=1) - weight / 2
        e = np.where(lam > 0, 1 / np.where(lam > 0, lam, 1.0), np.inf) - self.shift
        known = np.isfinite(e)
        at = np.asarray(energies, dtype=np.float64)
        return np.array([np.interp(at, e[known], row[known], left=0.0) for row in total])

    @property
    def found(self) -> tuple[float, float]:
        """How many states there are in all, as it should be `n_states`, and the standard error of that number."""
        return _mean(self.count([np.inf])[:, 0])


def _mean(values: np.ndarray) -> tuple[float, float]:
    n = len(values)
    return float(values.mean(axis=0)), float(values.std(axis=0, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def jackson(n: int) -> np.ndarray:
    """Damping factors g_0 ... g_(n-1) of Jackson's kernel, positive and of the width pi / n."""
    k, q = np.arange(n), pi / (n + 1)
    return ((n - k + 1) * np.cos(k * q) + np.sin(k * q) / np.tan(q)) / (n + 1)


def moments(operator: Resolvent, n_moments: int, random: np.ndarray, progress: Progress | None = None) -> Moments:
    """`n_moments` (even) of each of the start vectors `random` (n, v), whose mean covariance is to be 1."""
    high = operator.highest * 1.002
    middle = half = high / 2
    half *= 1.0005
    x = operator.start(random.astype(operator.dtype))

    def apply(sx: np.ndarray) -> np.ndarray:
        return (operator.inverse(sx) - middle * current) / half

    current, sx = x, operator.s @ x
    values = np.empty((random.shape[1], n_moments))
    values[:, 0] = _dots(current, sx)
    previous, current = current, apply(sx)
    values[:, 1] = _dots(current, sx)
    steps = n_moments // 2
    for n in range(1, steps):
        sx = operator.s @ current
        following = 2 * apply(sx) - previous
        values[:, 2 * n] = 2 * _dots(current, sx) - values[:, 0]
        values[:, 2 * n + 1] = 2 * _dots(following, sx) - values[:, 1]
        previous, current = current, following
        if progress is not None:
            progress(n + 1, steps)
    if not np.isfinite(values).all() or np.abs(values).max() > 1.5 * values[:, 0].max():
        raise MatrixError("density of states: moments grow, so that the spectrum is wider than was found")
    return Moments(values, operator.shift, middle, half, operator.n, operator.spread)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Re a^dagger b of each column, summed in float64."""
    return np.einsum("iv,iv->v", a.conj(), b, dtype=np.result_type(a, np.float64)).real


def random_vectors(n: int, count: int, seed: int, is_complex: bool) -> np.ndarray:
    """Columns of +1 and -1, or of phases (n, count): of all with the covariance 1 those with the least variance."""
    generator = np.random.default_rng(seed)
    if is_complex:
        return np.exp(2j * pi * generator.random((n, count)))
    return generator.choice([-1.0, 1.0], size=(n, count))


@dataclass(frozen=True, eq=False)
class KernelPolynomials:
    """What `kpm` found: moments of each spin at one k-point, and the Fermi level in eV with its standard error."""

    spin: Spin
    moments: tuple[Moments, ...]
    fermi_level: float | None = None
    fermi_error: float | None = None

    def dos(self, window: tuple[float, float], points: int = 1001) -> tuple[DensityOfStates, np.ndarray]:
        """The density in a window (eV) about the Fermi level, where known, and its standard error, in its shape."""
        zero = self.fermi_level or 0.0
        grid = zero + np.linspace(*window, points)
        each = np.stack([m.density(grid) for m in self.moments])
        total, error = each.mean(axis=1), each.std(axis=1, ddof=1) / np.sqrt(each.shape[1])
        if self.spin is not Spin.COLLINEAR:
            total, error = total[0], error[0]
        return DensityOfStates(grid, total, {}, self.spin, self.fermi_level), error

    def electrons(self, energies: ArrayLike) -> np.ndarray:
        """ChargeFeatures below `energies` (n_e,), from each vector: (v, n_e)."""
        return electrons_per_state(self.spin) * np.sum([m.count(energies) for m in self.moments], axis=0)


def kpm(
    h: BlockMatrix,
    s: BlockMatrix | None,
    structure: Atoms,
    window: tuple[float, float] = (-20.0, 10.0),
    width: float = 0.1,
    n_electrons: float | None = None,
    fermi_level: float | None = None,
    n_moments: int | None = None,
    n_vectors: int = VECTORS,
    seed: int = 0,
    kpoint: ArrayLike = GAMMA,
    dtype: type = np.float32,
    progress: Progress | None = None,
) -> KernelPolynomials:
    """Moments of H(k) and S(k), any spin, enough for levels in `window` (eV from the Fermi level) to be no wider than `width`.

    The Fermi level is `fermi_level` where given, else that of `n_electrons` per cell at zero temperature, else unknown (and the
    window counts from the zero of H). `n_moments` instead of `width`. `dtype` of the matrices' panels: float32 or float64.

    Raises `MatrixError` as `eigen.eigenvalues` (but where S is not positive definite the resolvent has no inverse), and
    `ConfigError` for numbers without meaning.
    """
    s = check_pair(h, s)
    _check(window, width, n_moments, n_vectors)
    rows = _rows(structure, h)
    found = []
    for h_k, s_k in pencils(h, s, kpoint, dtype):
        kind = np.result_type(h_k.dtype, s_k.dtype)
        bottom, level = _estimate(h_k, s_k, rows, n_electrons, h.spin)
        zero = fermi_level if fermi_level is not None else level if n_electrons is not None else 0.0
        shift, needed = plan(bottom - 1.0, (zero + window[0], zero + window[1]), width)
        operator = resolvent(h_k, s_k, rows, shift, kind)
        del h_k, s_k
        random = random_vectors(operator.n, n_vectors, seed, np.issubdtype(kind, np.complexfloating))
        found.append(moments(operator, n_moments or needed, random, progress))
    result = KernelPolynomials(h.spin, tuple(found), fermi_level)
    if fermi_level is None and n_electrons is not None:
        level, error = _level(result, n_electrons)
        result = replace(result, fermi_level=level, fermi_error=error)
    return result


def plan(bottom: float, window: tuple[float, float], width: float) -> tuple[float, int]:
    """The shift c (eV) for which the fewest moments resolve `width` in the window, and their number, even."""
    e = np.linspace(max(window[0], bottom), max(window[1], bottom + 1.0), 200)

    def needed(log_margin: float) -> float:
        c = np.exp(log_margin) - bottom
        half = 0.5 / (bottom + c)
        x = (1 / (e + c)) / half - 1
        return float((pi * half * np.sqrt(np.clip(1 - x * x, 0, 1)) * (e + c) ** 2).max() / width)

    best = minimize_scalar(needed, bounds=(np.log(MARGIN), np.log(1000.0)), method="bounded")
    number = 2 * ceil(needed(best.x) / 2)
    if number > MAX_MOMENTS:
        raise ConfigError(f"density of states: a width of {width:g} eV in this window needs {number} moments")
    return float(np.exp(best.x) - bottom), max(number, 16)


def _level(found: KernelPolynomials, n_electrons: float) -> tuple[float, float]:
    """Where the mean count holds the electrons, and how far that is uncertain."""
    capacity = electrons_per_state(found.spin) * sum(m.n_states for m in found.moments)
    if not 0 < n_electrons < capacity:
        raise MatrixError(f"Fermi level: expected more than 0 and less than {capacity} electrons, got {n_electrons:g}")
    bottom = -min(m.shift for m in found.moments)
    grid = bottom + np.geomspace(1e-2, 1e5, 20001)
    mean = np.maximum.accumulate(found.electrons(grid).mean(axis=0))
    level = float(np.interp(n_electrons, mean, grid))
    at = found.electrons([level])[:, 0]
    spread = at.std(ddof=1) / np.sqrt(len(at)) if len(at) > 1 else np.nan
    lower, upper = np.interp([n_electrons - spread, n_electrons + spread], mean, grid)
    return level, float((upper - lower) / 2)


def _rows(structure: Atoms, h: BlockMatrix) -> list[np.ndarray]:
    """The orbitals of each cluster; of a spinor operator both of their spins."""
    of_clusters = [ranges(h.orbital_starts, atoms) for atoms in clusters(structure)]
    if h.spin is Spin.SPINOR:
        return [np.concatenate([rows, rows + h.n_orbitals]) for rows in of_clusters]
    return of_clusters


def _estimate(h, s, rows: list[np.ndarray], n_electrons: float | None, spin: Spin) -> tuple[float, float]:
    """Roughly the bottom of the spectrum and the Fermi level: those of a few clusters next to each other, cut out."""
    first = rows[len(rows) // 2]
    reached = columns_of(s, first)
    near = [r for r in rows if r is not first and np.isin(r[0], reached)]
    sizes = len(first) + np.cumsum([len(r) for r in near])
    inside = np.sort(np.concatenate([first, *near[: np.searchsorted(sizes, LOCAL, side="right")]]))
    e = eigvalsh(*(_cut(x, inside) for x in (h, s)))
    capacity = electrons_per_state(spin) * h.shape[0] * (2 if spin is Spin.COLLINEAR else 1)
    filled = 0.0 if n_electrons is None else min(max(n_electrons / capacity, 0.0), 1.0)
    return float(e[0]), float(e[round(filled * (len(e) - 1))])


def _cut(matrix, j: np.ndarray) -> np.ndarray:
    """matrix[j, j], dense."""
    columns, panel = dense_rows(matrix, j, np.dtype(np.complex128 if np.iscomplexobj(matrix.data) else np.float64))
    place = np.full(matrix.shape[1], -1)
    place[columns] = np.arange(len(columns))
    return panel[:, place[j]]  # every orbital meets itself


def _check(window: tuple[float, float], width: float, n_moments: int | None, n_vectors: int) -> None:
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(f"window: expected two energies in eV, the lower first, got {low:g} and {high:g}")
    if not 0 < width < np.inf:
        raise ConfigError(f"density of states: expected a positive width in eV, got {width}")
    if n_moments is not None and not (2 < n_moments <= MAX_MOMENTS and n_moments % 2 == 0):
        raise ConfigError(f"moments: expected an even number from 4 to {MAX_MOMENTS}, got {n_moments}")
    if not 0 < n_vectors <= 10_000:
        raise ConfigError(f"vectors: expected 1 to 10000, got {n_vectors}")
