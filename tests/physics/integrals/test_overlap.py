"""S against PySCF (molecules, lattice sums), CP2K (graphene) and SIESTA (Si, Fe, Pt2), and the laws it obeys."""

import tracemalloc

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from harmose.core.graph import build_graph
from harmose.errors import BasisError, StructureError
from harmose.io.pyscf.pyscf import overlap as pyscf_overlap
from harmose.io.pyscf.radial import radial_basis
from harmose.io.siesta.ion_nc import read_ions
from harmose.physics.bloch import bloch_sum
from harmose.physics.integrals.overlap import Overlaps, two_centre_overlap
from harmose.so3.conventions import PYSCF
from harmose.so3.wigner import random_rotation


def of(atoms: Atoms, name: str):
    return radial_basis(name, set(atoms.numbers.tolist()))


@pytest.mark.parametrize(
    ("name", "basis"),
    [
        ("CH3CH2OH", "def2-svp"),
        ("CH3Cl", "def2-tzvp"),
        ("C6H6", "def2-svp"),
        ("H2O", "cc-pvqz"),
        ("SiH4", "gth-dzvp-molopt-sr"),
        ("NaCl", "sto-3g"),
    ],
)
def test_molecules_agree_with_pyscf(name, basis):
    atoms = molecule(name)
    s = two_centre_overlap(atoms, of(atoms, basis))
    np.testing.assert_allclose(s.values, pyscf_overlap(atoms, basis).values, atol=1e-13)


def test_interpolated_integrals_agree_with_pyscf():
    atoms = molecule("C60")
    atoms.rattle(0.03, seed=1)
    s = two_centre_overlap(atoms, of(atoms, "def2-svp"))
    np.testing.assert_allclose(s.values, pyscf_overlap(atoms, "def2-svp").values, atol=1e-10)


def test_a_crystal_agrees_with_pyscf():
    from pyscf.pbc import gto

    atoms = bulk("MgO", "rocksalt", a=4.21)
    atoms.rattle(0.1, seed=4)
    basis = of(atoms, "gth-szv-molopt-sr")
    cell = gto.Cell(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist())), a=atoms.cell.array, unit="angstrom",
        basis="gth-szv-molopt-sr", pseudo="gth-pade", precision=1e-14, verbose=0, spin=None,
    ).build(False, False)  # fmt: skip
    kpoints = np.array([[0.0, 0, 0], [0.1, 0.35, -0.2]])
    expected = np.array(cell.pbc_intor("int1e_ovlp", kpts=cell.get_abs_kpts(kpoints)))
    degrees = [l for z in atoms.numbers.tolist() for l in basis.basis.degrees(z)]
    s = two_centre_overlap(atoms, basis)
    np.testing.assert_allclose(bloch_sum(s, kpoints), PYSCF.to_inside(expected, degrees), atol=1e-10)


@pytest.mark.parametrize("group", ["mg_000", "mg_019", "pristine_3x3", "pristine_1x1"])
def test_graphene_agrees_with_cp2k(shared_data, group):
    import h5py

    with h5py.File(shared_data / "crystals" / "graphene.h5") as file:
        stored = {key: file[group][key][()] for key in ("pos", "cell", "pairs", "S")}
    atoms = Atoms(f"C{len(stored['pos'])}", stored["pos"], cell=stored["cell"], pbc=(True, True, False))
    s = two_centre_overlap(atoms, radial_basis("gth-dzvp-molopt-sr", [6]))
    ours = np.array([s.block(i, j, (x, y, z)) for x, y, z, i, j in stored["pairs"].tolist()])
    np.testing.assert_allclose(ours, stored["S"] * 1e-8, atol=3e-8)  # CP2K's cut-offs; 5e-9 of it is the rounding


@pytest.mark.parametrize(
    ("run", "ion"),
    [
        ("siesta-Si", "Si.ion.nc"),
        ("siesta-Fe", "Fe.ion.nc"),
        ("siesta-Pt2-soc/Pt2_xx.HSX", "Pt.ion.nc"),
        ("siesta-Pt2-soc/Pt2_xx.TSHS", "Pt.ion.nc"),
    ],
)
def test_tables_agree_with_siesta(shared_data, run, ion):
    pytest.importorskip("sisl")
    siesta = pytest.importorskip("harmose.io.siesta.siesta")
    path = shared_data / "dft-outputs" / run
    sample = siesta.read_siesta(path)
    basis = read_ions([(path if path.is_dir() else path.parent) / ion])
    s = two_centre_overlap(sample.structure, basis.like(sample.basis))
    difference = np.abs(s.values - sample.overlap.values)[0]
    assert difference[s.is_onsite].max() < 1e-11
    assert difference.max() < 5e-9  # SIESTA interpolates
    assert np.abs(sample.overlap.values[0, ~s.is_onsite]).max() > 0.1


@pytest.fixture(scope="module")
def flake() -> Atoms:
    """Two elements, far from any symmetry, with enough pairs for tables."""
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True) * (2, 1, 1)
    atoms.pbc = (True, False, True)
    atoms.rattle(0.2, seed=5)
    return atoms


def test_rotation(flake):
    rotation = random_rotation(np.random.default_rng(11))
    turned = flake.copy()
    turned.set_cell(flake.cell.array @ rotation.T)
    turned.positions = flake.positions @ rotation.T
    basis = of(flake, "def2-svp")
    s = two_centre_overlap(flake, basis)
    np.testing.assert_allclose(s.rotate(rotation).values, two_centre_overlap(turned, basis).values, atol=1e-12)


def test_rotation_with_tables(shared_data):
    basis = read_ions([shared_data / "dft-outputs" / "siesta-Fe" / "Fe.ion.nc"])
    iron = bulk("Fe", cubic=True) * (2, 2, 2)
    iron.rattle(0.1, seed=3)
    rotation = random_rotation(np.random.default_rng(12))
    turned = iron.copy()
    turned.set_cell(iron.cell.array @ rotation.T)
    turned.positions = iron.positions @ rotation.T
    s = two_centre_overlap(iron, basis)
    np.testing.assert_allclose(s.rotate(rotation).values, two_centre_overlap(turned, basis).values, atol=1e-12)


def test_permutation(flake):
    order = np.random.default_rng(0).permutation(len(flake))
    basis = of(flake, "def2-svp")
    s, shuffled = two_centre_overlap(flake, basis), two_centre_overlap(flake[order], basis)
    place = np.concatenate([np.arange(s.orbital_starts[k], s.orbital_starts[k + 1]) for k in order])
    np.testing.assert_allclose(shuffled.dense(), s.dense()[np.ix_(place, place)], atol=1e-12)


def test_supercell():
    cell = graphene(vacuum=6.0)
    cell.pbc = (True, True, False)
    cell.rattle(0.05, seed=1)
    basis = radial_basis("def2-svp", [6])
    small, large = two_centre_overlap(cell, basis), two_centre_overlap(cell * (2, 1, 1), basis)
    np.testing.assert_allclose(large.block(0, 1, (0, 1, 0)), small.block(0, 1, (0, 1, 0)), atol=1e-11)
    np.testing.assert_allclose(large.block(0, 3), small.block(0, 1, (1, 0, 0)), atol=1e-11)
    np.testing.assert_allclose(large.block(2, 1, (1, 0, 0)), small.block(0, 1, (1, 0, 0)), atol=1e-11)


def test_positive_definite_with_unit_diagonal(flake):
    s = two_centre_overlap(flake, of(flake, "def2-svp"))
    assert np.linalg.eigvalsh(bloch_sum(s, [0.3, 0, 0.1])[0]).min() > 1e-6
    block, row, col = s.indices
    np.testing.assert_allclose(s.values[0, (row == col) & (block < len(flake))], 1, atol=1e-12)


def test_memory_grows_with_the_pairs():
    n = 3000
    chain = Atoms(f"H{n}", np.outer(np.arange(n), [1.2, 0, 0]))
    basis = radial_basis("sto-3g", [1])
    two_centre_overlap(chain[:100], basis)  # what is made once
    tracemalloc.start()
    s = two_centre_overlap(chain, basis)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert s.n_orbitals == n
    assert peak < 8 * n**2 / 4  # a dense matrix would be 72 MB


def test_single_atoms_and_empty_structures():
    basis = radial_basis("def2-svp", [8])
    np.testing.assert_allclose(
        two_centre_overlap(Atoms("O"), basis).dense(), pyscf_overlap(Atoms("O"), "def2-svp").dense()
    )
    with pytest.raises(StructureError, match="at least one atom"):
        two_centre_overlap(Atoms(), basis)


def test_one_object_serves_all_structures():
    known = Overlaps(radial_basis("def2-svp", [1, 6, 8]))
    for atoms in (molecule("H2O"), molecule("CH3CH2OH"), molecule("CO"), molecule("H2O")):
        expected = two_centre_overlap(atoms, radial_basis("def2-svp", [1, 6, 8]))
        found = known.of(build_graph(atoms, known.basis.basis))
        np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-13)


def test_bad_input():
    basis = radial_basis("sto-3g", [1])
    with pytest.raises(BasisError, match="expected one of H, got O"):
        two_centre_overlap(molecule("H2O"), basis)
    with pytest.raises(StructureError, match=r"at least 0\.3 angstrom apart, got 0\.100 between atoms 0 and 1"):
        two_centre_overlap(Atoms("H2", [[0, 0, 0], [0, 0, 0.1]]), basis)
    with pytest.raises(StructureError, match="finite positions"):
        two_centre_overlap(Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), basis)
