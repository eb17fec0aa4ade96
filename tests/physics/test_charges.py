"""The electrons of H0: counted, self-consistent, covariant, and of use to the closed-form fit."""

import numpy as np
import pytest
from scipy.linalg import eigh

from harmose.errors import MatrixError, ModelError
from harmose.kernel_regression.fit import Training, fit_regression
from harmose.kernel_regression.state import from_state, to_state
from harmose.physics.charges import TEMPERATURE, charge_state, coulomb, thermal_occupations
from harmose.representation.block_irreps import BlockIrreps, to_matrix
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.concatenation import TargetSettings, compute_targets, concatenated_charges
from harmose.so3.wigner import random_rotation
from harmose.units import HARTREE


def state(sample, rotation=None):
    prior, overlap, positions = sample.hamiltonian, sample.overlap, sample.structure.positions
    if rotation is not None:
        prior, overlap, positions = prior.rotate(rotation), overlap.rotate(rotation), positions @ rotation.T
    return charge_state(prior, overlap, positions, 10.0)


def test_all_electrons_are_there_and_charges_are_those_of_their_own_potential(water_sample):
    sample = water_sample(0)
    found = state(sample)
    assert found.charge.sum() == pytest.approx(0, abs=1e-9)
    assert found.density.dense().trace() == pytest.approx(10, abs=1e-9)
    kernel = coulomb(sample.structure.numbers, sample.structure.positions)
    np.testing.assert_allclose(found.potential, kernel @ found.charge, atol=1e-8)
    # The density is that of H0 + (V_i + V_j) / 2 in the orthogonalized basis: solved here as a generalized problem.
    s, h = sample.overlap.dense(), sample.hamiltonian.dense() / HARTREE
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(values)) @ vectors.T
    shift = np.diag(np.repeat(found.potential, sample.hamiltonian.orbital_counts))
    levels, orbitals = eigh(h + root @ shift @ root, s)
    density = (orbitals * thermal_occupations(levels, 10.0)) @ orbitals.T
    np.testing.assert_allclose(root @ density @ root, found.density.dense(), atol=1e-8)


def test_it_turns_with_the_molecule(water_sample):
    sample, rotation = water_sample(3), random_rotation(np.random.default_rng(1))
    here, there = state(sample), state(sample, rotation)
    np.testing.assert_allclose(there.charge, here.charge, atol=1e-9)
    np.testing.assert_allclose(there.density.dense(), here.density.rotate(rotation).dense(), atol=1e-8)


def test_occupations_sum_up_and_change_smoothly():
    levels = np.array([-2.0, -0.5, -0.5 + TEMPERATURE, 1.0])
    filled = thermal_occupations(levels, 4.0)
    assert filled.sum() == pytest.approx(4)
    assert (np.diff(filled) < 0).all()
    assert 1 < filled[1] < 2


def test_an_overlap_that_is_none_is_refused(water_sample):
    sample = water_sample(0)
    with pytest.raises(MatrixError, match="positive definite"):
        charge_state(sample.hamiltonian, sample.overlap.with_values(-sample.overlap.values), np.eye(3), 10.0)


def electrons(space, samples, joined) -> ChargeFeatures:
    states = [charge_state(s.prior, s.overlap, s.structure.positions, 10.0) for s in samples]
    return concatenated_charges(space, joined, states, [s.prior for s in samples])


def samples_with_response(water_sample, seeds):
    """H is H0 and what only its electrons tell: their exchange-like field -P / 2."""
    out = []
    for seed in seeds:
        sample = water_sample(seed)
        p = charge_state(sample.prior, sample.overlap, sample.structure.positions, 10.0).density
        out.append(water_sample(seed, hamiltonian=sample.prior + p.with_values(-0.5 * HARTREE * p.values)))
    return out


def test_the_fit_learns_from_them_what_structure_alone_does_not_say_and_rotates(water_basis, water_sample):
    space = BlockIrreps(water_basis, 2)
    samples = samples_with_response(water_sample, range(20))
    measured = compute_targets(space, samples, TargetSettings(prior=True))
    joined = measured.concatenated
    parts = (space, joined.oriented, measured.coefficients, joined.pair_sample, joined.atom_sample, True)
    known, alone = (
        fit_regression(Training(*parts, electrons(space, samples, joined)))[0],
        fit_regression(Training(*parts))[0],
    )
    assert known.reads_charges
    assert not alone.reads_charges
    new = samples_with_response(water_sample, range(100, 105))
    there = compute_targets(space, new, TargetSettings(prior=True))
    given = electrons(space, new, there.concatenated)

    def predicted(baseline, electrons=None):
        return to_matrix(
            space,
            baseline.values(there.concatenated.oriented, electrons),
            there.concatenated.graph,
            there.concatenated.oriented,
        )

    errors = [
        np.abs(predicted(known, given).values - there.target.values).mean(),
        np.abs(predicted(alone).values - there.target.values).mean(),
    ]
    assert errors[0] < 0.3 * errors[1]
    again = from_state(space, to_state(known))
    np.testing.assert_allclose(predicted(again, given).values, predicted(known, given).values, atol=1e-6)
    with pytest.raises(ModelError, match="reads the density of H0"):
        predicted(known)

    rotation = random_rotation(np.random.default_rng(2))
    turned = []
    for sample in new:
        atoms = sample.structure.copy()
        atoms.positions = atoms.positions @ rotation.T
        turned.append(
            water_sample(0, structure=atoms, hamiltonian=sample.hamiltonian.rotate(rotation),
                         prior=sample.prior.rotate(rotation), overlap=sample.overlap.rotate(rotation))
        )  # fmt: skip
    over = compute_targets(space, turned, TargetSettings(prior=True))
    values = known.values(over.concatenated.oriented, electrons(space, turned, over.concatenated))
    matrix = to_matrix(space, values, over.concatenated.graph, over.concatenated.oriented)
    np.testing.assert_allclose(matrix.values, predicted(known, given).rotate(rotation).values, atol=1e-7)
