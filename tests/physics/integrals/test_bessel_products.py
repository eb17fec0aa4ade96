"""Integrals over Bessel transforms against quadrature."""

import numpy as np
import pytest
from scipy.special import spherical_jn

from harmose.core.radial import Gaussians, Tabulated
from harmose.physics.integrals.bessel_products import GaussianProducts, TableProducts

FIRST = [Gaussians(1, np.array([1.1]), np.array([1.0])), Gaussians(1, np.array([0.8, 3.0]), np.array([0.4, -0.5]))]
SECOND = [Gaussians(2, np.array([1.3, 0.7]), np.array([0.4, 0.3]))]
DISTANCES = np.array([0.3, 1.2, 2.7])
DEGREES = range(1, 4, 2)


def by_quadrature(first: Gaussians, second: Gaussians, degree: int) -> np.ndarray:
    """Return integral q^2 j_L(q r) f1(q) f2(q) dq, with f(q) = integral r^2 j_l(q r) R(r) dr, on fine grids."""
    q, r = np.linspace(0, 20, 401), np.linspace(0, 9, 451)
    f1, f2 = (np.trapezoid(spherical_jn(f.l, q[:, None] * r) * r**2 * f(r), r) for f in (first, second))
    return np.trapezoid(spherical_jn(degree, q * DISTANCES[:, None]) * q**2 * f1 * f2, q)


def table(function: Gaussians, cutoff: float) -> Tabulated:
    r = cutoff / 1500 * np.arange(1501)
    values = np.exp(-np.outer(r**2, function.exponents)) @ function.coefficients
    return Tabulated(function.l, values, cutoff / 1500, 0.02)


@pytest.mark.parametrize("kind", ["gaussians", "tables"])
def test_integrals(kind):
    if kind == "gaussians":
        products = GaussianProducts(FIRST, SECOND)
    else:
        products = TableProducts([table(f, 8.0) for f in FIRST], [table(f, 8.0) for f in SECOND])
    found = products.at(DISTANCES)([0, 1], [0], DEGREES)
    assert found.shape == (2, 2, 1, 3)
    for i, degree in enumerate(DEGREES):
        for j, first in enumerate(FIRST):
            np.testing.assert_allclose(found[i, j, 0], by_quadrature(first, SECOND[0], degree), atol=1e-8)


def test_reach():
    gaussians = GaussianProducts(FIRST, SECOND)
    found = gaussians.at(np.array([gaussians.reach]))([0, 1], [0], DEGREES)
    assert np.abs(found).max() < 1e-16
    tables = TableProducts([table(FIRST[0], 3.0)], [table(SECOND[0], 2.0)])
    assert tables.reach == 5.0
    inside, outside = tables.at(np.array([4.0, 5.0]))([0], [0], DEGREES)[0, 0, 0]
    assert inside != 0
    assert outside == 0
