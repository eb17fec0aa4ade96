"""The density matrix against PySCF's and against its own laws."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.errors import MatrixError
from harmose.io.pyscf import pyscf as io
from harmose.physics.density import dense_density, density_matrix, occupied_orbitals
from harmose.spin import Spin


@pytest.fixture(scope="module")
def water():
    """Converged RKS of water: H, S in eV and our order, and PySCF's own density matrix."""
    atoms = molecule("H2O")
    mol = io.molecule(atoms, "def2-svp")
    mf = io.mean_field(mol, io.PySCFSettings(grid_level=1)).run()
    layout = io.zeros(atoms, io.basis_set("def2-svp", {1, 8}))
    s = io.to_blocks(mf.get_ovlp(), layout, energy=False)
    return io.to_blocks(mf.get_fock(), layout), s, mf.make_rdm1()


def test_density_is_pyscf_density(water):
    h, s, expected = water
    d = density_matrix(h, s, 10)
    np.testing.assert_allclose(io.from_blocks(d, energy=False), expected, atol=1e-4)  # the last SCF step
    np.testing.assert_allclose(d.dense(), dense_density(h, s, 10), atol=1e-12)


def test_density_holds_the_electrons_and_is_idempotent(water):
    h, s, _ = water
    d, overlap = dense_density(h, s, 10), s.dense()
    assert np.trace(d @ overlap) == pytest.approx(10, abs=1e-10)
    np.testing.assert_allclose(d @ overlap @ d, 2 * d, atol=1e-10)


def test_density_has_the_lowest_band_energy(water):
    h, s, _ = water
    energies = np.linalg.eigvalsh(np.linalg.solve(np.linalg.cholesky(s.dense()), h.dense()) @ np.linalg.inv(
        np.linalg.cholesky(s.dense()).T))  # fmt: skip
    assert np.trace(dense_density(h, s, 10) @ h.dense()) == pytest.approx(2 * energies[:5].sum(), rel=1e-12)


def test_no_electrons_give_no_density(water):
    h, s, _ = water
    assert not dense_density(h, s, 0).any()


@pytest.mark.parametrize("n_electrons", [9, 9.5, 50, -2])
def test_odd_or_impossible_electrons(water, n_electrons):
    h, s, _ = water
    with pytest.raises(MatrixError, match="even number of electrons, at most 48"):
        dense_density(h, s, n_electrons)


def test_bad_matrices(water):
    h, s, _ = water
    with pytest.raises(MatrixError, match="positive definite"):
        dense_density(h, s.with_values(-s.values), 10)
    up_down = BlockMatrix(h.basis, h.numbers, h.pairs, np.repeat(h.values, 2, axis=0), Spin.COLLINEAR)
    with pytest.raises(MatrixError, match="closed shell"):
        dense_density(up_down, s, 10)
    chain = empty_matrix(h.basis, np.array([1]), np.array([[0, 0, 0, 0, 1]]))
    with pytest.raises(MatrixError, match="periodic images"):
        dense_density(chain, chain, 2)
    hydrogen = io.overlap(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), "def2-svp")
    with pytest.raises(MatrixError, match="same atoms"):
        dense_density(h, hydrogen, 10)


def test_occupied_orbitals():
    assert occupied_orbitals(10.0, 24) == 5
