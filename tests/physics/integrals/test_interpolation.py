"""Tables of functions of distance: the error they claim is the error they have."""

import numpy as np

from harmose.physics.integrals.interpolation import tabulate


def functions(r: np.ndarray) -> np.ndarray:
    return np.stack([np.exp(-3 * r**2) * r**2, np.cos(2 * r), np.where(r < 3, (3 - np.minimum(r, 3)) ** 4, 0.0)])


def test_error_of_a_table():
    table = tabulate(functions, 0.5, 6.0, 1e-11, most=10**5)
    assert table is not None
    assert table.error < 1e-11
    r = np.concatenate([[0.5, 6.0], np.random.default_rng(0).uniform(0.5, 6.0, 5000)])
    # (3 - r)^4 has a kink in its fourth derivative, seen only by the few distances beside it
    error = np.abs(table(r) - functions(r).T)
    assert error[:, :2].max() < 2e-11
    assert np.median(error[:, 2]) < 1e-12
    assert error[:, 2].max() < 1e-6


def test_polynomials_are_exact():
    table = tabulate(lambda r: np.stack([r**9 - r**4, np.ones_like(r)]), 0.3, 1.3, 1e-9, most=10**5)
    r = np.linspace(0.3, 1.3, 33)
    np.testing.assert_allclose(table(r), np.stack([r**9 - r**4, np.ones_like(r)], axis=1), rtol=1e-12, atol=1e-12)


def test_no_table():
    assert tabulate(functions, 0.5, 6.0, 1e-11, most=100) is None
    assert tabulate(lambda r: np.sign(np.sin(50 * r))[None], 0.5, 3.0, 1e-11, most=10**6) is None
    assert tabulate(functions, 1.0, 1.0, 1e-11, most=30).error < 1e-11  # all pairs at one distance
