"""PySCF's conventions, checked against PySCF: rotate the molecule, recompute, compare with D(Q)."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import dft, gto

from harmose.core.blocks import empty_matrix
from harmose.errors import BasisError, LabellingError, MatrixError
from harmose.io.pyscf import pyscf as io
from harmose.so3.wigner import random_rotation
from harmose.units import HARTREE

ROTATION = random_rotation(np.random.default_rng(7))


def rotated(atoms: Atoms) -> Atoms:
    turned = atoms.copy()
    turned.positions = atoms.positions @ ROTATION.T
    return turned


def core_hamiltonian(atoms: Atoms, basis: str):
    mol = io.molecule(atoms, basis)
    elements = set(atoms.numbers.tolist())
    return io.to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), io.zeros(atoms, io.basis_set(basis, elements)))


@pytest.mark.parametrize(
    ("name", "basis", "l_max"), [("H2O", "def2-tzvp", 3), ("HCN", "def2-tzvp", 3), ("CH3Cl", "def2-svp", 2)]
)
def test_rotation_of_overlap_and_core_hamiltonian(name, basis, l_max):
    atoms = molecule(name)
    s, h = io.overlap(atoms, basis), core_hamiltonian(atoms, basis)
    assert s.basis.l_max == l_max
    np.testing.assert_allclose(s.rotate(ROTATION).values, io.overlap(rotated(atoms), basis).values, atol=1e-10)
    turned = core_hamiltonian(rotated(atoms), basis).values
    np.testing.assert_allclose(h.rotate(ROTATION).values, turned, atol=1e-10 * np.abs(turned).max())


def test_rotation_of_fock_matrix():
    atoms, settings = molecule("H2O"), io.PySCFSettings(grid_level=5)
    h = io.prior(atoms, settings)
    turned = io.prior(rotated(atoms), settings)
    error = np.abs(h.rotate(ROTATION).values - turned.values)
    assert error.mean() < 1e-6 * HARTREE
    assert error.max() < 1e-4 * HARTREE


def test_order_of_orbitals():
    atoms = molecule("H2O")
    mol = io.molecule(atoms, "def2-svp")
    labels = mol.ao_labels(fmt=False)
    shells = [(k, n) for k, _, n, _ in labels]
    marks = np.diag(np.arange(1.0, mol.nao + 1))
    blocks = io.to_blocks(marks, io.zeros(atoms, io.basis_set("def2-svp", {1, 8})), energy=False)
    order = np.diag(blocks.dense()).astype(int) - 1
    ours = [labels[k][3] for k in order]
    assert [shells[k] for k in order] == shells  # shells stay where they are
    assert ours[3:6] == ["y", "z", "x"]
    assert ours[9:14] == ["xy", "yz", "z^2", "xz", "x2-y2"]


def test_round_trip_and_unit():
    atoms = molecule("NH3")
    matrix = np.random.default_rng(0).normal(size=(29, 29))
    matrix += matrix.T
    blocks = io.to_blocks(matrix, io.zeros(atoms, io.basis_set("def2-svp", {1, 7})))
    np.testing.assert_allclose(io.from_blocks(blocks), matrix, atol=1e-14)
    assert blocks.block(0, 0)[0, 0] == pytest.approx(matrix[0, 0] * HARTREE, rel=1e-14)
    unitless = io.to_blocks(matrix, blocks, energy=False)
    np.testing.assert_allclose(io.from_blocks(unitless, energy=False), matrix, atol=1e-14)


def test_values_outside_the_graph():
    far = Atoms("H2", [[0, 0, 0], [0, 0, 40.0]])
    layout = io.zeros(far, io.basis_set("sto-3g", {1}))
    assert len(layout.pairs) == 0
    with pytest.raises(MatrixError, match=r"H: a value of .* block of atoms 0 and 1"):
        io.to_blocks(np.array([[1.0, 1e-3], [1e-3, 1.0]]), layout, name="H")
    kept = io.to_blocks(np.array([[1.0, 1e-9], [1e-9, 1.0]]), layout)
    np.testing.assert_allclose(kept.dense(), HARTREE * np.eye(2))


def test_invalid_matrices():
    layout = io.zeros(molecule("H2O"), io.basis_set("sto-3g", {1, 8}))
    with pytest.raises(MatrixError, match="expected shape"):
        io.to_blocks(np.eye(8), layout)
    with pytest.raises(MatrixError, match="Hermitian"):
        io.to_blocks(np.triu(np.ones((7, 7))), layout)


def test_shells_and_radii():
    basis = io.basis_set("def2-SVP", [1, 6, 7, 8, 9])
    assert basis.name == "def2-svp"
    assert basis.degrees(1) == (0, 0, 1)
    assert all(basis.degrees(z) == (0, 0, 0, 1, 1, 2) for z in (6, 7, 8, 9))
    assert [str(s) for s in basis.shells[8]] == ["1s", "2s", "3s", "2p", "3p", "3d"]
    assert min(basis.radii.values()) >= 6
    # general contractions: one PySCF shell holds several of ours
    assert io.basis_set("cc-pvdz", [6]).degrees(6) == (0, 0, 0, 1, 1, 2)


def test_wider_radii():
    far = Atoms("H2", [[0, 0, 0], [0, 0, 15.0]])
    near, wide = (io.basis_set("sto-3g", {1}, radius) for radius in (6.0, 8.0))
    assert wide.radii[1] == 8
    assert [len(io.zeros(far, basis).pairs) for basis in (near, wide)] == [0, 1]
    assert len(io.prior(far, io.PySCFSettings(basis="sto-3g", min_radius=8.0)).pairs) == 1


def test_orbitals_end_at_the_radius():
    basis, z = io.basis_set("def2-svp", [1]), 1
    mol = gto.M(atom="H", basis="def2-svp", spin=1, verbose=0)
    inside, outside = (mol.eval_gto("GTOval", np.array([[f * basis.radii[z] / 0.529177, 0, 0]])) for f in (0.8, 1.0))
    assert np.abs(outside).max() < 1e-8 < np.abs(inside).max()


def test_core_potentials():
    mol = io.molecule(Atoms("IH", [[0, 0, 0], [0, 0, 1.6]]), "def2-svp")
    assert mol.nelectron == 53 - 28 + 1


def test_charge():
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    assert io.molecule(atoms, "sto-3g").nelectron == 10


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: io.basis_set("nonsense", [1]), BasisError, "basis nonsense: expected a basis set that PySCF knows"),
        (lambda: io.basis_set("def2-svp", [92]), BasisError, "basis def2-svp: PySCF has no def2-svp for U"),
        (lambda: io.basis_set("def2-svp", [200]), BasisError, "atomic number 200"),
        (lambda: io.basis_set("../some/file", [1]), BasisError, "expected a name such as def2-svp"),
        (lambda: io.molecule(molecule("CH3"), "sto-3g"), LabellingError, "CH3: .* even number of electrons, got 9"),
        (lambda: io.molecule(Atoms("He", cell=[5] * 3, pbc=True), "sto-3g"), LabellingError, "He: expected a molecule"),
        (lambda: io.PySCFSettings("pbq"), LabellingError, "functional: .*'pbq'"),
        (lambda: io.PySCFSettings("pbe-d3"), LabellingError, "without dispersion"),
        (lambda: io.PySCFSettings(grid_level=12), LabellingError, "grid_level: expected 0 to 9, got 12"),
        (lambda: io.PySCFSettings(convergence=0), LabellingError, "convergence: expected a positive number"),
        (lambda: io.PySCFSettings(max_cycle=float("nan")), LabellingError, "max_cycle"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_b3lyp_names():
    atoms = molecule("H2O")
    gaussian, vwn5 = (io.prior(atoms, io.PySCFSettings(f, "sto-3g")) for f in ("b3lypg", "b3lyp5"))
    assert np.abs(gaussian.values - vwn5.values).max() > 0.01
    assert io.PySCFSettings("B3LYP").functional == "b3lypg"
    # VWN3 spelt out in libxc's own words
    mf = dft.RKS(io.molecule(atoms, "sto-3g"), xc="0.2*HF + .08*SLATER + .72*B88, .81*LYP + .19*VWN3")
    mf.small_rho_cutoff = 0
    np.testing.assert_allclose(io.from_blocks(gaussian), mf.get_fock(dm=mf.init_guess_by_minao()), atol=1e-7)


def test_prior_agrees_with_published_one(shared_data):
    data = np.load(shared_data / "molecules" / "water.npz")
    n, atoms = int(data["nao"][0]), slice(*data["atom_ptr"][:2])
    expected = np.zeros((n, n))
    expected[np.triu_indices(n)] = data["F0"][slice(*data["tri_ptr"][:2])]
    expected += np.triu(expected, 1).T
    got = io.prior(Atoms(data["z"][atoms], data["pos"][atoms]), io.PySCFSettings("pbe"))
    np.testing.assert_allclose(io.from_blocks(got), expected, atol=1e-9)


def test_prior_in_wider_basis_set():
    wide = io.basis_set("sto-3g", {1, 6, 8})
    h0 = io.prior(molecule("H2O"), io.PySCFSettings(basis="sto-3g"), wide)
    assert h0.basis == wide
    assert empty_matrix(wide, h0.numbers, h0.pairs).values.shape == h0.values.shape


def test_has_basis():
    atoms = molecule("H2O")
    assert io.has_basis(io.molecule(atoms, "def2-svp"), "def2-svp")
    assert not io.has_basis(io.molecule(atoms, "def2-svp"), "6-31g*")
    assert not io.has_basis(io.molecule(atoms, "sto-3g"), "sto-6g")
    assert not io.has_basis(gto.M(atom="He", basis="cc-pvtz", cart=True, verbose=0), "cc-pvtz")
