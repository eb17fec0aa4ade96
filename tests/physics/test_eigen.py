"""Eigenvalues against PySCF's own, against an analytic chain, and for the laws that any solver must keep."""

import numpy as np
import pytest
from pyscf import dft
from scipy.spatial.transform import Rotation

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.errors import MatrixError
from harmose.io.pyscf import pyscf as io
from harmose.physics.bloch import bloch_sum
from harmose.physics.eigen import eigenvalues, molecular_orbitals, solve, spin_orbitals
from harmose.spin import Spin
from harmose.units import HARTREE

CHAIN_BASIS = BasisSet("s", {1: (Shell(1, 0),)}, {1: 2.0})


@pytest.fixture(scope="module")
def water(water_atoms):
    """Water's converged Fock matrix (LDA, STO-3G), its overlap, and PySCF's result."""
    mol = io.molecule(water_atoms(3), "sto-3g")
    mf = dft.RKS(mol, xc="lda,vwn").run(conv_tol=1e-11, verbose=0)
    blocks = io.zeros(water_atoms(3), io.basis_set("sto-3g", [1, 8]))
    return io.to_blocks(mf.get_fock(), blocks), io.to_blocks(mf.get_ovlp(), blocks, energy=False), mf


def chain(onsite: float, hopping: float) -> BlockMatrix:
    """One s orbital per cell, coupled to the next cell along z."""
    empty = empty_matrix(CHAIN_BASIS, np.array([1]), np.array([[0, 0, 0, 0, 1]]))
    return empty.with_values(np.array([[onsite, hopping]]))


def dimers(u: float, v: float, w: float) -> BlockMatrix:
    """Two orbitals per cell: u on site, v between the two, w from the second to the first of the next cell."""
    empty = empty_matrix(CHAIN_BASIS, np.array([1, 1]), np.array([[0, 1, 0, 0, -1], [0, 1, 0, 0, 0]]))
    return empty.with_values(np.array([[u, u, w, v]]))


def with_spin(operator: BlockMatrix, spin: Spin, values) -> BlockMatrix:
    values = np.asarray(values, dtype=spin.dtype)
    return BlockMatrix(operator.basis, operator.numbers, operator.pairs, values, spin)


def test_energies_are_those_of_pyscf(water):
    h, s, mf = water
    np.testing.assert_allclose(eigenvalues(h, s), mf.mo_energy[None] * HARTREE, atol=1e-5)


def test_coefficients_span_the_density_of_pyscf(water):
    h, s, mf = water
    orbitals = molecular_orbitals(h, s, 10)
    occupied = orbitals.coefficients[:, :5]
    density = s.with_values((2 * occupied @ occupied.T)[None, s.indices[1], s.indices[2]])
    np.testing.assert_allclose(io.from_blocks(density, energy=False), mf.make_rdm1(), atol=1e-6)
    assert orbitals.homo == pytest.approx(mf.mo_energy[4] * HARTREE, abs=1e-5)
    assert orbitals.lumo == pytest.approx(mf.mo_energy[5] * HARTREE, abs=1e-5)
    assert orbitals.gap == pytest.approx(orbitals.lumo - orbitals.homo)


def test_energies_are_invariant_under_rotation(water):
    h, s, _ = water
    q = Rotation.random(random_state=1).as_matrix()
    np.testing.assert_allclose(eigenvalues(h.rotate(q), s.rotate(q)), eigenvalues(h, s), atol=1e-9)


def test_chain_has_its_analytic_band():
    k = np.linspace(-0.5, 0.5, 11)
    kpoints = np.column_stack([0.3 + 0 * k, 0 * k, k])
    cosine = 2 * np.cos(2 * np.pi * k)
    expected = (-1.5 - 0.7 * cosine) / (1.0 + 0.2 * cosine)
    np.testing.assert_allclose(eigenvalues(chain(-1.5, -0.7), chain(1.0, 0.2), kpoints)[:, 0], expected, atol=1e-12)


def test_dimer_chain_has_its_analytic_bands():
    """SSH with overlap: e = (u +- |h|) / (1 +- |o|) when h and o have the same phase, here o = 0.3 h."""
    k = np.linspace(0, 1, 9)
    kpoints = np.column_stack([0 * k, 0 * k, k])
    h, s = dimers(0.0, -1.0, -0.6), dimers(1.0, -0.3, -0.18)
    amplitude = np.abs(-1.0 - 0.6 * np.exp(2j * np.pi * k))
    expected = np.sort([amplitude / (1 + 0.3 * amplitude), -amplitude / (1 - 0.3 * amplitude)], axis=0).T
    np.testing.assert_allclose(eigenvalues(h, s, kpoints), expected, atol=1e-12)


def test_coefficients_solve_the_equation_and_are_normalised():
    h, s, kpoints = dimers(0.2, -1.0, -0.6), dimers(1.0, 0.2, 0.1), np.array([[0, 0, 0], [0.1, 0, 0.37]])
    energies, c = solve(h, s, kpoints)
    h_k, s_k = bloch_sum(h, kpoints), bloch_sum(s, kpoints)
    np.testing.assert_allclose(h_k @ c, s_k @ c * energies[:, None, :], atol=1e-12)
    np.testing.assert_allclose(c.conj().swapaxes(1, 2) @ s_k @ c, np.broadcast_to(np.eye(2), (2, 2, 2)), atol=1e-12)
    np.testing.assert_allclose(eigenvalues(h, s, kpoints), energies, atol=1e-12)


def test_molecules_and_gamma_are_real(water):
    h, s, _ = water
    assert solve(h, s)[1].dtype == np.float64
    assert solve(chain(1, 0.1), chain(1, 0.1), [[0, 0, 0]])[1].dtype == np.float64
    assert solve(chain(1, 0.1), chain(1, 0.1), [[0, 0, 0.2]])[1].dtype == np.complex128


def test_a_molecule_has_the_same_energies_at_every_kpoint(water):
    h, s, _ = water
    energies = eigenvalues(h, s, [[0, 0, 0], [0.3, 0.1, 0.4]])
    np.testing.assert_array_equal(energies[0], energies[1])


def test_collinear_solves_each_spin(water):
    h, s, _ = water
    both = with_spin(h, Spin.COLLINEAR, [h.values[0], 0.9 * h.values[0]])
    expected = np.stack([eigenvalues(h, s), 0.9 * eigenvalues(h, s)])
    energies, c = solve(both, s)
    assert energies.shape == (2, 1, 7)
    assert c.shape == (2, 1, 7, 7)
    np.testing.assert_allclose(energies, expected, atol=1e-9)
    paired = with_spin(s, Spin.COLLINEAR, [s.values[0], s.values[0]])
    np.testing.assert_allclose(eigenvalues(both, paired), expected, atol=1e-9)


def test_collinear_chain_has_a_band_for_each_spin():
    h = with_spin(chain(0, 0), Spin.COLLINEAR, [[-1.0, -0.5], [1.0, 0.5]])
    kpoints = [[0, 0, 0.0], [0, 0, 0.25], [0, 0, 0.5]]
    expected = [[[-2.0], [-1.0], [0.0]], [[2.0], [1.0], [0.0]]]
    np.testing.assert_allclose(eigenvalues(h, chain(1, 0), kpoints), expected, atol=1e-12)


def test_spinor_in_a_field_splits_by_twice_the_field():
    """e(k) +- |B| for a chain in a magnetic field that lies across the spin axis, B . sigma with B = (0.3, 0.4, 0)."""
    band = np.array([-1.5, -0.7])
    field = np.array([0.3 - 0.4j, 0])
    h = with_spin(chain(0, 0), Spin.SPINOR, [band, field, field.conj(), band])
    kpoints = [[0, 0, 0.0], [0, 0, 0.2]]
    cosine = 2 * np.cos(2 * np.pi * np.array([0, 0.2]))
    s = 1 + 0.2 * cosine
    expected = ((-1.5 - 0.7 * cosine)[:, None] + [-0.5, 0.5]) / s[:, None]
    energies = eigenvalues(h, chain(1.0, 0.2), kpoints)
    assert energies.shape == (2, 2)
    np.testing.assert_allclose(energies, expected, atol=1e-12)


def test_indefinite_overlap():
    with pytest.raises(MatrixError, match=r"k-point \[0.0, 0.0, 0.5\]: smallest eigenvalue -2.000e-01"):
        eigenvalues(chain(-1, 0.1), chain(1.0, 0.6), [[0, 0, 0], [0, 0, 0.5]])


def test_bad_input(water):
    h, s, _ = water
    with pytest.raises(MatrixError, match="need the overlap S"):
        eigenvalues(h, None)
    with pytest.raises(MatrixError, match="same atoms and basis, got 3 atoms in sto-3g and 1 in s"):
        eigenvalues(h, chain(1, 0.2))
    with pytest.raises(MatrixError, match="finite values in H"):
        eigenvalues(h.with_values(h.values * np.nan), s)
    both = with_spin(h, Spin.COLLINEAR, np.repeat(h.values, 2, axis=0))
    with pytest.raises(MatrixError, match=r"expected one set .* got spin collinear"):
        molecular_orbitals(both, s, 10)
    with pytest.raises(MatrixError, match=r"expected a whole number of electrons, at most 14, got 9.5"):
        spin_orbitals(both, s, 9.5)
    with pytest.raises(MatrixError, match="expected S of spin none"):
        eigenvalues(h, both)
    with pytest.raises(MatrixError, match="expected a molecule"):
        molecular_orbitals(chain(1, 0.1), chain(1, 0.1), 2)


def test_both_spins_are_filled_to_one_fermi_level(water):
    """Up lower than down by 20 eV: all seven up orbitals are filled before the fourth of spin down."""
    h, s, _ = water
    shifted = np.concatenate([h.values - 20 * s.values, h.values])
    up, down = spin_orbitals(with_spin(h, Spin.COLLINEAR, shifted), s, 10)
    e = eigenvalues(h, s)[0]
    np.testing.assert_allclose(up.energies, e - 20, atol=1e-9)
    lowest = np.sort(np.concatenate([e - 20, e]))[:10]
    filled = np.concatenate([up.energies[: up.n_occupied], down.energies[: down.n_occupied]])
    np.testing.assert_allclose(np.sort(filled), lowest, atol=1e-9)
    assert up.n_occupied > down.n_occupied
    fixed = spin_orbitals(with_spin(h, Spin.COLLINEAR, shifted), s, 10, occupied=(5, 5))
    assert [x.n_occupied for x in fixed] == [5, 5]


def test_spinors_without_coupling(water):
    h, s, _ = water
    zero = np.zeros_like(h.values[0])
    spinor = with_spin(h, Spin.SPINOR, np.stack([h.values[0], zero, zero, h.values[0]]) + 0j)
    orbitals = molecular_orbitals(spinor, s, 10)
    assert orbitals.n_occupied == 10
    np.testing.assert_allclose(orbitals.energies[::2], eigenvalues(h, s)[0], atol=1e-9)
    assert orbitals.homo == pytest.approx(molecular_orbitals(h, s, 10).homo)
    assert orbitals.coefficients.shape == (14, 14)


def test_no_gap_without_occupied_or_empty_orbitals():
    lone = empty_matrix(CHAIN_BASIS, np.array([1]), np.zeros((0, 5), dtype=int)).with_values(np.array([[-13.6]]))
    unit = lone.with_values(np.array([[1.0]]))
    full, empty = molecular_orbitals(lone, unit, 2), molecular_orbitals(lone, unit, 0)
    assert (full.homo, full.lumo, full.gap) == (-13.6, None, None)
    assert (empty.homo, empty.lumo, empty.gap) == (None, -13.6, None)
