"""A regression that reads the charges and the density of H0: accuracy, state, rotation."""

import numpy as np
import pytest

from harmose.errors import ModelError
from harmose.kernel_regression.fit import Training, fit_regression
from harmose.kernel_regression.state import from_state, to_state
from harmose.physics.charges import charge_state
from harmose.representation.block_irreps import BlockIrreps, to_matrix
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.concatenation import TargetSettings, compute_targets, concatenated_charges
from harmose.so3.wigner import random_rotation
from harmose.units import HARTREE


def charge_features(space, samples, concatenated) -> ChargeFeatures:
    states = [charge_state(s.prior, s.overlap, s.structure.positions, 10.0) for s in samples]
    return concatenated_charges(space, concatenated, states, [s.prior for s in samples])


def response_samples(water_sample, seeds):
    """Return water with H = H0 - P / 2 (Hartree), like an exchange term of the density P of H0."""
    out = []
    for seed in seeds:
        sample = water_sample(seed)
        p = charge_state(sample.prior, sample.overlap, sample.structure.positions, 10.0).density
        out.append(water_sample(seed, hamiltonian=sample.prior + p.with_values(-0.5 * HARTREE * p.values)))
    return out


def test_regression_with_charges(water_basis, water_sample):
    space = BlockIrreps(water_basis, 2)
    samples = response_samples(water_sample, range(20))
    measured = compute_targets(space, samples, TargetSettings(prior=True))
    concatenated = measured.concatenated
    parts = (
        space,
        concatenated.oriented,
        measured.coefficients,
        concatenated.pair_sample,
        concatenated.atom_sample,
        True,
    )
    with_charges, without = (
        fit_regression(Training(*parts, charge_features(space, samples, concatenated)))[0],
        fit_regression(Training(*parts))[0],
    )
    assert with_charges.reads_charges
    assert not without.reads_charges
    new = response_samples(water_sample, range(100, 105))
    there = compute_targets(space, new, TargetSettings(prior=True))
    features = charge_features(space, new, there.concatenated)

    def predicted(regression, electrons=None):
        return to_matrix(
            space,
            regression.values(there.concatenated.oriented, electrons),
            there.concatenated.graph,
            there.concatenated.oriented,
        )

    errors = [
        np.abs(predicted(with_charges, features).values - there.target.values).mean(),
        np.abs(predicted(without).values - there.target.values).mean(),
    ]
    assert errors[0] < 0.3 * errors[1]
    again = from_state(space, to_state(with_charges))
    np.testing.assert_allclose(predicted(again, features).values, predicted(with_charges, features).values, atol=2e-5)
    with pytest.raises(ModelError, match="reads the density of H0"):
        predicted(with_charges)

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
    values = with_charges.values(over.concatenated.oriented, charge_features(space, turned, over.concatenated))
    matrix = to_matrix(space, values, over.concatenated.graph, over.concatenated.oriented)
    np.testing.assert_allclose(matrix.values, predicted(with_charges, features).rotate(rotation).values, atol=1e-7)
