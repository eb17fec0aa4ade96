"""Radial functions and radial basis sets: values, merging, errors, pickling."""

import pickle

import numpy as np
import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.core.radial import Gaussians, RadialBasis, Tabulated
from harmose.errors import BasisError

S_SHELL = Gaussians(0, np.array([0.5, 2.0]), np.array([0.3, 0.7]))
P_SHELL = Gaussians(1, np.array([1.5]), np.array([1.0]))
SHELLS = (Shell(1, 0), Shell(2, 1))
BASIS = BasisSet("sp", {1: SHELLS, 6: SHELLS}, {1: 3.0, 6: 4.0})


@pytest.fixture
def radial() -> RadialBasis:
    return RadialBasis(BASIS, {1: (S_SHELL, P_SHELL), 6: (S_SHELL, P_SHELL)})


def test_gaussians():
    r = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(S_SHELL(r), 0.3 * np.exp(-0.5 * r**2) + 0.7 * np.exp(-2 * r**2), rtol=1e-14)
    np.testing.assert_allclose(P_SHELL(r), r * np.exp(-1.5 * r**2), rtol=1e-14)


def test_tables():
    r = np.linspace(0, 3, 61)
    function = Tabulated(2, np.cos(r / 2) * (1 - r / 3), 0.05, 0.02)
    assert function.cutoff == pytest.approx(3.0)
    np.testing.assert_allclose(function(r), r**2 * np.cos(r / 2) * (1 - r / 3), atol=1e-12)
    assert function(np.array([3.0, 3.1, 50.0])).tolist() == [0, 0, 0]
    slope = Tabulated(0, np.cos(r / 2) * (1 - r / 3), 0.05, 0.02)(np.array([0.0, 1e-6]))
    assert abs(np.diff(slope)[0]) < 1e-10  # cos(r / 2)(1 - r / 3) itself would fall by 3e-7
    grid, values = function.samples()
    assert (grid[0], grid[1], len(grid)) == (0, 0.02, 150)
    np.testing.assert_array_equal(values, function(grid))


def test_functions_by_element(radial):
    assert (radial.name, radial.elements) == ("sp", (1, 6))
    assert radial.of(6) == (S_SHELL, P_SHELL)
    with pytest.raises(BasisError, match="expected one of H, C, got O"):
        radial.of(8)


def test_repr(radial):
    assert repr(radial) == "RadialBasis('sp': H 1s 2p, C 1s 2p; Gaussians)"


def test_merged(radial):
    oxygen = RadialBasis(BasisSet("o", {8: (Shell(1, 0),)}, {8: 2.0}), {8: (S_SHELL,)})
    merged = radial.merged([oxygen], "all")
    assert (merged.name, merged.elements) == ("all", (1, 6, 8))
    assert merged.of(8) == (S_SHELL,)
    with pytest.raises(BasisError, match="basis all: expected one set of radial functions for O, got two"):
        merged.merged([oxygen], "all")


def test_like(radial):
    other = BasisSet("run", {6: (Shell(2, 0), Shell(2, 1))}, {6: 7.0})
    like = radial.like(other)
    assert like.basis == other
    assert like.of(6) == radial.of(6)
    with pytest.raises(BasisError, match="one radial function for each shell of C"):
        radial.like(BasisSet("run", {6: (Shell(2, 1), Shell(2, 0))}, {6: 7.0}))
    with pytest.raises(BasisError, match="got O"):
        radial.like(BasisSet("run", {8: SHELLS}, {8: 7.0}))


def test_errors():
    with pytest.raises(BasisError, match="same elements"):
        RadialBasis(BASIS, {1: (S_SHELL, P_SHELL)})
    with pytest.raises(BasisError, match=r"shell of C, l = \(0, 1\), got l = \(0,\)"):
        RadialBasis(BASIS, {1: (S_SHELL, P_SHELL), 6: (S_SHELL,)})
    table = Tabulated(1, np.ones(20), 0.1, 0.02)
    with pytest.raises(BasisError, match="either Gaussians or tables"):
        RadialBasis(BASIS, {1: (S_SHELL, P_SHELL), 6: (S_SHELL, table)})


def test_pickle(radial):
    copy = pickle.loads(pickle.dumps(radial))  # noqa: S301
    assert copy.basis == radial.basis
    np.testing.assert_array_equal(copy.of(1)[0].exponents, S_SHELL.exponents)


TABLE = Tabulated(0, np.linspace(1, 0, 30), 0.1, 0.02)


@pytest.mark.parametrize("s_shell", [S_SHELL, TABLE])
def test_arrays_hold_all_of_the_functions(s_shell):
    radial = RadialBasis(BasisSet("s", {6: (Shell(1, 0),) * 2}, {6: 4.0}), {6: (s_shell, s_shell)})
    arrays = radial.to_arrays()
    assert len(arrays) == 4
    assert all(a.dtype == np.float64 for a in arrays.values())
    again = RadialBasis.from_arrays(radial.basis, arrays)
    r = np.linspace(0, 4, 50)
    for a, b in zip(radial.of(6), again.of(6)):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a(r), b(r))


@pytest.mark.parametrize(
    "change",
    [
        {"6.0.values": None, "6.0.grid": None},
        {"6.0.grid": None},
        {"6.0.grid": [0.1]},
        {"6.0.grid": [0.1, 0.0]},
        {"6.0.grid": [0.1, -0.02]},
        {"6.0.grid": [0.1, 1e-12]},  # a grid of more steps than memory
        {"6.0.values": [1.0, np.nan, 0.0, 0.0]},
        {"6.0.values": [[1.0, 0.0, 0.0, 0.0]]},
        {"6.0.values": []},
        {"6.0.exponents": [1.0]},
    ],
)
def test_arrays_without_meaning_are_refused(change):
    basis = BasisSet("s", {6: (Shell(1, 0),)}, {6: 4.0})
    arrays = {k: v for k, v in {**RadialBasis(basis, {6: (TABLE,)}).to_arrays(), **change}.items() if v is not None}
    with pytest.raises(BasisError, match="expected the radial function of shell 0 of C"):
        RadialBasis.from_arrays(basis, arrays)


def test_arrays_of_more_shells_are_refused(radial):
    with pytest.raises(BasisError, match="of its shells alone"):
        RadialBasis.from_arrays(BASIS.restricted([6]), radial.to_arrays())
