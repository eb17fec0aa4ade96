"""H0 from tables of pairs: exact for two atoms but for its filter, without ghosts for more, smooth, and exactly covariant."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as ase_molecule
from pyscf import gto
from scipy.linalg import eigh

from harmose.errors import LabellingError, ModelError
from harmose.io.pyscf import pair_tables as tables_module
from harmose.io.pyscf import superposition
from harmose.io.pyscf.atom_potentials import fock_of_potentials
from harmose.io.pyscf.diatomics import exchange_correlation_on_axis
from harmose.io.pyscf.free_atoms import functional_kind
from harmose.io.pyscf.pair_tables import NEAREST, PairTables, pair_tables
from harmose.io.pyscf.pyscf import PySCFSettings, molecule, prior, prior_fock
from harmose.io.pyscf.superposition import exact_exchange, exchange_correlation, fock_of_atoms
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin
from harmose.units import BOHR, HARTREE

BASIS = "def2-svp"


def methanimine() -> Atoms:
    """H2C=NH: H, C and N without any symmetry but the plane."""
    places = [[0.05, 0, 0.6], [0.02, 0.0, -0.68], [0.95, 0.1, 1.2], [-0.9, 0, 1.2], [0.94, 0, -1.1]]
    return Atoms("CNH3", places)


def two_atoms(symbols: str, r: float) -> gto.Mole:
    """Two atoms at a distance in Bohr, in a direction without symmetry."""
    u = np.array([0.36, 0.48, 0.8])
    return molecule(Atoms(symbols, [np.zeros(3), r * BOHR * u]), BASIS, Spin.COLLINEAR)


@pytest.fixture(scope="module")
def tables() -> PairTables:
    return pair_tables("b3lypg", BASIS, [1, 6, 7])


@pytest.mark.parametrize(("functional", "r"), [("pbe", 2.1), ("b3lypg", 5.0), ("lda,vwn", 2.1), ("hf", 2.1)])
def test_vxc_on_the_axis_is_that_of_a_grid(functional, r, monkeypatch):
    monkeypatch.setattr(superposition, "GRID_LEVEL", 6)
    mol = gto.M(atom=[("C", (0, 0, 0)), ("O", (0, 0, r))], unit="bohr", basis=BASIS, verbose=0)
    kind, _ = functional_kind(functional)
    found = exchange_correlation_on_axis(mol, functional, kind, mol)
    np.testing.assert_allclose(found, exchange_correlation(mol, functional, kind), atol=1e-5)


@pytest.fixture
def exact(monkeypatch):
    """A fine grid of the spherical H0, and no filter."""
    monkeypatch.setattr(superposition, "GRID_LEVEL", 6)
    monkeypatch.setattr(tables_module, "FILTER", 0.0)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("symbols", "r"), [("CN", 2.2), ("NC", 2.2), ("CC", 2.9), ("HN", 1.9), ("CH", 6.3), ("HH", 1.4)]
)
def test_two_atoms_are_exact(tables, symbols, r):
    """Also between the distances of the tables."""
    mol = two_atoms(symbols, r)
    np.testing.assert_allclose(tables.fock(mol, "b3lypg"), fock_of_atoms(mol, "b3lypg"), atol=3e-5)


@pytest.mark.usefixtures("exact")
def test_an_atom_alone(tables):
    mol = molecule(Atoms("N"), BASIS, Spin.COLLINEAR)
    np.testing.assert_allclose(tables.fock(mol, "b3lypg"), fock_of_atoms(mol, "b3lypg"), atol=1e-5)


def test_atoms_far_apart_are_alone(tables):
    mol = two_atoms("CN", 60.0)
    alone = [tables.fock(molecule(Atoms(s), BASIS, Spin.COLLINEAR), "b3lypg") for s in "CN"]
    n = len(alone[0])
    found = tables.fock(mol, "b3lypg")
    np.testing.assert_allclose(found[:n, :n], alone[0], atol=1e-6)
    np.testing.assert_allclose(found[n:, n:], alone[1], atol=1e-6)
    np.testing.assert_allclose(found[:n, n:], 0, atol=1e-9)


@pytest.mark.parametrize("functional", ["pbe", "camb3lyp"])
def test_more_atoms_are_near_spherical_ones(functional):
    """What is missed is far less than H - H0, some 6e-3 Hartree, and makes no ghost states."""
    mol = molecule(methanimine(), BASIS)
    spherical, found = fock_of_atoms(mol, functional), pair_tables(functional, BASIS, [1, 6, 7]).fock(mol, functional)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.abs(found - spherical).mean() < 1e-3
    assert np.abs(found - spherical).max() < 0.03
    levels, expected = (eigh(h, mol.intor("int1e_ovlp"), eigvals_only=True) for h in (found, spherical))
    assert np.abs(levels - expected)[: mol.nelectron // 2].max() < 0.01
    assert np.abs(levels - expected).max() < 0.2


def test_nearly_dependent_orbitals_have_no_ghosts(tables):
    """A ring, whose smallest eigenvalue of S is 0.004: without the filter there are levels some Hartree too deep."""
    mol = molecule(ase_molecule("C4H4NH"), BASIS)
    s = mol.intor("int1e_ovlp")
    assert eigh(s, eigvals_only=True)[0] < 0.01
    levels, expected = (
        eigh(h, s, eigvals_only=True) for h in (tables.fock(mol, "b3lypg"), fock_of_atoms(mol, "b3lypg"))
    )
    assert np.abs(levels - expected)[: mol.nelectron // 2].max() < 0.02


def test_exchange_of_atoms():
    """Projectors beside all four-centre integrals."""
    mol = molecule(methanimine(), BASIS)
    found = fock_of_potentials(mol, "0*hf") - fock_of_potentials(mol, "hf")
    expected = exact_exchange(mol) / 2
    assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean()


def test_potentials_of_atoms():
    """Nucleus and electrons of neon without V_xc; nothing of it at a far atom."""
    mol = gto.M(atom=[("Ne", (0, 0, 0)), ("H", (0, 0, 12.0))], basis="sto-3g", spin=1, verbose=0)
    h, kinetic = fock_of_potentials(mol, "0*hf"), mol.intor("int1e_kin")
    alone = fock_of_potentials(gto.M(atom=[("H", (0, 0, 0))], basis="sto-3g", spin=1, verbose=0), "0*hf")
    assert h[-1, -1] == pytest.approx(alone[0, 0], abs=1e-6)
    spherical = fock_of_atoms(mol, "0*hf")
    np.testing.assert_allclose((h - kinetic)[:-1, :-1], (spherical - kinetic)[:-1, :-1], rtol=0.02, atol=0.05)


def test_it_turns_with_the_molecule():
    atoms, settings = methanimine(), PySCFSettings("b3lypg", BASIS, prior="tabulated")
    rotation = random_rotation(np.random.default_rng(0))
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    change = (prior(turned, settings) - prior(atoms, settings).rotate(rotation)).dense()
    assert np.abs(change).max() < 1e-9 * HARTREE


def test_it_is_smooth(tables):
    """Also where a distance passes one of the tables'."""
    atoms, values = methanimine(), []
    for x in np.linspace(0, 0.2, 21):
        moved = atoms.copy()
        moved.positions[4] += [x, 0, 0]
        values.append(tables.fock(molecule(moved, BASIS), "b3lypg"))
    fourth, first = np.diff(values, 4, axis=0), np.diff(values, 1, axis=0)
    assert np.abs(fourth).max() < 1e-3 * np.abs(first).max()


def test_atoms_nearer_than_the_tables(tables):
    """Tables stand still there; nothing is extrapolated."""
    near = tables.fock(two_atoms("HH", 0.5 * NEAREST), "b3lypg")
    assert np.abs(near).max() < 3 * np.abs(tables.fock(two_atoms("HH", NEAREST), "b3lypg")).max()


def test_arrays(tables):
    again = PairTables.from_arrays(tables.to_arrays())
    mol = molecule(methanimine(), BASIS)
    np.testing.assert_allclose(again.fock(mol, "b3lypg"), tables.fock(mol, "b3lypg"), rtol=0, atol=1e-12)
    assert sum(a.nbytes for a in tables.to_arrays().values()) < 3e5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bond.1.6", lambda x: None),
        ("site.6.1", lambda x: None),
        ("end.1.6", lambda x: None),
        ("end.1.6", lambda x: 0 * x),
        ("bond.1.6", lambda x: x[:50]),
        ("bond.1.6", lambda x: x[:, 1:]),
        ("site.1.6", lambda x: x[:, 1:]),
        ("atom.6", lambda x: x[:4, :4]),
    ],
)
def test_damaged_tables(tables, name, change):
    arrays = tables.to_arrays()
    changed = change(arrays.pop(name))
    with pytest.raises(ModelError, match="the tables of H0 are damaged"):
        PairTables.from_arrays(arrays | ({} if changed is None else {name: changed})).fock(
            two_atoms("CH", 2.0), "b3lypg"
        )


def test_both_spins_are_the_same():
    atoms = Atoms("NH", [[0, 0, 0], [0, 0, 1.04]], info={"spin": 2})
    h0 = prior_fock(
        molecule(atoms, BASIS, Spin.COLLINEAR), PySCFSettings("pbe", BASIS, spin=Spin.COLLINEAR, prior="tabulated")
    )
    np.testing.assert_array_equal(h0[0], h0[1])


def test_an_element_without_tables(tables):
    mol = molecule(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]), BASIS)
    with pytest.raises(ModelError, match=r"prior tabulated: expected elements with tables \(H, C, N\), got O"):
        tables.fock(mol, "b3lypg")


def test_core_potentials_are_refused():
    atoms = Atoms("HI", [[0, 0, 0], [0, 0, 1.6]])
    with pytest.raises(LabellingError, match="prior tabulated: expected a basis set without core potentials"):
        prior(atoms, PySCFSettings("b3lypg", BASIS, prior="tabulated"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"functional": "tpss"}, "prior tabulated: expected a functional of density and gradient"),
        ({"spin": Spin.SPINOR}, "prior tabulated: expected spin none or collinear, got spinor"),
    ],
)
def test_what_it_cannot_do(settings, message):
    with pytest.raises(LabellingError, match=message):
        PySCFSettings(**{"prior": "tabulated", **settings})
