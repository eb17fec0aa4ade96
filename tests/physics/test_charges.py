"""The electrons of H0: counted, self-consistent, covariant, and of use to the closed-form fit."""

import numpy as np
import pytest
from scipy.linalg import eigh

from harmose.errors import MatrixError, ModelError
from harmose.kernel_regression.fit import Training, fit_baseline
from harmose.kernel_regression.state import from_state, to_state
from harmose.physics.charges import TEMPERATURE, coulomb, electronic_state, occupations
from harmose.representation.block_irreps import TargetSpace, to_matrix
from harmose.representation.charge_features import Electrons
from harmose.representation.concatenation import Target, joined_electrons, measure
from harmose.so3.wigner import random_rotation
from harmose.units import HARTREE


def state(sample, rotation=None):
    prior, overlap, positions = sample.hamiltonian, sample.overlap, sample.structure.positions
    if rotation is not None:
        prior, overlap, positions = prior.rotate(rotation), overlap.rotate(rotation), positions @ rotation.T
    return electronic_state(prior, overlap, positions, 10.0)


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
    density = (orbitals * occupations(levels, 10.0)) @ orbitals.T
    np.testing.assert_allclose(root @ density @ root, found.density.dense(), atol=1e-8)


def test_it_turns_with_the_molecule(water_sample):
    sample, rotation = water_sample(3), random_rotation(np.random.default_rng(1))
    here, there = state(sample), state(sample, rotation)
    np.testing.assert_allclose(there.charge, here.charge, atol=1e-9)
    np.testing.assert_allclose(there.density.dense(), here.density.rotate(rotation).dense(), atol=1e-8)


def test_occupations_sum_up_and_change_smoothly():
    levels = np.array([-2.0, -0.5, -0.5 + TEMPERATURE, 1.0])
    filled = occupations(levels, 4.0)
    assert filled.sum() == pytest.approx(4)
    assert (np.diff(filled) < 0).all()
    assert 1 < filled[1] < 2


def test_an_overlap_that_is_none_is_refused(water_sample):
    sample = water_sample(0)
    with pytest.raises(MatrixError, match="positive definite"):
        electronic_state(sample.hamiltonian, sample.overlap.with_values(-sample.overlap.values), np.eye(3), 10.0)


def electrons(space, samples, joined) -> Electrons:
    states = [electronic_state(s.prior, s.overlap, s.structure.positions, 10.0) for s in samples]
    return joined_electrons(space, joined, states, [s.prior for s in samples])


def samples_with_response(water_sample, seeds):
    """H is H0 and what only its electrons tell: their exchange-like field -P / 2."""
    out = []
    for seed in seeds:
        sample = water_sample(seed)
        p = electronic_state(sample.prior, sample.overlap, sample.structure.positions, 10.0).density
        out.append(water_sample(seed, hamiltonian=sample.prior + p.with_values(-0.5 * HARTREE * p.values)))
    return out


def test_the_fit_learns_from_them_what_structure_alone_does_not_say_and_rotates(water_basis, water_sample):
    space = TargetSpace(water_basis, 2)
    samples = samples_with_response(water_sample, range(20))
    measured = measure(space, samples, Target(prior=True))
    joined = measured.joined
    parts = (space, joined.oriented, measured.coefficients, joined.pair_sample, joined.atom_sample, True)
    known, alone = (
        fit_baseline(Training(*parts, electrons(space, samples, joined)))[0],
        fit_baseline(Training(*parts))[0],
    )
    assert known.reads_electrons
    assert not alone.reads_electrons
    new = samples_with_response(water_sample, range(100, 105))
    there = measure(space, new, Target(prior=True))
    given = electrons(space, new, there.joined)

    def predicted(baseline, electrons=None):
        return to_matrix(
            space, baseline.values(there.joined.oriented, electrons), there.joined.graph, there.joined.oriented
        )

    errors = [
        np.abs(predicted(known, given).values - there.target.values).mean(),
        np.abs(predicted(alone).values - there.target.values).mean(),
    ]
    assert errors[0] < 0.3 * errors[1]
    again = from_state(space, to_state(known))
    np.testing.assert_allclose(predicted(again, given).values, predicted(known, given).values, atol=1e-6)
    with pytest.raises(ModelError, match="reads the electrons of H0"):
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
    over = measure(space, turned, Target(prior=True))
    values = known.values(over.joined.oriented, electrons(space, turned, over.joined))
    matrix = to_matrix(space, values, over.joined.graph, over.joined.oriented)
    np.testing.assert_allclose(matrix.values, predicted(known, given).rotate(rotation).values, atol=1e-7)
