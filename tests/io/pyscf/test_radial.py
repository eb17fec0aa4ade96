"""PySCF's radial functions: order, norms, and the orbitals' values in space."""

import numpy as np
import pytest

from harmose.errors import BasisError
from harmose.io.pyscf.pyscf import basis_set, free_atom
from harmose.io.pyscf.radial import radial_basis
from harmose.so3.conventions import PYSCF
from harmose.so3.harmonics import real_harmonics
from harmose.units import BOHR


@pytest.mark.parametrize(("name", "z"), [("def2-tzvp", 8), ("gth-dzvp-molopt-sr", 14), ("sto-3g", 1), ("cc-pvtz", 30)])
def test_radial_functions_times_harmonics(name, z):
    points = np.random.default_rng(0).normal(size=(30, 3))  # angstrom
    expected = free_atom(name, z).eval_gto("GTOval_sph", points / BOHR) * BOHR**-1.5
    radial = radial_basis(name, [z])
    index, sign = PYSCF.indices(radial.basis.degrees(z))
    r = np.linalg.norm(points, axis=1)
    harmonics = real_harmonics(radial.basis.l_max, points / r[:, None])
    ours = np.concatenate([f(r) * harmonics[f.l**2 : (f.l + 1) ** 2] for f in radial.of(z)])
    np.testing.assert_allclose(ours, sign[:, None] * expected.T[index], atol=1e-9)


def test_normalised_functions():
    radial = radial_basis("DEF2-SVP", [1, 35])
    assert radial.basis == basis_set("def2-svp", [1, 35])
    r = np.linspace(0, 12, 40001) ** 2 / 12  # core orbitals are short
    for function in (*radial.of(1), *radial.of(35)):
        assert np.trapezoid(r**2 * function(r) ** 2, r) == pytest.approx(1, abs=1e-6)


def test_unknown_sets_and_elements():
    with pytest.raises(BasisError, match="got 'nonsense'"):
        radial_basis("nonsense", [1])
    with pytest.raises(BasisError, match="no def2-svp for U"):
        radial_basis("def2-svp", [1, 92])
