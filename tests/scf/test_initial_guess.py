"""SCF from a prediction, with stand-ins for a model that predict the converged H."""

import warnings
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import dft, gto, scf

from harmose.core.blocks import BlockMatrix
from harmose.errors import GhostLevels, LabellingError, ModelError, OutsideDomain
from harmose.io.pyscf import pyscf as io
from harmose.scf import initial_guess
from harmose.spin import Spin

SETTINGS = io.PySCFSettings("pbe", "def2-svp", grid_level=1)


@dataclass
class ConvergedModel:
    """A model whose prediction is the converged Fock matrix, plus an error of `noise` eV."""

    noise: float = 0.0
    elements: tuple[int, ...] = (1, 8)
    card: Any = field(init=False)

    def __post_init__(self):
        self.card = SimpleNamespace(basis=io.basis_set("def2-svp", self.elements), settings=SETTINGS.to_dict())

    def predict(self, atoms: Atoms) -> BlockMatrix:
        mf = io.mean_field(io.molecule(atoms, "def2-svp"), SETTINGS).run(conv_tol=1e-12)
        h = io.to_blocks(mf.get_fock(), io.zeros(atoms, self.card.basis))
        error = np.random.default_rng(0).normal(scale=self.noise, size=h.values.shape)
        symmetric = h.with_values(error).dense()
        return io.to_blocks(io.from_blocks(h) + (symmetric + symmetric.T) / 2 / 27.2114, h)


@pytest.fixture(scope="module")
def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    return atoms


def test_scf_from_the_converged_h(water):
    result = initial_guess.compare_scf(ConvergedModel(), water)
    assert result.cycles_predicted <= 2 < result.cycles_minao
    assert result.cycles_saved == result.cycles_minao - result.cycles_predicted
    assert result.energy_difference < 1e-8


def test_scf_from_a_rough_prediction(water):
    exact, rough = (initial_guess.compare_scf(ConvergedModel(noise), water) for noise in (0.0, 0.1))
    assert rough.energy_difference < 1e-8
    assert rough.cycles_predicted > exact.cycles_predicted


@pytest.mark.parametrize("kind", [dft.RKS, dft.UKS, scf.RHF])
def test_start_sets_the_initial_density(water, kind):
    mol = io.molecule(water, "def2-svp")
    used = []

    def record(mf):
        get = mf.get_init_guess
        mf.get_init_guess = lambda *args, **kwargs: used.append(get(*args, **kwargs)) or used[-1]
        return mf

    mf = kind(mol)
    if kind is not scf.RHF:
        mf.xc = "pbe"
        mf.grids.level = 1
    assert initial_guess.start(mf, ConvergedModel()) is mf
    expected = initial_guess.predicted_density(mol, ConvergedModel().predict(water))
    record(mf).run()
    np.testing.assert_allclose(used[0] if kind is not dft.UKS else sum(used[0]), expected, atol=1e-10)
    assert mf.converged
    assert mf.cycles <= 3 or kind is scf.RHF


def test_second_order_scf(water):
    mf = io.mean_field(io.molecule(water, "def2-svp"), SETTINGS)
    plain, guessed = mf.copy().newton(), initial_guess.start(mf, ConvergedModel()).newton()
    steps = []
    for solver in (plain, guessed):
        steps.append([])
        solver.callback = steps[-1].append
        solver.kernel()
    assert guessed.e_tot == pytest.approx(plain.e_tot, abs=1e-8)
    assert len(steps[1]) < len(steps[0])


def test_unrestricted_scf(water):
    mol = io.molecule(water, "def2-svp")
    energies = []
    for kind in (dft.RKS, dft.UKS):
        mf = kind(mol, xc="pbe")
        mf.grids.level, mf.small_rho_cutoff, mf.conv_tol = 1, 0, 1e-11
        energies.append(initial_guess.start(mf, ConvergedModel()).run().e_tot)
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def test_matrix(water):
    mol = io.molecule(water, "def2-svp")
    h = ConvergedModel().predict(water)
    fock = io.mean_field(mol, SETTINGS).run(conv_tol=1e-12).get_fock()
    np.testing.assert_allclose(initial_guess.matrix(h, mol), fock, atol=1e-9)
    s = io.overlap(water, "def2-svp")
    np.testing.assert_allclose(initial_guess.matrix(s, mol, energy=False), mol.intor("int1e_ovlp"), atol=1e-12)


def test_structure():
    mol = gto.M(atom="O 0 0 0; H 0 0 1.8", unit="bohr", charge=-1, basis="sto-3g", verbose=0)
    atoms = initial_guess.structure(mol)
    assert atoms.get_chemical_symbols() == ["O", "H"]
    assert atoms.get_distance(0, 1) == pytest.approx(1.8 * 0.529177, rel=1e-6)
    assert atoms.info == {"charge": -1, "spin": 0}


def molecule_of(symbol: str, basis: str = "def2-svp", **options) -> gto.Mole:
    return gto.M(atom=symbol, basis=basis, verbose=0, **options)


class UncalledModel(ConvergedModel):
    def predict(self, atoms: Atoms) -> BlockMatrix:
        raise AssertionError("the molecule must be refused before the model predicts")


@pytest.mark.parametrize(
    ("mean_field", "text"),
    [
        (lambda: dft.RKS(molecule_of("He")), r"expected elements of the training set \(H, O\), got He"),
        (lambda: dft.RKS(molecule_of("O", basis="sto-3g")), "basis def2-svp .* got one in sto-3g"),
        (lambda: dft.RKS(molecule_of("O", cart=True)), r"got one in def2-svp \(Cartesian\)"),
        (lambda: dft.UKS(molecule_of("O", spin=2)), "closed shell, got 8 electrons with spin"),
        (lambda: dft.UKS(molecule_of("H", spin=1)), "closed shell"),
        (lambda: dft.GKS(molecule_of("O")), "restricted or unrestricted .* got GKS"),
    ],
)
def test_molecules_outside_the_card_raise(mean_field, text):
    with pytest.raises(ModelError, match=text):
        initial_guess.start(mean_field(), UncalledModel())


@pytest.mark.parametrize(
    ("atoms", "text"),
    [
        (Atoms("OH", [[0, 0, 0], [0, 0, 1]]), "even number of electrons, got 9"),
        (Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], info={"spin": 2}), "O2: expected 0 unpaired electrons"),
    ],
)
def test_structures_outside_the_card_raise(atoms, text):
    with pytest.raises(ModelError, match=text):
        initial_guess.compare_guesses(UncalledModel(), atoms, settings=SETTINGS)


def test_matrix_of_other_atoms_raises(water):
    h = io.overlap(water, "def2-svp")
    with pytest.raises(ModelError, match="expected a matrix of the molecule's atoms"):
        initial_guess.matrix(h, io.molecule(Atoms("H2", [[0, 0, 0], [0, 0, 1]]), "def2-svp"))


def test_compare_scf_without_convergence_raises(water):
    settings = io.PySCFSettings("pbe", "def2-svp", grid_level=1, max_cycle=2)
    with pytest.raises(LabellingError, match="H2O: not converged from the minao guess in 2 cycles"):
        initial_guess.compare_scf(ConvergedModel(), water, settings)


def test_molecule_outside_the_card_costs_no_scf(water):
    settings = io.PySCFSettings("pbe", "sto-3g", grid_level=0, max_cycle=1)  # the reference would fail
    with pytest.raises(ModelError, match="expected a molecule in basis def2-svp"):
        initial_guess.compare_scf(UncalledModel(), water, settings)


class SpinModel:
    """A model of another spin kind whose prediction is the converged Fock matrix."""

    def __init__(self, settings: io.PySCFSettings, elements: tuple[int, ...]):
        basis = io.basis_set(settings.basis, elements)
        self.settings, self.card = (
            settings,
            SimpleNamespace(basis=basis, spin=settings.spin, settings=settings.to_dict()),
        )

    def predict(self, atoms: Atoms) -> BlockMatrix:
        mol = io.molecule(atoms, self.settings.basis, self.settings.spin)
        mf = io.mean_field(mol, self.settings).run(conv_tol=1e-12)
        return io.to_blocks(mf.get_fock(), io.zeros(atoms, self.card.basis, self.settings.spin))


SPINFUL = {
    "collinear": (Atoms("O2", [[0, 0, 0], [0, 0.1, 1.2]], info={"spin": 2}), "sto-3g"),
    "spinor": (Atoms("TeH2", [[0, 0, 0], [0, 1.1, 1.2], [0, -1.2, 1.1]]), "crenbl"),
}


@pytest.mark.parametrize("spin", SPINFUL)
def test_scf_of_every_spin_kind(spin):
    atoms, basis = SPINFUL[spin]
    settings = io.PySCFSettings("pbe", basis, grid_level=0, spin=Spin(spin))
    result = initial_guess.compare_scf(SpinModel(settings, tuple(set(atoms.numbers.tolist()))), atoms)
    assert result.cycles_predicted <= 2 < result.cycles_minao
    assert result.energy_difference < 1e-8


@pytest.mark.parametrize("spin", SPINFUL)
def test_poor_predictions_of_every_spin_kind(spin):
    atoms, basis = SPINFUL[spin]
    settings = io.PySCFSettings("pbe", basis, grid_level=0, spin=Spin(spin))
    model = SpinModel(settings, tuple(set(atoms.numbers.tolist())))
    right = model.predict(atoms)
    model.predict = lambda atoms: right.with_values(-right.values)
    with pytest.warns(OutsideDomain, match="the SCF starts from minao"):
        poor, minao = initial_guess.compare_guesses(model, atoms, ("minao",))
    assert poor.refused
    assert poor.cycles == minao.cycles
    assert poor.fock_builds == minao.fock_builds + 1
    assert abs(poor.energy - minao.energy) < 1e-9


def test_ghost_levels(water, with_ghost):
    """They warn at the line of the caller; the density is rejected besides, as any poor one."""
    model = ConvergedModel()
    h, s = model.predict(water), io.overlap(water, "def2-svp", model.card.basis)
    mf = io.mean_field(io.molecule(water, "def2-svp"), SETTINGS)
    model.predict = lambda atoms: with_ghost(h, s, -60.0)
    with pytest.warns(GhostLevels, match="1 ghost level at -") as caught:
        initial_guess.start(mf, model)
    assert [w.filename for w in caught] == [__file__]
    with pytest.warns(OutsideDomain, match="the SCF starts from minao"):
        mf.kernel()
    model.predict = lambda atoms: h
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initial_guess.start(mf, model)


def test_mean_field_of_another_spin_kind_raises():
    model = SpinModel(io.PySCFSettings("pbe", "crenbl", spin=Spin.SPINOR), (1, 52))
    with pytest.raises(ModelError, match="expected a generalized mean field for a model of spin spinor, got RKS"):
        initial_guess.start(dft.RKS(io.molecule(SPINFUL["spinor"][0], "crenbl")), model)
    model = SpinModel(io.PySCFSettings("pbe", "sto-3g", spin=Spin.COLLINEAR), (8,))
    with pytest.raises(ModelError, match="expected an unrestricted mean field for a model of spin collinear, got RKS"):
        initial_guess.start(dft.RKS(molecule_of("O", basis="sto-3g")), model)
