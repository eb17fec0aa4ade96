"""Mulliken weights against their definition, and the groups of orbitals."""

import numpy as np
import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import empty_matrix
from harmose.errors import ConfigError
from harmose.physics.projections import by_atom, by_element, by_l, by_shell, grouping, mulliken
from harmose.spin import Spin


@pytest.fixture
def carbon_monoxide():
    basis = BasisSet("b", {6: (Shell(2, 0), Shell(2, 1)), 8: (Shell(2, 0), Shell(3, 0))}, {6: 2.0, 8: 2.0})
    return empty_matrix(basis, np.array([8, 6]), np.array([[0, 1, 0, 0, 0]]))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (by_element, {"O": [0, 1], "C": [2, 3, 4, 5]}),
        (by_atom, {"O 0": [0, 1], "C 1": [2, 3, 4, 5]}),
        (by_shell, {"O 2s": [0], "O 3s": [1], "C 2s": [2], "C 2p": [3, 4, 5]}),
        (by_l, {"O s": [0, 1], "C s": [2], "C p": [3, 4, 5]}),
    ],
)
def test_groups(carbon_monoxide, function, expected):
    groups = function(carbon_monoxide)
    assert {label: np.flatnonzero(orbitals).tolist() for label, orbitals in groups.items()} == expected


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.SPINOR])
def test_weights(carbon_monoxide, spin):
    n = 12 if spin is Spin.SPINOR else 6
    random = np.random.default_rng(0)
    a = random.normal(size=(2, n, n)) + 1j * random.normal(size=(2, n, n))
    s = a @ a.conj().swapaxes(1, 2)
    c = random.normal(size=(2, n, 4)) + 1j * random.normal(size=(2, n, 4))
    groups = by_element(carbon_monoxide)
    weights = mulliken(c, s, groups, spin)
    assert weights.shape == (2, 2, 4)
    oxygen = [0, 1, 6, 7] if spin is Spin.SPINOR else [0, 1]
    expected = sum(np.real(c[1, i, 2].conj() * s[1, i] @ c[1, :, 2]) for i in oxygen)
    assert weights[1, 0, 2] == pytest.approx(expected)
    np.testing.assert_allclose(weights.sum(axis=1), np.real(np.einsum("kib,kij,kjb->kb", c.conj(), s, c)))


def test_unknown_grouping():
    assert grouping("l") is by_l
    with pytest.raises(ConfigError, match="projection: expected one of element, atom, shell, l, got 'spin'"):
        grouping("spin")
