"""Slater-Koster integrals: known formulas, Gaussians against tables of the same functions, and tables against quadrature."""

import numpy as np
import pytest

from harmose.core.radial import Gaussians, Tabulated
from harmose.errors import BasisError
from harmose.physics.integrals.two_centre import TwoCentre

SHELLS = [
    (0, [0.9, 4.0], [0.8, 0.5]),
    (1, [1.1], [1.0]),
    (0, [0.6], [1.0]),
    (2, [1.3, 0.7], [0.4, 0.3]),
    (3, [1.0], [1.0]),
]
GAUSSIANS = [Gaussians(l, np.array(a), np.array(c)) for l, a, c in SHELLS]
DISTANCES = np.array([0.0, 0.4, 1.1, 2.3, 4.0])


def tables(step: float, cutoff: float = 9.0) -> list[Tabulated]:
    """The same functions as tables."""
    spacing = cutoff / 1500
    r = spacing * np.arange(1501)
    return [Tabulated(g.l, np.exp(-np.outer(r**2, g.exponents)) @ g.coefficients, spacing, step) for g in GAUSSIANS]


def test_two_s_gaussians():
    a, b = 0.9, 0.35
    s = Gaussians(0, np.array([a]), np.array([1.0])), Gaussians(0, np.array([b]), np.array([1.0]))
    # R Y has the factor 1 / sqrt(4 pi) on either side
    expected = (np.pi / (a + b)) ** 1.5 * np.exp(-a * b / (a + b) * DISTANCES**2) / (4 * np.pi)
    np.testing.assert_allclose(TwoCentre([s[0]], [s[1]])(DISTANCES), expected[None], rtol=1e-13)


def test_tables_agree_with_gaussians():
    exact = TwoCentre(GAUSSIANS, GAUSSIANS)(DISTANCES)
    functions = tables(step=0.02)
    np.testing.assert_allclose(TwoCentre(functions, functions)(DISTANCES), exact, atol=2e-9)
    assert np.abs(exact).max() > 0.3


def test_exchange_of_the_atoms():
    forward, back = TwoCentre(GAUSSIANS[:3], GAUSSIANS[2:]), TwoCentre(GAUSSIANS[2:], GAUSSIANS[:3])
    s, t = forward(DISTANCES), back(DISTANCES)
    for i, l1 in enumerate(forward.degrees[0]):
        for j, l2 in enumerate(forward.degrees[1]):
            k = np.arange(min(l1, l2) + 1)
            sign = (-1.0) ** (l1 + l2)
            np.testing.assert_allclose(s[forward.starts[i, j] + k], sign * t[back.starts[j, i] + k], atol=1e-14)


def test_distance_zero():
    integrals = TwoCentre(GAUSSIANS, GAUSSIANS)
    onsite = integrals(np.zeros(1))[:, 0]
    r = np.linspace(0, 12, 20001)
    for i, f in enumerate(GAUSSIANS):
        for j, g in enumerate(GAUSSIANS):
            rows = integrals.starts[i, j] + np.arange(min(f.l, g.l) + 1)
            expected = (f.l == g.l) * np.trapezoid(r**2 * f(r) * g(r), r)
            np.testing.assert_allclose(onsite[rows], expected, atol=1e-10)


def truncated(l: int, cutoff: float, step: float) -> Tabulated:
    """r^l (1 - (r / cutoff)^2)^3."""
    r = np.linspace(0, cutoff, 400)
    return Tabulated(l, (1 - (r / cutoff) ** 2) ** 3, float(r[1]), step)


def overlap_in_space(f: Tabulated, g: Tabulated, m: int, distance: float) -> float:
    """The integral over space in cylinder coordinates about the bond, for l <= 1."""
    x, weight = np.polynomial.legendre.leggauss(160)
    end = f.cutoff
    z, rho = end * x, end * (x + 1) / 2
    z, rho = np.meshgrid(z, rho, indexing="ij")
    weights = np.outer(end * weight, end * weight / 2) * rho

    def value(h: Tabulated, z: np.ndarray) -> np.ndarray:
        r = np.hypot(rho, z)
        angular = {(0, 0): np.ones_like(r) / np.sqrt(2), (1, 0): np.sqrt(1.5) * z / r, (1, 1): np.sqrt(0.75) * rho / r}
        return h(r) * angular[h.l, m]

    return float((weights * value(f, z) * value(g, z - distance)).sum())


@pytest.mark.parametrize(("l1", "l2", "m"), [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_integral_over_space(l1, l2, m):
    f, g = truncated(l1, 2.5, 0.01), truncated(l2, 3.1, 0.01)
    integrals = TwoCentre([f], [g])
    for distance in (0.7, 2.2, 4.1):
        expected = overlap_in_space(f, g, m, distance)
        assert integrals(np.array([distance]))[m, 0] == pytest.approx(expected, abs=2e-6 * max(1, abs(expected)))


def test_orbitals_out_of_reach():
    near, far = truncated(2, 1.5, 0.02), truncated(2, 4.0, 0.02)
    integrals = TwoCentre([near, far], [near, far])
    assert integrals.reach == pytest.approx(8.0)
    s = integrals(np.array([3.1, 5.4, 7.9, 8.5]))
    rows = integrals.starts[..., None] + np.arange(3)
    assert np.abs(s[rows[0, 0]]).max() == 0
    assert np.abs(s[rows[0, 1]][:, :1]).min() > 0
    assert np.abs(s[rows[0, 1]][:, 2:]).max() == 0
    assert np.abs(s[rows[1, 1]][0, :3]).min() > 0
    assert np.abs(s[:, 3]).max() == 0


def test_gaussians_and_tables_do_not_mix():
    with pytest.raises(BasisError, match="one of each"):
        TwoCentre(GAUSSIANS[:1], tables(0.02)[:1])
