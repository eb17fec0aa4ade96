"""The density matrix against PySCF's and against its own laws."""

import numpy as np
import pytest
from ase.build import molecule

from harmose.core.blocks import block_values
from harmose.errors import MatrixError
from harmose.io.pyscf import pyscf as io
from harmose.physics.density import density_from_dense, occupied_orbitals


@pytest.fixture(scope="module")
def water():
    """Converged RKS of water: H (eV) and S (n, n) in our order of orbitals, and PySCF's density matrix in its order."""
    atoms = molecule("H2O")
    mol = io.molecule(atoms, "def2-svp")
    mf = io.mean_field(mol, io.PySCFSettings(grid_level=1)).run()
    layout = io.zeros(atoms, io.basis_set("def2-svp", {1, 8}))
    s = io.to_blocks(mf.get_ovlp(), layout, energy=False)
    return io.to_blocks(mf.get_fock(), layout).dense(), s.dense(), mf.make_rdm1(), layout


def test_density_is_pyscf_density(water):
    h, s, expected, layout = water
    d = block_values(density_from_dense(h, s, 10), layout)
    np.testing.assert_allclose(io.from_blocks(d, energy=False), expected, atol=1e-4)  # the last SCF step


def test_density_holds_the_electrons_and_is_idempotent(water):
    h, s, *_ = water
    d = density_from_dense(h, s, 10)
    assert np.trace(d @ s) == pytest.approx(10, abs=1e-10)
    np.testing.assert_allclose(d @ s @ d, 2 * d, atol=1e-10)


def test_density_has_the_lowest_band_energy(water):
    h, s, *_ = water
    energies = np.linalg.eigvalsh(np.linalg.solve(np.linalg.cholesky(s), h) @ np.linalg.inv(
        np.linalg.cholesky(s).T))  # fmt: skip
    assert np.trace(density_from_dense(h, s, 10) @ h) == pytest.approx(2 * energies[:5].sum(), rel=1e-12)


def test_no_electrons_give_no_density(water):
    h, s, *_ = water
    assert not density_from_dense(h, s, 0).any()


@pytest.mark.parametrize("n_electrons", [9, 9.5, 50, -2])
def test_odd_or_impossible_electrons(water, n_electrons):
    h, s, *_ = water
    with pytest.raises(MatrixError, match="even number of electrons, at most 48"):
        density_from_dense(h, s, n_electrons)


def test_bad_matrices(water):
    h, s, *_ = water
    with pytest.raises(MatrixError, match="positive definite"):
        density_from_dense(h, -s, 10)


def test_occupied_orbitals():
    assert occupied_orbitals(10.0, 24) == 5
