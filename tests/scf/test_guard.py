"""The guard: with any predicted H the SCF ends at the same energy, at most one Fock build later than from PySCF's guess."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import dft, scf
from scipy.linalg import eigh

from harmose.errors import OutsideDomain
from harmose.io.pyscf import pyscf as io
from harmose.scf import initial_guess
from harmose.scf.guard import LIMIT, moved_electrons
from harmose.units import HARTREE

SETTINGS = io.PySCFSettings("pbe", "def2-svp", grid_level=0, convergence=1e-9, convergence_gradient=None)


class FixedModel:
    """A model that predicts this Fock matrix (PySCF's order, Hartree) for every structure."""

    def __init__(self, fock: np.ndarray, atoms: Atoms):
        self.card = SimpleNamespace(basis=io.basis_set("def2-svp", set(atoms.numbers)), settings=SETTINGS.to_dict())
        self.h = io.to_blocks(np.zeros_like(fock), io.zeros(atoms, self.card.basis))
        _, row, col = self.h.indices
        inside = io.PYSCF.to_inside(fock, io._degrees(self.h)) * HARTREE
        self.h = self.h.with_values(inside[None, row, col])  # not to_blocks, which raises for NaN

    def predict(self, atoms: Atoms):
        return self.h


@pytest.fixture(scope="module")
def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture(scope="module")
def own(water):
    """A mean field converged from PySCF's own guess."""
    return io.mean_field(io.molecule(water, "def2-svp"), SETTINGS).run()


def symmetric(n: int, scale: float) -> np.ndarray:
    x = np.random.default_rng(0).normal(scale=scale, size=(n, n))
    return (x + x.T) / 2


def swapped(mf) -> np.ndarray:
    """The converged Fock matrix with HOMO and LUMO exchanged."""
    c, e, s = mf.mo_coeff, mf.mo_energy.copy(), mf.get_ovlp()
    n = mf.mol.nelectron // 2
    e[[n - 1, n]] = e[[n, n - 1]]
    return s @ (c * e) @ c.T @ s


def core_hole(mf) -> np.ndarray:
    """The oxygen's 1s above everything else."""
    c, e, s = mf.mo_coeff, mf.mo_energy.copy(), mf.get_ovlp()
    e[0] = 100.0
    return s @ (c * e) @ c.T @ s


BAD_FOCK = {
    "random numbers": lambda mf: symmetric(mf.mol.nao, 1.0),
    "ten eV of noise": lambda mf: mf.get_fock() + symmetric(mf.mol.nao, 10 / HARTREE),
    "orbitals of other atoms": lambda mf: np.roll(mf.get_fock(), 7, (0, 1)),
    "sign": lambda mf: -mf.get_fock(),
    "no electrons attracted": lambda mf: mf.mol.intor("int1e_kin"),
    "HOMO and LUMO exchanged": swapped,
    "core hole": core_hole,
    "nothing": lambda mf: np.zeros((mf.mol.nao, mf.mol.nao)),
    "not a number": lambda mf: np.full((mf.mol.nao, mf.mol.nao), np.nan),
    "infinite": lambda mf: np.full((mf.mol.nao, mf.mol.nao), np.inf),
}


UNRESTRICTED = [("random numbers", dft.UKS), ("HOMO and LUMO exchanged", dft.UKS)]


@pytest.mark.parametrize(("case", "kind"), [*((case, dft.RKS) for case in BAD_FOCK), *UNRESTRICTED])
def test_bad_predictions_cost_one_fock_build(case, kind, water, own):
    plain, mf = (io.mean_field(own.mol, SETTINGS) for _ in range(2))
    if kind is dft.UKS:
        plain, mf = plain.to_uks(), mf.to_uks()
    plain.kernel()
    builds = []
    build = mf.get_veff
    mf.get_veff = lambda *args, **options: builds.append(1) or build(*args, **options)
    with pytest.warns(OutsideDomain, match="the predicted density is too poor .* the SCF starts from minao"):
        initial_guess.run(mf, FixedModel(BAD_FOCK[case](own), water))
    assert mf.converged
    assert not initial_guess.from_prediction(mf)
    assert abs(mf.e_tot - plain.e_tot) < 1e-10
    assert mf.cycles == plain.cycles
    assert (
        len(builds) <= plain.cycles + 3
    )  # one for the guess, one for each cycle, one for the last check, one for the prediction


def density_fitted(mol):
    return dft.RKS(mol).density_fit()


@pytest.mark.parametrize("kind", [scf.RHF, scf.UHF, scf.ROHF, dft.ROKS, density_fitted])
def test_every_mean_field_returns_to_its_own_guess(kind, water, own):
    plain, mf = kind(own.mol), kind(own.mol)
    for each in (plain, mf):
        if hasattr(each, "grids"):
            each.grids.level = 0
    plain.kernel()
    with pytest.warns(OutsideDomain, match="starts from minao"):
        initial_guess.run(mf, FixedModel(-own.get_fock(), water))
    assert mf.converged
    assert mf.cycles == plain.cycles
    assert abs(mf.e_tot - plain.e_tot) < 1e-10


@pytest.mark.parametrize("shift", [0.0, 1.0, -1e3])
def test_constant_shift_of_h_changes_nothing(shift, water, own):
    mf = io.mean_field(own.mol, SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initial_guess.run(mf, FixedModel(own.get_fock() + shift * own.get_ovlp(), water))
    assert initial_guess.from_prediction(mf)
    assert mf.cycles <= 2
    assert abs(mf.e_tot - own.e_tot) < 1e-8


@pytest.mark.parametrize("noise", [1e-4, 1e-3, 1e-2, 3e-2, 0.1])
def test_noise_never_costs_more_than_the_own_guess(noise, water, own):
    mf = io.mean_field(own.mol, SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideDomain)
        initial_guess.run(mf, FixedModel(own.get_fock() + symmetric(own.mol.nao, noise), water))
    assert abs(mf.e_tot - own.e_tot) < 1e-8
    assert mf.cycles + (not initial_guess.from_prediction(mf)) <= own.cycles + 1


def test_moved_electrons_of_wrong_occupations(own):
    """With k electrons in the wrong orbitals of a fixed Fock matrix, k electrons move."""
    s, core, c = own.get_ovlp(), own.get_hcore(), own.mo_coeff
    n = own.mol.nelectron // 2
    potential = own.get_veff()
    for orbitals, moved in (
        (range(n), 0.0),
        ([*range(n - 1), n], 2.0),
        ([*range(1, n), n + 2], 2.0),
        (range(n, 2 * n), 2.0 * n),
    ):
        d = 2 * c[:, orbitals] @ c[:, orbitals].T
        assert moved_electrons(own, d, potential, core, s) == pytest.approx(moved, abs=1e-6)
        both = own.to_uks()
        spins, potentials = np.array([d / 2, d / 2]), np.array([potential, potential])
        assert moved_electrons(both, spins, potentials, core, s) == pytest.approx(moved, abs=1e-6)


def test_moved_electrons_is_a_distance_of_densities(own):
    """N - Tr(D S D' S) / 2 = |D - D'|^2 / 4 in the metric of S, for idempotent densities of N electrons."""
    s = own.get_ovlp()
    c = eigh(own.get_fock() + symmetric(len(s), 0.05), s)[1][:, : own.mol.nelectron // 2]
    density = 2 * c @ c.T
    veff = own.get_veff(dm=density)
    energies, orbitals = own.eig(own.get_hcore() + veff, s)
    step = own.make_rdm1(orbitals, own.get_occ(energies, orbitals)) - density
    expected = np.trace(step @ s @ step @ s) / 4
    assert moved_electrons(own, density, veff, own.get_hcore(), s) == pytest.approx(expected, rel=1e-8)


def test_guard_ignores_other_densities(water, own):
    mf = initial_guess.start(io.mean_field(own.mol, SETTINGS), FixedModel(BAD_FOCK["random numbers"](own), water))
    mf.kernel(dm0=own.make_rdm1())
    assert mf.cycles <= 2
    assert initial_guess.from_prediction(mf)


def test_second_prediction_returns_to_the_original_guess(water, own):
    mf = io.mean_field(own.mol, SETTINGS)
    mf.init_guess = "huckel"
    model = FixedModel(BAD_FOCK["random numbers"](own), water)
    with pytest.warns(OutsideDomain, match="starts from huckel"):
        initial_guess.start(initial_guess.start(mf, model), model).kernel()
    assert mf.init_guess == "huckel"
    assert abs(mf.e_tot - own.e_tot) < 1e-8


def test_rejected_start_takes_the_same_steps_as_the_own_guess(water, own):
    plain, mf = (io.mean_field(own.mol, SETTINGS) for _ in range(2))
    energies: dict[str, list[float]] = {"plain": [], "rejected": []}
    plain.callback = lambda kernel: energies["plain"].append(kernel["e_tot"])
    mf.callback = lambda kernel: energies["rejected"].append(kernel["e_tot"])
    plain.kernel()
    with pytest.warns(OutsideDomain):
        initial_guess.start(mf, FixedModel(BAD_FOCK["sign"](own), water)).kernel()
    np.testing.assert_allclose(energies["rejected"], energies["plain"], atol=1e-10)


def test_scf_that_ends_above_its_start_is_repeated(water, own):
    """The mean field stops after one cycle from a poor guess, where its energy is too high."""
    mf = io.mean_field(own.mol, SETTINGS)
    model = FixedModel(own.get_fock(), water)
    kernel = mf.kernel
    ends = []

    def too_high(*args, **options):
        kernel(*args, **options)
        if not ends:
            mf.e_tot += 0.1
        ends.append(mf.init_guess)

    mf.kernel = too_high
    initial_guess.run(mf, model)
    assert ends[1:] == ["minao"]
    assert abs(mf.e_tot - own.e_tot) < 1e-8


def test_scf_that_does_not_converge_is_repeated(water, own):
    mf = io.mean_field(own.mol, SETTINGS)
    mf.max_cycle = own.cycles
    mf.check_convergence = lambda kernel: (
        not initial_guess.from_prediction(mf) and abs(kernel["e_tot"] - kernel["last_hf_e"]) < 1e-9
    )
    initial_guess.run(mf, FixedModel(own.get_fock(), water))
    assert mf.converged
    assert mf.init_guess == "minao"


def test_limit_is_below_minao(own):
    s, core = own.get_ovlp(), own.get_hcore()
    minao = own.get_init_guess(key="minao")
    assert LIMIT * own.mol.nelectron < moved_electrons(own, minao, own.get_veff(dm=minao), core, s) / 2
