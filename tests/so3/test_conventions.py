"""Orbital orders: round trips, and PySCF's order and signs against e3nn's harmonics on points in space."""

from importlib import import_module

import numpy as np
import pytest
import torch
from pyscf import gto

from harmose.errors import BasisError
from harmose.so3.conventions import E3NN, PYSCF, Convention


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


SHUFFLED = Convention("shuffled", {1: (2, 0, 1), 2: (4, 2, 0, 1, 3)}, {2: (1, -1, 1, -1, 1)})


@pytest.mark.parametrize("convention", [E3NN, PYSCF, SHUFFLED], ids=lambda c: c.name)
@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
def test_round_trip(convention, shape):
    degrees = [0, 2, 1, 0, 3, 1]
    n = sum(2 * l + 1 for l in degrees)
    matrix = np.random.default_rng(0).normal(size=(*shape, n, n))
    inside = convention.to_inside(matrix, degrees)
    assert np.array_equal(convention.from_inside(inside, degrees), matrix)
    assert np.array_equal(convention.to_inside(convention.from_inside(matrix, degrees), degrees), matrix)


def test_order_and_sign_by_hand():
    degrees = [1, 2]
    code = np.random.default_rng(1).normal(size=(8, 8))
    inside = SHUFFLED.to_inside(code, degrees)
    for a in range(8):
        for b in range(8):
            (la, ka, sa), (lb, kb, sb) = ((1, x, 0) if x < 3 else (2, x - 3, 3) for x in (a, b))
            sign = SHUFFLED.sign.get(la, (1, 1, 1))[ka] * SHUFFLED.sign.get(lb, (1, 1, 1))[kb]
            assert inside[a, b] == sign * code[sa + SHUFFLED.order[la][ka], sb + SHUFFLED.order[lb][kb]]


def test_e3nn_convention_changes_nothing():
    matrix = np.arange(64.0).reshape(8, 8)
    assert np.array_equal(E3NN.to_inside(matrix, [1, 2]), matrix)


@pytest.mark.parametrize("l", range(5))
def test_pyscf_orbitals_are_e3nn_harmonics(l):
    """Order and sign of every orbital up to g: PySCF's values in space against e3nn's harmonics of (y, z, x)."""
    mol = gto.M(atom="He 0 0 0", basis={"He": [[l, [0.7, 1.0]]]}, verbose=0)
    points = np.random.default_rng(2).normal(size=(20, 3))
    orbitals = mol.eval_gto("GTOval_sph", points)
    index, sign = PYSCF.indices([l])
    inside = sign * orbitals[:, index]
    y = o3().spherical_harmonics(l, torch.as_tensor(points)[:, [1, 2, 0]], normalize=False).numpy()
    radial = inside[:, :1] / y[:, :1]
    assert (radial > 0).all()
    np.testing.assert_allclose(inside, radial * y, rtol=1e-10, atol=1e-13)


def test_formulas_of_the_documentation():
    """docs/conventions.md, table of real harmonics, against e3nn (integral norm)."""
    x, y, z = points = np.random.default_rng(3).normal(size=(3, 20))
    points, r2 = points.T, x * x + y * y + z * z
    s3, s6, s10, s15 = np.sqrt([3, 6, 10, 15])
    formulas = {
        1: [y, z, x],
        2: [s3 * x * y, s3 * y * z, (3 * z * z - r2) / 2, s3 * x * z, s3 / 2 * (x * x - y * y)],
        3: [
            s10 / 4 * y * (3 * x * x - y * y),
            s15 * x * y * z,
            s6 / 4 * y * (5 * z * z - r2),
            z * (5 * z * z - 3 * r2) / 2,
            s6 / 4 * x * (5 * z * z - r2),
            s15 / 2 * z * (x * x - y * y),
            s10 / 4 * x * (x * x - 3 * y * y),
        ],
    }
    for l, rows in formulas.items():
        e3nn = o3().spherical_harmonics(l, torch.as_tensor(points)[:, [1, 2, 0]], False, normalization="norm").numpy()
        np.testing.assert_allclose(np.stack(rows, axis=1), e3nn, atol=1e-12, err_msg=f"l = {l}")


def test_errors():
    with pytest.raises(BasisError, match=r"convention wrong: l = 1 needs a permutation of 3, got \(0, 1, 1\)"):
        Convention("wrong", {1: (0, 1, 1)})
    with pytest.raises(BasisError, match=r"convention wrong: l = 1 needs 3 signs \+1 or -1, got \(1, 2, 1\)"):
        Convention("wrong", {}, {1: (1, 2, 1)})
    with pytest.raises(BasisError, match="l = 2 needs 5 signs"):
        Convention("wrong", {}, {2: (1, -1, 1)})
