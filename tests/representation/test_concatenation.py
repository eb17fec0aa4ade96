"""Several structures as one graph; targets of samples, and samples that cannot be learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.errors import FormatError, MatrixError
from harmose.representation.block_irreps import map_coefficients
from harmose.representation.concatenation import (
    TargetSettings,
    assemble,
    block_irreps,
    compositions,
    compute_targets,
    concatenate,
    element_sums,
    n_elements,
    sample_graph,
    with_spin,
)
from harmose.spin import Spin


@pytest.fixture
def samples(water_sample):
    return [water_sample(0), water_sample(1)]


@pytest.fixture
def irreps(water_basis):
    return block_irreps(water_basis)


def test_matrices_are_concatenated_and_split(samples, irreps):
    graphs = [sample_graph(sample, irreps) for sample in samples]
    whole = concatenate(irreps, graphs)
    matrix = whole.matrix(irreps, whole.values([sample.hamiltonian for sample in samples]))
    for part, sample in zip(whole.split(matrix, graphs), samples, strict=True):
        np.testing.assert_array_equal(part.values, sample.hamiltonian.values)
    dense = matrix.dense()
    np.testing.assert_array_equal(dense[:7, :7], samples[0].hamiltonian.dense())
    assert not dense[:7, 7:].any()


def test_counts_and_numbers_of_each_structure(samples, irreps):
    graphs = [sample_graph(sample, irreps) for sample in samples]
    whole = concatenate(irreps, graphs)
    matrix = whole.matrix(irreps, whole.values([sample.hamiltonian for sample in samples]))
    assert whole.atom_counts.tolist() == [[2, 1], [2, 1]]
    assert whole.pair_counts.sum(1).tolist() == [3, 3]
    assert n_elements(whole, matrix).tolist() == [49, 49]
    sums = element_sums(whole, matrix, matrix.values[0])
    np.testing.assert_allclose(sums, [sample.hamiltonian.dense().sum() for sample in samples], atol=1e-9)
    repeated = whole.per_value(np.array([1.0, 2.0]), matrix)
    np.testing.assert_allclose(element_sums(whole, matrix, repeated), [49, 98])


def test_assembled_blocks_are_the_target(samples, irreps):
    targets = compute_targets(irreps, samples, TargetSettings())
    zeros = map_coefficients(torch.zeros_like, targets.coefficients)
    matrix = assemble(
        irreps, targets.concatenated, targets.coefficients, zeros, map_coefficients(torch.ones_like, zeros)
    )
    np.testing.assert_allclose(matrix.values, targets.target.values, atol=1e-10)
    alone = assemble(irreps, targets.concatenated, None, targets.coefficients, zeros)
    np.testing.assert_allclose(alone.values, targets.target.values, atol=1e-10)


def test_the_target_is_relative_to_the_prior_and_the_fermi_level(water_sample):
    sample = water_sample(0, fermi_level=-3.0)
    h = sample.hamiltonian.values
    np.testing.assert_allclose(TargetSettings(prior=True).matrix(sample).values, h - sample.prior.values)
    np.testing.assert_allclose(TargetSettings(fermi=True).matrix(sample).values, h + 3 * sample.overlap.values)
    with pytest.raises(MatrixError, match=r"sample water-0: .* got no Fermi level"):
        TargetSettings(fermi=True).matrix(replace(sample, fermi_level=None))
    with pytest.raises(FormatError, match="sample water-0: expected a prior H0"):
        TargetSettings(prior=True).matrix(replace(sample, prior=None))
    with pytest.raises(FormatError, match="sample water-0: expected an overlap S"):
        TargetSettings().operator(replace(sample, overlap=None), "overlap")


def test_compositions(samples, irreps):
    targets = compute_targets(irreps, samples, TargetSettings(operators=("overlap",)))
    assert targets.n_formulas == 1
    assert targets.groups.tolist() == [0, 0]  # both have the group of seed // 2
    assert list(targets.batch.operators) == ["overlap"]
    assert compositions(np.array([0, 0, 1]), np.array([1, 0, 1]), 2).tolist() == [[1, 1], [0, 1]]


def test_charges_of_molecules_alone(water_sample, random_crystal):
    settings, sample = TargetSettings(operators=("density",)), water_sample(0)
    with pytest.raises(FormatError, match="expected the number of electrons"):
        settings.charge_state(replace(sample, n_electrons=None))
    with pytest.raises(FormatError, match="expected all 10 electrons, for the density of H0, got 8"):
        settings.charge_state(replace(sample, n_electrons=8.0))
    crystal = random_crystal()
    with pytest.raises(FormatError, match="expected a molecule without spin"):
        settings.charge_state(replace(crystal, prior=crystal.hamiltonian))


@pytest.mark.parametrize("spin", [Spin.COLLINEAR, Spin.SPINOR])
def test_an_operator_without_spin_is_the_same_for_both_spins(samples, spin):
    both = with_spin(samples[0].overlap, spin)
    assert both.spin is spin
    s = samples[0].overlap.values[0]
    expected = [s, s] if spin is Spin.COLLINEAR else [s, 0 * s, 0 * s, s]
    np.testing.assert_array_equal(both.values, expected)
    assert with_spin(both, spin) is both


def test_irreps_of_a_basis_set(water_basis):
    assert block_irreps(water_basis).l_max == 2
    assert block_irreps(water_basis, Spin.SPINOR).l_max == 3


def test_samples_that_do_not_fit_the_graph_are_refused(samples, irreps, water_basis):
    h = samples[0].hamiltonian
    cut = BlockMatrix(h.basis, h.numbers, h.pairs[:-1], h.values[:, : h.offsets[-2]], h.spin)
    with pytest.raises(MatrixError, match=r"sample water-0: .* got no block"):
        sample_graph(replace(samples[0], hamiltonian=cut), irreps)
    short = block_irreps(BasisSet("short", water_basis.shells, dict.fromkeys((1, 8), 0.6)))
    with pytest.raises(MatrixError, match=r"got a block .* outside the graph"):
        sample_graph(samples[0], short)
    with pytest.raises(MatrixError, match="expected spin"):
        sample_graph(samples[0], block_irreps(water_basis, Spin.COLLINEAR))


def test_magnetic_spinors_are_refused(random_crystal):
    """Random spinors are not symmetric under time reversal."""
    sample = random_crystal(Spin.SPINOR)
    with pytest.raises(MatrixError, match="expected H symmetric under time reversal"):
        sample_graph(sample, block_irreps(sample.basis, Spin.SPINOR))


def test_one_graph_is_its_own_concatenation(irreps, water_basis):
    graph = build_graph(Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]), water_basis)
    whole = concatenate(irreps, [graph])
    np.testing.assert_array_equal(whole.graph.pairs, graph.pairs)
    assert whole.n_samples == 1
