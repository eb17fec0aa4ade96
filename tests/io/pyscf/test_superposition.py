"""H0 of spherical atoms: each part beside PySCF's own integrals of the same densities; smooth, and turning with the molecule."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as ase_molecule
from pyscf import dft, gto, scf

from harmose.errors import LabellingError
from harmose.io.pyscf.free_atoms import atom_density, natural_orbitals, occupied_functions, with_basis
from harmose.io.pyscf.pyscf import PySCFSettings, molecule, prior, prior_fock
from harmose.io.pyscf.superposition import (
    coulomb,
    exact_exchange,
    exchange_correlation,
    fock_of_atoms,
    superposed_density,
)
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin
from harmose.units import HARTREE


def methanimine() -> Atoms:
    """H2C=NH: H, C and N without any symmetry but the plane."""
    places = [[0.05, 0, 0.6], [0.02, 0.0, -0.68], [0.95, 0.1, 1.2], [-0.9, 0, 1.2], [0.94, 0, -1.1]]
    return Atoms("CNH3", places)


@pytest.fixture(scope="module")
def mol() -> gto.Mole:
    return molecule(methanimine(), "def2-svp")


@pytest.mark.parametrize("symbol", ["H", "C", "F", "Na", "Si", "Fe", "Br"])
def test_densities_of_atoms(symbol):
    """The Gaussians hold all electrons, and miss the density of the natural orbitals by little of its charge."""
    density, r, n_electrons = atom_density(symbol), np.geomspace(1e-3, 12, 2000), gto.charge(symbol)
    rho, slope = density(r**2)
    np.testing.assert_allclose(np.trapezoid(4 * np.pi * r**2 * rho, r), n_electrons, rtol=1e-3)
    np.testing.assert_allclose(np.gradient(rho, r**2)[1:-1], slope[1:-1], rtol=0.05, atol=1e-6)
    shells, occupations = natural_orbitals(symbol)
    atom = gto.M(atom=[(symbol, (0, 0, 0))], basis={symbol: shells}, spin=None, verbose=0)
    orbitals = atom.eval_gto("GTOval", r[:, None] * [[0, 0, 1.0]])
    expected = orbitals**2 @ np.repeat(occupations, [2 * shell[0] + 1 for shell in shells])
    assert np.trapezoid(4 * np.pi * r**2 * np.abs(rho - expected), r) < 0.04 * n_electrons
    assert sum(o * (2 * s[0] + 1) for s, o in zip(shells, occupations, strict=True)) == pytest.approx(n_electrons)


def test_j_is_that_of_the_density(mol):
    """Beside the integral over a fine grid of each orbital's density in the potential: int a b V = int rho V_ab."""
    grids = dft.gen_grid.Grids(mol)
    grids.level = 2
    grids.build()
    rho = superposed_density(mol, grids.coords)[0] * grids.weights
    assert rho.sum() == pytest.approx(mol.nelectron, abs=1e-3)
    expected = np.einsum("gij,g->ij", mol.intor("int1e_grids", grids=grids.coords), rho)
    np.testing.assert_allclose(coulomb(mol), expected, atol=1e-3)


def test_k_is_that_of_the_occupied_functions(mol):
    """Beside all four-centre integrals of orbitals and STO-3G functions."""
    minimal = with_basis(mol, {symbol: [s for s, _ in occupied_functions(symbol)] for symbol in ("H", "C", "N")})
    occupations = np.concatenate(
        [
            [o for s, o in occupied_functions(mol.atom_pure_symbol(k)) for _ in range(2 * s[0] + 1)]
            for k in range(mol.natm)
        ]
    )
    both, n, m = mol + minimal, mol.nbas, mol.nbas + minimal.nbas
    integrals = both.intor("int2e", shls_slice=(0, n, n, m, 0, n, n, m))
    np.testing.assert_allclose(exact_exchange(mol), np.einsum("aibi,i->ab", integrals, occupations), atol=1e-12)
    assert occupations.sum() == mol.nelectron


@pytest.mark.parametrize(("functional", "kind"), [("lda,vwn", "LDA"), ("pbe", "GGA")])
def test_vxc_is_the_derivative_of_the_energy(mol, functional, kind):
    """d E_xc[rho + t a b] / dt = int a b v_xc, by differences on the same grid."""
    grids = dft.gen_grid.Grids(mol)
    grids.level = 1
    grids.build(sort_grids=False)
    ao, rho = mol.eval_gto("GTOval_sph_deriv1", grids.coords), superposed_density(mol, grids.coords)
    a, b = 5, 17
    added = np.stack(
        [ao[0, :, a] * ao[0, :, b], *(ao[k, :, a] * ao[0, :, b] + ao[0, :, a] * ao[k, :, b] for k in (1, 2, 3))]
    )

    def energy(density: np.ndarray) -> float:
        own = density if kind == "GGA" else density[0]
        return float(
            (dft.numint.NumInt().eval_xc_eff(functional, own, deriv=0, xctype=kind)[0] * density[0]) @ grids.weights
        )

    step = 1e-3
    slope = (energy(rho + step * added) - energy(rho - step * added)) / (2 * step)
    assert exchange_correlation(mol, functional, kind)[a, b] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("functional", ["pbe", "b3lypg", "hf", "camb3lyp"])
def test_it_is_near_the_exact_one(mol, functional):
    exact = prior_fock(mol, PySCFSettings(functional, "def2-svp"))
    h0 = fock_of_atoms(mol, functional)
    np.testing.assert_allclose(h0, h0.T, atol=1e-12)
    assert np.abs(h0 - exact).mean() < 0.3 * np.abs(scf.hf.get_hcore(mol) - exact).mean()
    assert np.abs(h0 - exact).mean() < 0.01


def test_it_turns_with_the_molecule():
    atoms, settings = methanimine(), PySCFSettings("b3lypg", "def2-svp", prior="spherical")
    rotation = random_rotation(np.random.default_rng(0))
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    change = np.abs((prior(turned, settings) - prior(atoms, settings).rotate(rotation)).dense()).mean()
    assert change < 5e-6 * HARTREE


def test_it_is_smooth(mol):
    """Second differences along a bond are those of a smooth function."""
    atoms, settings = methanimine(), PySCFSettings("b3lypg", "def2-svp", prior="spherical")
    values = []
    for x in np.linspace(0, 0.02, 5):
        moved = atoms.copy()
        moved.positions[4] += [x, 0, 0]
        values.append(prior(moved, settings).values)
    fourth = np.diff(values, 4, axis=0)
    assert np.abs(fourth).max() < 1e-3 * np.abs(np.diff(values, 1, axis=0)).max()


def test_both_spins_are_the_same():
    collinear = PySCFSettings("pbe", "def2-svp", spin=Spin.COLLINEAR, prior="spherical")
    oxygen = ase_molecule("O2")
    h0 = prior(oxygen, collinear).values
    np.testing.assert_allclose(h0[0], h0[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"functional": "tpss"}, "prior spherical: expected a functional of density and gradient"),
        ({"functional": "wb97x-v"}, "prior spherical: expected a functional of density and gradient"),
        ({"spin": Spin.SPINOR}, "prior spherical: expected spin none or collinear, got spinor"),
        ({"prior": "quick"}, "prior: expected one of exact, spherical, tabulated, got 'quick'"),
    ],
)
def test_what_it_cannot_do(settings, message):
    with pytest.raises(LabellingError, match=message):
        PySCFSettings(**{"prior": "spherical", **settings})


def test_core_potentials_are_refused():
    with pytest.raises(LabellingError, match="prior spherical: expected a basis set without core potentials"):
        fock_of_atoms(molecule(Atoms("HI", [[0, 0, 0], [0, 0, 1.6]]), "def2-svp"), "b3lypg")


def test_the_usual_prior_is_not_named():
    """Stores and cards of older versions do not name it either."""
    assert "prior" not in PySCFSettings().to_dict()
    assert PySCFSettings(prior="spherical").to_dict()["prior"] == "spherical"
