"""Integrals I_L(r) = integral q^2 j_L(q r) f1(q) f2(q) dq over the spherical Bessel transforms of two radial functions.

Gaussians have a closed form. Tables are integrated by sums: over r on the grid of the code that made them, and over q with
a spacing below pi / (sum of cutoffs). At this spacing the sum is exact, because both orbitals end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import factorial, pi, sqrt

import numpy as np
import scipy

from harmose.core.radial import Gaussians, Tabulated

Products = Callable[[list[int], list[int], range], np.ndarray]
"""`products(a, b, L)`: I_L (n_L, n_a, n_b, E) between shells a, all of one l, and shells b, all of one l."""


@dataclass(frozen=True, eq=False)
class GaussianProducts:
    """Closed form for Gaussians: f(q) = c sqrt(pi) q^l exp(-q^2 / 4a) / (2^(l+2) a^(l+3/2)), integrand q^(2+L+2n) j_L(q r) exp(-p q^2),

    I_L = sqrt(pi) n! r^L exp(-x) Laguerre(n, L + 1/2, x) / (2^(L+2) p^(L+n+3/2)),    x = r^2 / 4p,  p = 1/4a + 1/4b.
    """

    first: Sequence[Gaussians]
    second: Sequence[Gaussians]

    @property
    def reach(self) -> float:
        """Distance in angstrom beyond which all integrals are below 1e-16."""
        a, b = (min(float(f.exponents.min()) for f in of) for of in (self.first, self.second))
        # A product of Gaussians falls as exp(-a b r^2 / (a + b)); 60 leaves room for r^(l1 + l2) in front of it.
        return sqrt(60 * (a + b) / (a * b))

    def at(self, r: np.ndarray) -> Products:
        """Return the integrals at distances r (E,) in angstrom."""

        def products(a: list[int], b: list[int], degrees: range) -> np.ndarray:
            p, terms = self._terms(a, b, degrees)
            x = np.multiply.outer(1 / (4 * p), r**2)  # (pairs of exponents, E)
            decay = np.exp(-x)
            out = []
            for l, n, weight in terms:
                radial = decay * scipy.special.eval_genlaguerre(n, l + 0.5, x) if n else decay
                out.append(weight @ radial * r**l)
            return np.stack(out)

        return products

    def _terms(
        self, a: list[int], b: list[int], degrees: range
    ) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
        """Return p of every pair of exponents, and for each L: L, n and the factors (n_a, n_b, pairs of exponents); cached."""
        key = tuple(a), tuple(b), degrees
        if key not in self._terms_cache:
            (l1, exponents1, c1), (l2, exponents2, c2) = _shared(self.first, a), _shared(self.second, b)
            prefactors = np.multiply.outer(_prefactor(l1, exponents1), _prefactor(l2, exponents2))
            p = (1 / (4 * exponents1)[:, None] + 1 / (4 * exponents2)).ravel()
            contraction = np.einsum("ip,jq,pq->ijpq", c1, c2, prefactors).reshape(len(a), len(b), -1)
            terms = []
            for l in degrees:
                n = (l1 + l2 - l) // 2
                terms.append((l, n, contraction * (sqrt(pi) * factorial(n) / (2 ** (l + 2) * p ** (l + n + 1.5)))))
            self._terms_cache[key] = p, terms
        return self._terms_cache[key]

    @cached_property
    def _terms_cache(self) -> dict:
        return {}


def _prefactor(l: int, exponents: np.ndarray) -> np.ndarray:
    return sqrt(pi) / (2 ** (l + 2) * exponents ** (l + 1.5))


def _shared(functions: Sequence[Gaussians], shells: list[int]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return l, the different exponents of these shells (K,), and their coefficients (n_shells, K)."""
    chosen = [functions[i] for i in shells]
    exponents, where = np.unique(np.concatenate([f.exponents for f in chosen]), return_inverse=True)
    owner = np.repeat(np.arange(len(chosen)), [len(f.exponents) for f in chosen])
    coefficients = np.zeros((len(chosen), len(exponents)))
    np.add.at(coefficients, (owner, where), np.concatenate([f.coefficients for f in chosen]))
    return chosen[0].l, exponents, coefficients


@dataclass(frozen=True, eq=False)
class TableProducts:
    """Sums over q, with f(q) from sums over r. Exactly zero where two orbitals do not touch."""

    first: Sequence[Tabulated]
    second: Sequence[Tabulated]

    @property
    def reach(self) -> float:
        """The sum of the longest cutoffs, in angstrom."""
        return sum(max(f.cutoff for f in of) for of in (self.first, self.second))

    def at(self, r: np.ndarray) -> Products:
        """Return the integrals at distances r (E,) in angstrom."""
        q, weight, f1, f2 = self._spectra
        bessel = cache(lambda l: scipy.special.spherical_jn(l, q[:, None] * r))
        cutoffs1, cutoffs2 = (np.array([f.cutoff for f in of]) for of in (self.first, self.second))

        def products(a: list[int], b: list[int], degrees: range) -> np.ndarray:
            spectrum = f1[a][:, None] * f2[b] * weight
            inside = r < (cutoffs1[a][:, None] + cutoffs2[b])[..., None]
            return np.stack([(spectrum @ bessel(l)) * inside for l in degrees])

        return products

    @cached_property
    def _spectra(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The points q (Q,), the weights q^2 dq of the sum, and f(q) of the shells of both elements, each (n, Q)."""
        # A grid of step h resolves q up to pi / h. A sum over q is periodic in r: 0.9 keeps the images out of reach.
        largest = pi / max(f.step for f in (*self.first, *self.second))
        n = int(np.ceil(largest * self.reach / (0.9 * pi)))
        q = np.linspace(0, largest, n + 1)
        weight = q**2 * (largest / n)
        weight[-1] /= 2
        return q, weight, _transforms(self.first, q), _transforms(self.second, q)


def _transforms(functions: Sequence[Tabulated], q: np.ndarray) -> np.ndarray:
    """Return f(q) of each function (n, Q), by the sum over the grid of the code that made its table."""
    out = np.empty((len(functions), len(q)))
    for i, function in enumerate(functions):
        r, radial = function.samples()
        out[i] = scipy.special.spherical_jn(function.l, q[:, None] * r) @ (r**2 * radial) * function.step
    return out
