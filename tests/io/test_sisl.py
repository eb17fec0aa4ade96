"""The `sisl.Hamiltonian` of a sample has the sample's eigenvalues, geometry and orbitals."""

import builtins

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.assembly import zeros
from harmose.io.deeph.deeph import read_deeph
from harmose.io.sisl import to_sisl
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin

sisl = pytest.importorskip("sisl")

KPOINTS = np.array([[0, 0, 0], [0.13, -0.4, 0.27], [0.5, 0.5, 0.0]])


@pytest.mark.parametrize("spin", list(Spin))
def test_eigenvalues(random_crystal, spin):
    sample = random_crystal(spin)
    h = to_sisl(sample)
    expected = eigenvalues(sample.hamiltonian, sample.overlap, KPOINTS)
    for k, kpoint in enumerate(KPOINTS):
        if spin is Spin.COLLINEAR:
            for component in (0, 1):
                np.testing.assert_allclose(h.eigh(kpoint, spin=component), expected[component, k], atol=1e-10)
        else:
            np.testing.assert_allclose(h.eigh(kpoint), expected[k], atol=1e-10)


def test_bands_of_a_real_crystal(shared_data):
    sample = read_deeph(shared_data / "dft-outputs" / "deeph-MoTe2")
    h = to_sisl(sample)
    for kpoint in KPOINTS:
        np.testing.assert_allclose(
            h.eigh(kpoint), eigenvalues(sample.hamiltonian, sample.overlap, kpoint)[0], atol=1e-9
        )
    assert h.geometry.atoms[0].symbol == "Te"
    np.testing.assert_allclose(h.geometry.xyz, sample.structure.positions)
    orbital = h.geometry.atoms[2].orbitals[-1]
    assert (orbital.n, orbital.l, orbital.m) == (4, 2, 2)


def test_elements(random_crystal):
    sample = random_crystal()
    h = to_sisl(sample)
    i, j, *cell = sample.hamiltonian.pairs[-1].tolist()
    block = sample.hamiltonian.block(i, j, tuple(cell))
    rows, cols = h.geometry.a2o(i, all=True), h.geometry.a2o(j, all=True)
    offset = h.geometry.no * h.geometry.lattice.sc_index(cell)
    found = np.array([[h[row, col + offset, 0] for col in cols] for row in rows])
    np.testing.assert_allclose(found, block)


def test_molecule_without_cell_or_overlap(water_sample):
    sample = water_sample(1)
    np.testing.assert_allclose(to_sisl(sample).eigh(), sample.orbital_energies, atol=1e-8)
    orthogonal = to_sisl(water_sample(1, overlap=None))
    assert orthogonal.orthogonal
    np.testing.assert_allclose(orthogonal.eigh(), np.linalg.eigvalsh(sample.hamiltonian.dense()), atol=1e-8)


def test_without_sisl(water_sample, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "sisl":
            raise ImportError
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(FormatError, match="sisl is not installed"):
        to_sisl(water_sample(1))


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("cell", [None, np.diag([9.0, 9.0, -9.0])], ids=["no cell", "left-handed"])
def test_isolated_atom(spin, cell):
    """No pairs, also in a cell that is left-handed."""
    basis = BasisSet("s", {2: (Shell(1, 0),)}, {2: 2.0})
    atom = Atoms("He", [[1.0, 2.0, 3.0]], cell=cell, pbc=cell is not None)
    h = zeros(atom, basis, spin).with_values(np.array([-24.0, 0.5, 0.5, -23.0])[: spin.n_components, None])
    sample = Sample("größe", atom, basis, h, zeros(atom, basis).with_values(np.ones((1, 1))), spin=spin)
    expected = eigenvalues(sample.hamiltonian, sample.overlap).reshape(-1, 1 + (spin is Spin.SPINOR))
    found = to_sisl(sample)
    for component, energies in enumerate(expected):
        choice = {"spin": component} if spin is Spin.COLLINEAR else {}
        np.testing.assert_allclose(found.eigh(**choice), energies, atol=1e-12)
