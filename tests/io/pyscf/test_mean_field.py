"""Mean fields of PySCF as samples: their own orbital energies, also with two basis sets of one element."""

import numpy as np
import pytest
from pyscf import dft, gto, scf

import harmose
from harmose.core.radial import RadialBasis
from harmose.core.sample import check_sample
from harmose.errors import BasisError, FormatError
from harmose.io.npz import read_npz, write_npz
from harmose.io.pyscf import pyscf as io
from harmose.io.pyscf.mean_field import basis_of, read_mean_field
from harmose.io.pyscf.radial import radial_basis
from harmose.physics.eigen import eigenvalues
from harmose.units import HARTREE

WATER = "O 0 0 0; H1 0 0.76 0.59; H2 0 -0.76 0.59"
TWO = {"O": "def2-svp", "H1": "def2-svp", "H2": "sto-3g"}


def molecule(basis=TWO, **options) -> gto.Mole:
    return gto.M(atom=WATER, basis=basis, verbose=0, **options)


@pytest.mark.parametrize("kind", [scf.RHF, scf.UHF, scf.GHF])
def test_two_basis_sets_of_hydrogen(tmp_path, kind):
    """def2-SVP on one hydrogen, STO-3G on the other."""
    mf = kind(molecule()).run(conv_tol=1e-13, conv_tol_grad=1e-11, max_cycle=100)
    sample = read_mean_field(mf, "water")
    check_sample(sample)
    assert sample.basis.summary == "'def2-svp+sto-3g': H 1s 2s 2p, O 1s 2s 3s 2p 3p 3d, H(2) 1s"
    assert sample.structure.numbers.tolist() == [8, 1, 1]
    assert sample.hamiltonian.numbers.tolist() == [8, 1, 1001]
    solved = eigenvalues(sample.hamiltonian, sample.overlap) / HARTREE
    np.testing.assert_allclose(solved.ravel(), np.sort(mf.mo_energy).ravel(), atol=1e-10, rtol=0)
    write_npz(tmp_path / "water.npz", sample)
    again = read_npz(tmp_path / "water.npz")
    assert again.structure == sample.structure
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert (sample.n_electrons, sample.energy) == (10, mf.e_tot * HARTREE)


def test_one_basis_set_is_that_of_its_name():
    mf = dft.RKS(molecule("def2-svp", charge=2), xc="pbe").run()
    sample = read_mean_field(mf)
    assert sample.basis == io.basis_set("def2-svp", {1, 8})
    assert sample.structure.info["charge"] == 2
    assert "orbital_set" not in sample.structure.arrays
    assert read_mean_field(mf, basis=sample.basis).basis == sample.basis
    assert sample.provenance["functional"] == "pbe"


def test_integrals_of_two_basis_sets():
    """S of harmose's own integrals, with the functions of each set of orbitals, is PySCF's."""
    mol = molecule()
    atoms, basis = basis_of(mol)
    large, small = radial_basis("def2-svp", [1, 8]), radial_basis("sto-3g", [1])
    radial = RadialBasis(basis, {1: large.of(1), 8: large.of(8), 1001: small.of(1)})
    own = harmose.overlap(atoms, radial)
    expected = io.to_blocks(mol.intor_symmetric("int1e_ovlp"), own, energy=False)
    np.testing.assert_allclose(own.values, expected.values, atol=1e-12)
    with pytest.raises(BasisError, match=r"basis def2-svp\+sto-3g: expected one whose radial functions PySCF has"):
        harmose.overlap(atoms, basis)


def test_what_is_refused():
    with pytest.raises(FormatError, match="expected a mean field that has run"):
        read_mean_field(scf.RHF(molecule()))
    with pytest.raises(FormatError, match="got restricted open shells"):
        read_mean_field(scf.ROHF(molecule(charge=1, spin=1)).run())
    with pytest.raises(BasisError, match="expected spherical orbitals"):
        basis_of(molecule(cart=True))
    with pytest.raises(BasisError, match="got GHOST-H, a ghost"):
        basis_of(gto.M(atom="H 0 0 0; H 0 0 0.7; GHOST-H 0 0 2", basis="sto-3g", verbose=0))
    with pytest.raises(BasisError, match=r"expected H with the shells of basis def2-svp \(1s 2s 2p\), got 1s"):
        basis_of(molecule(), io.basis_set("def2-svp", {1, 8}))


def test_names_of_basis_sets():
    assert basis_of(molecule("STO-3G"))[1].name == "sto-3g"
    assert basis_of(molecule({"default": gto.basis.parse("H S\n 1.0 1.0")}))[1].name == "pyscf"
