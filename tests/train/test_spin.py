"""Training with spin, from a store to a model on disk: real spin-orbit integrals, and two spins of different potentials."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from harmose.cli import app
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import MatrixError, ModelError
from harmose.evaluate.metrics import rotation_error
from harmose.inference.checkpoint import load
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import molecule, to_blocks
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin
from harmose.train.engine import train

COUPLING = 1e-2
"""In place of half the square of the fine-structure constant: large enough to be seen in water."""


def hamiltonian(atoms: Atoms, basis, spin: Spin) -> BlockMatrix:
    """Kinetic energy, nuclear attraction and, of a spinor, W_k sigma_k with W = i <grad x V grad> (`int1e_pnucxp`)."""
    mol = molecule(atoms, "sto-3g")
    h = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    if spin is Spin.COLLINEAR:
        whole = np.stack([h - 0.1 * mol.intor("int1e_ovlp"), h + 0.05 * mol.intor("int1e_kin")])
    else:
        sigma = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
        whole = np.kron(np.eye(2), h) + sum(
            np.kron(s, 1j * COUPLING * w) for s, w in zip(sigma, mol.intor("int1e_pnucxp"))
        )
    return to_blocks(whole, zeros(atoms, basis, spin))


def with_spin(sample: Sample, spin: Spin) -> Sample:
    h = hamiltonian(sample.structure, sample.basis, spin)
    return replace(sample, hamiltonian=h, spin=spin, prior=None, orbital_energies=None)


@pytest.fixture(params=[Spin.COLLINEAR, Spin.SPINOR])
def spin(request) -> Spin:
    return request.param


@pytest.fixture
def trained(tmp_path, spin, water_basis, water_sample, small_config):
    """The store and the folder of a model with all three phases and many-body terms."""
    path = tmp_path / "spins"
    with Store.create(path, water_basis, spin) as store:
        for seed in range(10):
            store.append(with_spin(water_sample(seed), spin))
        names = [f"water-{k}" for k in range(10)]
        store.set_splits({"train": names[:8], "val": names[8:]})
    return path, train(small_config("model", f"data={path}", "regression=kernel"))


def test_a_model_of_each_spin_kind(trained, spin, water_atoms, water_sample):
    _, out = trained
    model = load(out)
    assert model.card.spin is spin
    assert model.card.charges == (0,)
    assert model.card.unpaired == (None if spin is Spin.COLLINEAR else (0,))  # these samples do not state them
    sample = with_spin(water_sample(8), spin)
    h = model.predict(sample.structure)
    assert h.spin is spin
    assert h.values.dtype == spin.dtype
    error, size = (np.abs(x.values).mean() for x in (h - sample.hamiltonian, sample.hamiltonian))
    assert error < 0.02 * size
    assert rotation_error(model, [sample.structure], 2, stage="stage1").relative < 1e-6
    channels, expected = (spin.to_channels(x.values)[1:] for x in (h, sample.hamiltonian))
    assert np.abs(channels - expected).mean() < 0.2 * np.abs(expected).mean()
    if spin is Spin.SPINOR:
        levels = eigenvalues(h, sample.overlap)[0]
        np.testing.assert_allclose(levels[::2], levels[1::2], atol=1e-9)


def test_evaluation_on_the_command_line(trained, spin, water_store):
    path, out = trained
    result = CliRunner().invoke(app, ["evaluate", str(out), str(path), "--rotations", "1"])
    assert result.exit_code == 0, result.output
    assert "Occupied orbital energies" in result.output
    assert ("Spin-orbit shifts" in result.output) == (spin is Spin.SPINOR)
    other = CliRunner().invoke(app, ["evaluate", str(out), str(water_store)])
    assert isinstance(other.exception, ModelError)  # which the command prints as one line
    assert f"expected labels of spin {spin}, as the model's, got none" in str(other.exception)


def test_what_belongs_to_another_spin_is_refused(trained, spin, water_sample):
    _, out = trained
    model = load(out)
    needy = replace(model, card=replace(model.card, needs_prior=True))
    with pytest.raises(ModelError, match=f"expected a prior of spin {spin}, as the model's, got none"):
        needy.predict(water_sample(0).structure, prior=water_sample(0).prior)
    right = with_spin(water_sample(0), spin).hamiltonian
    assert np.isfinite(needy.predict(water_sample(0).structure, prior=right).values).all()


def test_a_magnetic_sample_stops_the_training(tmp_path, water_basis, water_sample, small_config):
    path = tmp_path / "magnetic"
    with Store.create(path, water_basis, Spin.SPINOR) as store:
        for seed in range(3):
            sample = with_spin(water_sample(seed), Spin.SPINOR)
            zeeman = 0.01 * np.outer([1, 0, 0, -1], water_sample(seed).overlap.values[0])
            h = sample.hamiltonian
            store.append(replace(sample, hamiltonian=h.with_values(h.values + zeeman) if seed == 1 else h))
        store.set_splits({"train": ["water-0", "water-1"], "val": ["water-2"]})
    with pytest.raises(MatrixError, match=r"sample water-1: expected H symmetric under time reversal"):
        train(small_config("model", f"data={path}"))
