"""Metrics of spinor and collinear molecules: Kramers pairs, occupation of both spins, spin-orbit shifts."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.metrics import evaluate, scalar_part, solved_orbitals, spin_orbit_shifts
from harmose.physics.eigen import eigenvalues
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin


def with_channels(sample: Sample, spin: Spin, size: float) -> BlockMatrix:
    """The sample's H, and random other channels of `size` eV, Hermitian."""
    h, generator = sample.hamiltonian, np.random.default_rng(1)
    _, row, col = h.indices
    scalar = np.sqrt(2) * h.values
    noise = spin.from_channels(size * generator.normal(size=(spin.n_channels, h.n_orbitals, h.n_orbitals)))
    noise = spin.to_channels(noise + spin.adjoint(noise))[1:, row, col]
    return BlockMatrix(h.basis, h.numbers, h.pairs, spin.from_channels(np.concatenate([scalar, noise])), spin)


def spinful(sample: Sample, spin: Spin, size: float = 0.3, **changes) -> Sample:
    h = with_channels(sample, spin, size)
    return replace(sample, hamiltonian=h, spin=spin, prior=None, **changes)


@pytest.mark.parametrize("spin", [Spin.COLLINEAR, Spin.SPINOR])
def test_no_error(water_sample, spin):
    sample = spinful(water_sample(0), spin)
    full = evaluate([Prediction(sample, {"full": sample.hamiltonian})]).full
    assert (full.mae, full.orbital_energy, full.homo, full.lumo, full.gap) == (0, 0, 0, 0, 0)
    assert full.wavefunction == pytest.approx(1, abs=1e-12)
    assert (full.spin_orbit == 0) if spin is Spin.SPINOR else (full.spin_orbit is None)


def test_kramers_pairs(water_sample):
    """The two spinors of a pair are an arbitrary basis of one subspace; the metrics do not change."""
    sample = spinful(water_sample(0), Spin.SPINOR)
    h = sample.hamiltonian
    noise = 1e-10 * np.random.default_rng(2).normal(size=h.dense().shape)
    dense = h.dense() + noise + noise.T  # not symmetric under time reversal: splits pairs at random
    n, (_, row, col) = h.n_orbitals, h.indices
    blocks = dense.reshape(2, n, 2, n).swapaxes(1, 2).reshape(4, n, n)[:, row, col]
    full = evaluate([Prediction(sample, {"full": h.with_values(blocks)})]).full
    assert full.wavefunction == pytest.approx(1, abs=1e-9)
    assert full.orbital_energy == pytest.approx(0, abs=1e-8)


def test_spin_orbit_shifts(water_sample):
    sample = spinful(water_sample(0), Spin.SPINOR)
    h, s = sample.hamiltonian, sample.overlap
    assert s is not None
    expected = eigenvalues(h, s)[0][:10:2] - eigenvalues(water_sample(0).hamiltonian, s)[0][:5]
    np.testing.assert_allclose(spin_orbit_shifts(h, s, 10), expected, atol=1e-9)
    np.testing.assert_allclose(scalar_part(h).values, water_sample(0).hamiltonian.values, atol=1e-12)
    assert np.abs(expected).max() > 0.01


def test_prediction_without_coupling(water_sample):
    sample = spinful(water_sample(0), Spin.SPINOR)
    bare = with_channels(water_sample(0), Spin.SPINOR, 0.0)
    evaluation = evaluate([Prediction(sample, {"stage1": bare, "full": sample.hamiltonian})])
    assert evaluation.stages["stage1"].spin_orbit_relative == pytest.approx(1)
    assert evaluation.full.spin_orbit_relative == 0


def test_spinor_metrics_are_invariant(water_sample):
    sample, q = spinful(water_sample(0), Spin.SPINOR), random_rotation(np.random.default_rng(3))
    wrong = with_channels(water_sample(1), Spin.SPINOR, 0.2)
    turned = replace(sample, hamiltonian=sample.hamiltonian.rotate(q), overlap=sample.overlap.rotate(q))
    at_rest, after = (
        evaluate([Prediction(s, {"full": w})]).full for s, w in ((sample, wrong), (turned, wrong.rotate(q)))
    )
    for name in ("orbital_energy", "homo", "lumo", "gap", "wavefunction", "spin_orbit"):
        assert getattr(after, name) == pytest.approx(getattr(at_rest, name), abs=1e-8)


def test_equal_spins(water_sample):
    one, wrong = water_sample(0), water_sample(1).hamiltonian
    both = spinful(one, Spin.COLLINEAR, 0.0)
    predicted = with_channels(water_sample(1), Spin.COLLINEAR, 0.0)
    closed = evaluate([Prediction(one, {"full": wrong})]).full
    collinear = evaluate([Prediction(both, {"full": predicted})]).full
    for name in ("mae", "orbital_energy", "homo", "lumo", "gap", "wavefunction"):
        assert getattr(collinear, name) == pytest.approx(getattr(closed, name), rel=1e-9)
    assert solved_orbitals(Prediction(both, {"full": predicted})) is None


def test_unpaired_electron(water_sample):
    """Nine electrons: five up, four down; the HOMO may be of either spin."""
    sample = spinful(water_sample(0), Spin.COLLINEAR, n_electrons=9.0)
    up, down = eigenvalues(sample.hamiltonian, sample.overlap)[:, 0]
    n_up = int((np.argsort(np.concatenate([up, down]))[:9] < 7).sum())
    wrong = with_channels(water_sample(1), Spin.COLLINEAR, 0.3)
    a, b = eigenvalues(wrong, sample.overlap)[:, 0]
    errors = np.concatenate([np.abs(a - up)[:n_up], np.abs(b - down)[: 9 - n_up]])
    full = evaluate([Prediction(sample, {"full": wrong})]).full
    assert full.orbital_energy == pytest.approx(errors.mean(), rel=1e-9)
    homos = [max(x[n_up - 1], y[8 - n_up]) for x, y in ((a, b), (up, down))]
    assert full.homo == pytest.approx(abs(homos[0] - homos[1]), rel=1e-9)
