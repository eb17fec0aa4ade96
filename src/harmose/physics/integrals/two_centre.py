"""Overlap integrals of two orbitals on a common axis: the Slater-Koster integrals sigma, pi, delta, ... of two elements.

With the second atom at distance r on the +z axis, orbitals of different m do not overlap, and the overlaps for m and -m are
equal: one function S_k(r), k = |m| = 0 ... min(l1, l2), for each pair of shells. With the spherical Bessel transforms

    f(q) = integral r^2 j_l(q r) R(r) dr            I_L(r) = integral q^2 j_L(q r) f1(q) f2(q) dq
    S_k(r) = (2/pi) sqrt((2 l1 + 1)(2 l2 + 1)) sum_L (-1)^((l1 - l2 - L)/2) C[L,0,0,0] C[L,0,k,k] I_L(r)

where L = |l1 - l2|, |l1 - l2| + 2, ... l1 + l2 and C are the coupling coefficients of `so3.coupling`. I_L is in
`bessel_products`.
"""

from collections.abc import Sequence
from functools import cached_property
from math import pi, sqrt

import numpy as np

from harmose.core.radial import Gaussians, Tabulated
from harmose.errors import BasisError
from harmose.physics.integrals.bessel_products import GaussianProducts, TableProducts
from harmose.so3.clebsch_gordan import clebsch_gordan

Functions = Sequence[Gaussians | Tabulated]


class TwoCentre:
    """Integrals between two elements, from the radial functions of their shells: all Gaussians or all tables.

    Attributes:
        degrees: l of the shells of both elements.
        starts: Row of S_0 of each pair of shells (n_first, n_second). Rows run over the shells of the first element, those of
            the second, then k.
        n_rows: Number of integrals.
        reach: Distance in angstrom from which integrals are zero (tables) or below 1e-16 (Gaussians).
    """

    def __init__(self, first: Functions, second: Functions) -> None:
        self.degrees = tuple(f.l for f in first), tuple(f.l for f in second)
        sizes = np.minimum.outer(*self.degrees) + 1
        self.n_rows = int(sizes.sum())
        self.starts = np.cumsum(sizes).reshape(sizes.shape) - sizes
        self._products = _products(first, second)

    @cached_property
    def reach(self) -> float:
        return self._products.reach

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """Return S_k(r) of every pair of shells (n_rows, E) at distances r (E,) in angstrom."""
        r = np.asarray(r, dtype=np.float64)
        products = self._products.at(r)
        out = np.zeros((self.n_rows, len(r)))
        for a, b, degrees, rows, factors in self._parts:
            integrals = products(a, b, degrees)
            out[rows] = (factors @ integrals.reshape(len(degrees), -1)).reshape(*rows.shape, -1)
        return out

    @cached_property
    def _parts(self) -> list[tuple[list[int], list[int], range, np.ndarray, np.ndarray]]:
        """For each pair of l: the shells of both elements, L, the rows of their S_k (k, n_a, n_b), and `_axis_factors` (k, n_L)."""
        parts = []
        for l1, a in _by_degree(self.degrees[0]).items():
            for l2, b in _by_degree(self.degrees[1]).items():
                k = np.arange(min(l1, l2) + 1)
                rows = self.starts[np.ix_(a, b)] + k[:, None, None]
                factors = np.stack([_axis_factors(l1, l2, m) for m in k.tolist()])
                parts.append((a, b, range(abs(l1 - l2), l1 + l2 + 1, 2), rows, factors))
        return parts


def _products(first: Functions, second: Functions) -> GaussianProducts | TableProducts:
    gaussians = [[f for f in of if isinstance(f, Gaussians)] for of in (first, second)]
    tables = [[f for f in of if isinstance(f, Tabulated)] for of in (first, second)]
    if not any(tables):
        return GaussianProducts(*gaussians)
    if not any(gaussians):
        return TableProducts(*tables)
    raise BasisError("expected the overlap of Gaussians or of tables, got one of each")


def _by_degree(degrees: Sequence[int]) -> dict[int, list[int]]:
    """Return the indices of the shells of each l."""
    return {l: [i for i, of_shell in enumerate(degrees) if of_shell == l] for l in sorted(set(degrees))}


def _axis_factors(l1: int, l2: int, k: int) -> np.ndarray:
    """Return the factors of I_L in S_k, for L = |l1 - l2| ... l1 + l2 in steps of two."""
    factors = []
    for l in range(abs(l1 - l2), l1 + l2 + 1, 2):
        axis = clebsch_gordan(l1, l2, l)[l]  # M = 0
        factors.append((-1) ** ((l1 - l2 - l) // 2) * axis[l1, l2] * axis[l1 + k, l2 + k])
    return 2 / pi * sqrt((2 * l1 + 1) * (2 * l2 + 1)) * np.array(factors)
