"""Wannier90's files: read back by sisl and by a reader of their published layout, they have the sample's energies."""

import numpy as np
import pytest
import scipy.linalg
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.assembly import zeros
from harmose.io.deeph.deeph import read_deeph
from harmose.io.wannier90 import write_wannier90
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin

KPOINTS = np.array([[0, 0, 0], [0.13, -0.4, 0.27], [0.5, 0.5, 0.0]])


def read_matrices(path):
    """Cells and matrices of a `_hr.dat`, by the layout of Wannier90's user guide."""
    with path.open() as file:
        file.readline()
        n, n_cells = int(file.readline()), int(file.readline())
        degeneracies = []
        while len(degeneracies) < n_cells:
            line = file.readline().split()
            assert len(line) <= 15
            degeneracies += [int(x) for x in line]
        table = np.loadtxt(file, ndmin=2)
    assert degeneracies == [1] * n_cells
    assert table.shape == (n_cells * n * n, 7)
    matrices = np.zeros((n_cells, n, n), dtype=complex)
    for k, block in enumerate(table.reshape(n_cells, n * n, 7)):
        assert (block[:, :3] == block[0, :3]).all()
        matrices[k, block[:, 3].astype(int) - 1, block[:, 4].astype(int) - 1] = block[:, 5] + 1j * block[:, 6]
        assert np.array_equal(block[:n, 3], np.arange(1, n + 1))  # the first index runs fastest
    return table[:: n * n, :3], matrices


def energies(folder, seed, kpoint, with_overlap=True):
    sums = []
    for kind in ("hr", "sr")[: 1 + with_overlap]:
        cells, matrices = read_matrices(folder / f"{seed}_{kind}.dat")
        sums.append(np.einsum("r,rab->ab", np.exp(2j * np.pi * cells @ kpoint), matrices))
    return scipy.linalg.eigh(*sums, eigvals_only=True)


@pytest.mark.parametrize("spin", list(Spin))
def test_energies(tmp_path, random_crystal, spin):
    sample = random_crystal(spin)
    write_wannier90(tmp_path / "w", sample)
    size = sample.hamiltonian.n_orbitals * (1 + (spin is Spin.SPINOR))
    expected = eigenvalues(sample.hamiltonian, sample.overlap, KPOINTS).reshape(-1, len(KPOINTS), size)
    seeds = ["wannier90.up", "wannier90.dn"] if spin is Spin.COLLINEAR else ["wannier90"]
    for component, seed in enumerate(seeds):
        for k, kpoint in enumerate(KPOINTS):
            np.testing.assert_allclose(energies(tmp_path / "w", seed, kpoint), expected[component, k], atol=1e-9)
    written = {f"{seed}{end}" for seed in seeds for end in ("_hr.dat", "_sr.dat", ".win", "_centres.xyz")}
    assert {f.name for f in (tmp_path / "w").iterdir()} == written


@pytest.mark.parametrize("spin", list(Spin))
def test_orthogonal(tmp_path, random_crystal, spin):
    """On the mesh the energies are those of H and S; off it they come closer with a finer mesh."""
    sample = random_crystal(spin)
    size = sample.hamiltonian.n_orbitals * (1 + (spin is Spin.SPINOR))
    seed = "wannier90.dn" if spin is Spin.COLLINEAR else "wannier90"
    errors = []
    for mesh in ((3, 3, 1), (5, 5, 5), (7, 7, 7)):
        folder = tmp_path / str(mesh[0])
        write_wannier90(folder, sample, loewdin=mesh)
        assert not list(folder.glob("*_sr.dat"))
        on, off = np.array([1 / mesh[0], -1 / mesh[1], 0.0]), KPOINTS[1]
        expected = eigenvalues(sample.hamiltonian, sample.overlap, [on, off]).reshape(-1, 2, size)[-1]
        np.testing.assert_allclose(energies(folder, seed, on, with_overlap=False), expected[0], atol=1e-9)
        errors.append(np.abs(energies(folder, seed, off, with_overlap=False) - expected[1]).max())
        if spin is not Spin.NONE:
            break
    assert spin is not Spin.NONE or (errors[0] > errors[1] > errors[2] and errors[2] < 1e-2)


def test_sisl_reads_the_files(tmp_path, shared_data):
    sisl = pytest.importorskip("sisl")
    sample = read_deeph(shared_data / "dft-outputs" / "deeph-MoTe2")
    write_wannier90(tmp_path / "w", sample)
    seed = sisl.get_sile(tmp_path / "w" / "wannier90.win")
    h = seed.read_hamiltonian(cutoff=0)
    np.testing.assert_allclose(h.cell, sample.structure.cell.array, atol=1e-7)
    np.testing.assert_allclose(h.geometry.xyz, np.repeat(sample.structure.positions, 19, axis=0), atol=1e-7)
    (tmp_path / "w" / "wannier90_hr.dat").unlink()
    (tmp_path / "w" / "wannier90_sr.dat").rename(tmp_path / "w" / "wannier90_hr.dat")
    s = sisl.get_sile(tmp_path / "w" / "wannier90.win").read_hamiltonian(cutoff=0)
    for kpoint in KPOINTS:
        found = scipy.linalg.eigh(h.Hk(kpoint, format="array"), s.Hk(kpoint, format="array"), eigvals_only=True)
        np.testing.assert_allclose(found, eigenvalues(sample.hamiltonian, sample.overlap, kpoint)[0], atol=1e-8)
    structure = seed.read_geometry()
    np.testing.assert_allclose(structure.xyz, sample.structure.positions, atol=1e-9)


def test_molecule(tmp_path, water_sample):
    sample = water_sample(1)
    write_wannier90(tmp_path / "w", sample, loewdin=(1, 1, 1))
    found = energies(tmp_path / "w", "wannier90", np.zeros(3), with_overlap=False)
    np.testing.assert_allclose(found, sample.orbital_energies, atol=1e-8)
    write_wannier90(tmp_path / "v", water_sample(1, overlap=None))
    assert not (tmp_path / "v" / "wannier90_sr.dat").exists()


def test_bad_input(tmp_path, water_sample):
    for mesh in ((2, 3, 3), (3, 3), (3, 3, 0), (3.0, 3, 3)):
        with pytest.raises(FormatError, match="loewdin: expected three odd numbers of k-points"):
            write_wannier90(tmp_path / "w", water_sample(1), loewdin=mesh)
    with pytest.raises(FormatError, match="sample water-1: expected S to make H orthogonal with"):
        write_wannier90(tmp_path / "w", water_sample(1, overlap=None), loewdin=(1, 1, 1))
    write_wannier90(tmp_path / "w", water_sample(1))
    with pytest.raises(FormatError, match="expected a new path"):
        write_wannier90(tmp_path / "w", water_sample(1))


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("cell", [None, np.diag([9.0, 9.0, -9.0])], ids=["no cell", "left-handed"])
def test_isolated_atom(tmp_path, spin, cell):
    """No pairs, also in a cell that is left-handed."""
    basis = BasisSet("s", {2: (Shell(1, 0),)}, {2: 2.0})
    atom = Atoms("He", [[1.0, 2.0, 3.0]], cell=cell, pbc=cell is not None)
    h = zeros(atom, basis, spin).with_values(np.array([-24.0, 0.5, 0.5, -23.0])[: spin.n_components, None])
    sample = Sample("größe", atom, basis, h, zeros(atom, basis).with_values(np.ones((1, 1))), spin=spin)
    expected = eigenvalues(sample.hamiltonian, sample.overlap).reshape(-1, 1 + (spin is Spin.SPINOR))
    write_wannier90(tmp_path / "größe", sample)
    seeds = ["wannier90.up", "wannier90.dn"] if spin is Spin.COLLINEAR else ["wannier90"]
    for seed, values in zip(seeds, expected, strict=True):
        np.testing.assert_allclose(energies(tmp_path / "größe", seed, np.zeros(3)), values, atol=1e-12)
