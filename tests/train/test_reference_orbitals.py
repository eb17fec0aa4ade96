"""Reference levels and the assembly of matrices, against LAPACK on the dense matrices: C^dagger H C is the energies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.linalg import eigh

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import FormatError, MatrixError
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import molecule as pyscf_molecule
from harmose.io.pyscf.pyscf import overlap, to_blocks
from harmose.physics.bloch import bloch_sum
from harmose.representation.batch import graph_batch
from harmose.representation.block_irreps import Coefficients, to_coefficients
from harmose.representation.concatenation import TargetSettings, block_irreps, concatenate, sample_graph
from harmose.spin import Spin
from harmose.train.assembly import Assembly
from harmose.train.physics_loss import between_orbitals
from harmose.train.reference_orbitals import FAR, kpoints, merged, sample_orbitals, stacked


def real_channels(h: BlockMatrix) -> BlockMatrix:
    """Without what a spinor operator with magnetic moments has besides."""
    return h.with_values(h.spin.from_channels(h.spin.to_channels(h.values)))


def between(samples: list[Sample]):
    """The space, levels, and C^dagger H C of samples, all in float64."""
    space = block_irreps(samples[0].basis, samples[0].spin)
    concatenated = concatenate(space, [sample_graph(s, space) for s in samples])
    batch = replace(
        graph_batch(space, concatenated.graph, concatenated.oriented, torch.float64),
        sample=torch.as_tensor(concatenated.atom_sample[concatenated.oriented.atom_order]),
        n_samples=len(samples),
    )
    h = concatenated.matrix(space, concatenated.values([s.hamiltonian for s in samples]))
    coefficients = to_coefficients(space, h, concatenated.oriented)
    orbitals = stacked([sample_orbitals(s, space, TargetSettings(), torch.float64) for s in samples], space.spin)
    matrices = Assembly(space, torch.float64)(coefficients, batch, orbitals.kpoints)
    return orbitals, between_orbitals(matrices, orbitals)


@pytest.mark.parametrize("spin", list(Spin))
def test_h_between_its_own_orbitals_is_its_energies_at_every_k(random_crystal, spin):
    sample = random_crystal(spin)
    sample = replace(sample, hamiltonian=real_channels(sample.hamiltonian), fermi_level=0.0)
    orbitals, m = between([sample])
    k = kpoints(sample.structure.pbc)
    h, s = bloch_sum(sample.hamiltonian, k), bloch_sum(sample.overlap, k)
    h = np.moveaxis(h, 0, 1).reshape(-1, *h.shape[-2:]) if spin is Spin.COLLINEAR else h
    s = np.kron(np.eye(2), s) if spin is Spin.SPINOR else np.repeat(s, len(h) // len(s), axis=0)
    expected = np.stack([eigh(a, b, eigvals_only=True) for a, b in zip(h, s, strict=True)])
    np.testing.assert_allclose(orbitals.energies[0], expected, atol=1e-3)
    np.testing.assert_allclose(m[0], np.stack([np.diag(e) for e in expected]), atol=1e-4)
    assert orbitals.occupied.bool().numpy()[0].tolist() == (expected <= 0).tolist()


@pytest.fixture
def molecules(water_basis, water_atoms) -> list[Sample]:
    """Of 2, 4 and 3 atoms."""
    samples = []
    for name, atoms in (("H2", molecule("H2")), ("H2O2", molecule("H2O2")), ("H2O", water_atoms(1)[[1, 0, 2]])):
        mol = pyscf_molecule(atoms, "sto-3g")
        h = to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), zeros(atoms, water_basis))
        n = float(atoms.numbers.sum())
        samples.append(Sample(name, atoms, water_basis, h, overlap(atoms, "sto-3g", water_basis), n_electrons=n))
    return samples


def test_a_batch_of_molecules_is_filled_up(molecules):
    orbitals, m = between(molecules)
    for k, sample in enumerate(molecules):
        n = sample.hamiltonian.n_orbitals
        e = eigh(sample.hamiltonian.dense(), sample.overlap.dense(), eigvals_only=True)
        np.testing.assert_allclose(m[k, 0].numpy()[:n, :n], np.diag(e), atol=1e-6)
        assert not m[k, 0, n:].any()
        assert (orbitals.energies[k, 0, n:] == FAR).all()
        assert orbitals.occupied[k].sum() == sample.n_occupied
        assert orbitals.exists[k].sum() == n
    assert not m.is_complex()


def test_degenerate_levels_stand_at_their_mean():
    found = merged(np.array([[0.0, 1.0, 1.00006, 1.00012, 2.0], [0.0, 0.00006, 3.0, 4.0, 5.0]]))
    np.testing.assert_allclose(found, [[0, 1.00006, 1.00006, 1.00006, 2], [0.00003, 0.00003, 3, 4, 5]], atol=1e-12)


def test_what_is_missing_is_named(molecules, random_crystal):
    space = block_irreps(molecules[0].basis)
    with pytest.raises(FormatError, match="sample H2: expected an overlap S"):
        sample_orbitals(replace(molecules[0], overlap=None), space, TargetSettings())
    with pytest.raises(MatrixError, match="sample H2: expected a number of electrons"):
        sample_orbitals(replace(molecules[0], n_electrons=None), space, TargetSettings())
    crystal = replace(random_crystal(Spin.NONE), fermi_level=None)
    with pytest.raises(MatrixError, match="expected a Fermi level"):
        sample_orbitals(crystal, block_irreps(crystal.basis), TargetSettings())


def test_a_fermi_level_just_inside_a_band_is_its_edge(random_crystal):
    """Codes write it with few digits; at Gamma all levels are apart by far more."""
    crystal = random_crystal(Spin.NONE)
    space = block_irreps(crystal.basis)
    (level,) = np.partition(sample_orbitals(crystal, space, TargetSettings(), torch.float64).energies[0, 0], 2)[2:3]
    counts = [
        sample_orbitals(replace(crystal, fermi_level=float(level) + shift), space, TargetSettings())
        .occupied[0, 0]
        .sum()
        for shift in (1e-6, -2e-4, -2e-2)
    ]
    assert counts == [3, 3, 2]


def test_points_stay_in_the_periodic_directions():
    assert not kpoints(np.zeros(3, bool)).any()
    found = kpoints(np.array([True, True, False]))
    assert not found[0].any()
    assert not found[:, 2].any()
    assert (found[1:, :2] > 0.01).all()


def test_the_assembly_is_differentiable(molecules):
    sample = molecules[2]
    space = block_irreps(sample.basis)
    graph = sample_graph(sample, space)
    batch = graph_batch(space, graph, space.orient(graph), torch.float64)
    c = to_coefficients(space, sample.hamiltonian, space.orient(graph))
    keys, assembly = list(c.onsite), Assembly(space, torch.float64)

    def matrix(*x):
        return assembly(Coefficients(dict(zip(c.pairs, x)), dict(zip(keys, x[len(c.pairs) :]))), batch)

    inputs = [x.clone().requires_grad_() for x in (*c.pairs.values(), *c.onsite.values())]
    assert torch.autograd.gradcheck(matrix, inputs, fast_mode=True)
