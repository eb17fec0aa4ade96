"""Ghost levels: the ratio of nearly equal orbitals, limits, DFT without ghosts, and ghosts from errors of H."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from pyscf import scf

from harmose.errors import GhostLevels
from harmose.io.pyscf.pyscf import molecule
from harmose.physics.bands import bands
from harmose.physics.dos import DosSettings, dos
from harmose.physics.eigen import MolecularOrbitals, at_kpoints, solve
from harmose.physics.ghosts import (
    CHECKED_KPOINTS,
    EMPTY_LIMIT,
    OCCUPIED_LIMIT,
    WITHIN_ATOMS,
    Ghosts,
    find_ghosts,
    molecular_ghosts,
    on_site,
    on_site_of,
    overlap_ratios,
    warn_of_ghosts,
)
from harmose.physics.kmesh import kmesh
from harmose.physics.sparse.settings import SparseSettings
from harmose.physics.sparse.shift_invert import states_near
from harmose.physics.states import energies_and_ratios, energies_at
from harmose.spin import Spin
from harmose.units import HARTREE

SINGULAR = 0.49
"""Overlap of neighbours in a chain whose S(k) is 0.02 at the zone boundary."""


@pytest.fixture
def ghost_chain(chain):
    """`ghost_chain(hopping)`: a chain with one electron; e = 10 eV at the boundary for -1.6 eV, but -5 eV for -1.45 eV."""
    return lambda hopping: chain(-3.0, hopping, SINGULAR)


@pytest.fixture(scope="module")
def water(water_atoms):
    """The Fock matrix of superposed atoms in Hartree, S, and D of water, HF/def2-SVP."""
    mf = scf.RHF(molecule(water_atoms(0), "def2-svp"))
    s = mf.get_ovlp()
    atoms = on_site([s[a:b, a:b] for a, b in mf.mol.aoslice_by_atom()[:, 2:]])
    return mf.get_fock(dm=mf.get_init_guess()), s, atoms


def orbitals(fock: np.ndarray, s: np.ndarray, n_occupied: int) -> MolecularOrbitals:
    lower = np.linalg.inv(np.linalg.cholesky(s))
    energies, vectors = np.linalg.eigh(lower @ fock @ lower.T)
    return MolecularOrbitals(energies * HARTREE, lower.T @ vectors, n_occupied)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.999])
def test_orbitals_of_two_atoms(overlap):
    """The bonding combination has 1 + s, the antibonding one 1 - s."""
    s, atoms = np.array([[1.0, overlap], [overlap, 1.0]]), on_site([np.eye(1), np.eye(1)])
    c = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2 * np.array([1 + overlap, 1 - overlap]))
    np.testing.assert_allclose(overlap_ratios(c, s, atoms), [1 + overlap, 1 - overlap])
    both = overlap_ratios(np.stack([c, 1j * c]), np.stack([s, s]), atoms)
    np.testing.assert_allclose(both, [[1 + overlap, 1 - overlap]] * 2)


@pytest.mark.parametrize("overlap", [0.5, 0.9])
def test_orbitals_of_one_atom(overlap):
    """They count as orthonormal, until |S c| / |c| is much smaller than in DFT."""
    s = np.array([[1.0, overlap], [overlap, 1.0]])
    ratios = overlap_ratios(np.array([[1.0], [-1.0]]), s, on_site([s]))
    np.testing.assert_allclose(ratios, min(1.0, WITHIN_ATOMS * (1 - overlap)))


def test_the_basis_within_an_atom_does_not_matter(water):
    fock, s, _ = water
    levels = orbitals(fock, s, 5)
    mixing = np.eye(len(s))
    mixing[:5, :5] += 0.3 * np.random.default_rng(0).normal(size=(5, 5))  # some functions of oxygen
    c, mixed = np.linalg.solve(mixing, levels.coefficients), mixing.T @ s @ mixing
    before, after = (on_site([x[:14, :14], x[14:19, 14:19], x[19:, 19:]]) for x in (s, mixed))
    expected = overlap_ratios(levels.coefficients, s, before)
    np.testing.assert_allclose(
        overlap_ratios(c, mixed, after)[:6], expected[:6]
    )  # those above are nearly dependent functions


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR, Spin.SPINOR])
def test_blocks_of_a_crystal(random_crystal, spin):
    """D of a matrix of blocks has no images of the same atom, which S(k) has."""
    sample = random_crystal(spin)
    s, n = sample.overlap, sample.hamiltonian.n_orbitals
    dense, size = on_site_of(s, spin).overlap.toarray(), n * (2 if spin is Spin.SPINOR else 1)
    assert dense.shape == (size, size)
    for i, (a, b) in enumerate(pairwise(s.orbital_starts)):
        for start in range(0, size, n):
            np.testing.assert_array_equal(dense[start + a : start + b, start + a : start + b], s.block(i, i))
    np.testing.assert_allclose(on_site_of(s, spin).inverse @ dense, np.eye(size), atol=1e-12)


def test_limits():
    energies = np.array([-20.0, -9.0, -8.0, 0.5, 2.0, 5.0])
    ratios = np.array([np.nan, OCCUPIED_LIMIT - 0.01, OCCUPIED_LIMIT, OCCUPIED_LIMIT / 2, EMPTY_LIMIT / 2, 1e-3])
    assert find_ghosts(energies, ratios, 0.0).energies.tolist() == [-9.0]
    found = find_ghosts(energies, ratios, 0.0, highest=2.0)
    assert found.energies.tolist() == [-9.0, 2.0]
    assert found.ratios.tolist() == ratios[[1, 4]].tolist()
    assert find_ghosts(energies, ratios, 0.6).energies.tolist() == [-9.0, 0.5]


def test_kpoints_and_spins():
    kpoints = np.array([[0.0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]])
    energies = np.arange(12.0).reshape(2, 3, 2)
    ratios = np.ones((2, 3, 2))
    ratios[1, 1, 0] = ratios[0, 2, 1] = 0.1
    found = find_ghosts(energies, ratios, 20.0, kpoints=kpoints)
    assert found.energies.tolist() == [5.0, 8.0]
    assert found.kpoints.tolist() == [[0.25, 0, 0], [0.5, 0, 0]]
    assert "2 ghost levels from 5.00 to 8.00 eV at 2 k-points" in found.describe()


def test_description_and_warning():
    one = find_ghosts(np.array([-228.6072]), np.array([0.1344]), 0.0)
    with pytest.warns(
        GhostLevels,
        match=r"^1 ghost level at -228.61 eV \(smallest ratio \|S c\| / \|c\| 0.13, in DFT .*wrong orbitals$",
    ):
        warn_of_ghosts(one)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_ghosts(Ghosts())


def test_no_ghosts_in_a_molecule(water):
    fock, s, atoms = water
    assert not molecular_ghosts([orbitals(fock, s, n) for n in (4, 5)], s, atoms)


@pytest.mark.parametrize("energy", [-60.0, -228.0])
def test_error_where_the_overlap_is_small(water, energy):
    """The smallest eigenvector of S gets an expected energy among or below the valence levels, as one of HF had (-228 eV)."""
    fock, s, atoms = water
    dft = orbitals(fock, s, 5)
    sizes, vectors = np.linalg.eigh(s)
    v = vectors[:, 0]
    error = (v @ fock @ v - sizes[0] * energy / HARTREE) * np.outer(v, v)
    wrong = orbitals(fock - error, s, 5)
    ghosts = molecular_ghosts([wrong], s, atoms)
    assert ghosts.energies.tolist() == [wrong.energies[1]]
    assert wrong.energies[1] < dft.energies[1] - 10
    assert molecular_ghosts([dft, wrong], s, atoms).energies.tolist() == ghosts.energies.tolist()


def test_molecule_without_electrons_or_empty_levels(water):
    fock, s, atoms = water
    n = len(s)
    assert not molecular_ghosts([orbitals(fock, s, 0)], s, atoms)
    # with all levels occupied, those that are kinetic energy count as occupied
    assert len(molecular_ghosts([orbitals(fock, s, n)], s, atoms)) > 0


def test_crystal_of_dft(graphene):
    sample = graphene("pristine_1x1")
    mesh = kmesh((9, 9, 1))
    for path in (mesh.kpoints[part] for part in (slice(a, b) for a, b in pairwise(range(0, len(mesh.kpoints), 8)))):
        energies, ratios = energies_and_ratios(sample.hamiltonian, sample.overlap, path)
        assert not np.isnan(ratios).any()
        assert not find_ghosts(energies, ratios, sample.fermi_level, kpoints=path)


def test_noise_on_a_crystal(graphene):
    """Errors of 0.3 eV in H, which eigenvalues of S of 0.002 magnify: found among the bands, and in supercells at Gamma."""
    sample = graphene("pristine_1x1")
    h, rng = sample.hamiltonian, np.random.default_rng(0)
    noisy = h.with_values(h.values + 0.3 * rng.normal(size=h.values.shape))
    with pytest.warns(GhostLevels, match="at . k-points"):
        found = bands(noisy, sample.overlap, "GMKG", sample.structure, 8, mesh=(6, 6, 1), predicted=True)
    dft = bands(h, sample.overlap, "GMKG", sample.structure, 8, mesh=(6, 6, 1), predicted=True)
    assert len(found.ghosts) > 0
    assert len(dft.ghosts) == 0
    assert bands(h, sample.overlap, "GMKG", sample.structure, 8, mesh=(6, 6, 1)).ghosts is None


def test_bands_of_a_chain(ghost_chain):
    h, s, _ = ghost_chain(-1.45)
    k = np.linspace(0, 0.5, 9)[:, None] * [1, 0, 0]
    with pytest.warns(GhostLevels) as caught:
        found = bands(h, s, k, fermi_level=-3.2, predicted=True)
    assert caught[0].filename == __file__
    s_k = 1 + 2 * SINGULAR * np.cos(2 * np.pi * found.ghosts.kpoints[:, 0])
    np.testing.assert_allclose(found.ghosts.ratios, s_k)
    np.testing.assert_allclose(found.ghosts.energies[0], -5.0)
    assert (s_k < OCCUPIED_LIMIT).all()
    near = states_near(h, s, -3.2, 1, k)
    np.testing.assert_allclose(near.ratios[:, 0], 1 + 2 * SINGULAR * np.cos(2 * np.pi * k[:, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bands(h, s, k, fermi_level=-3.2).ghosts is None
        assert len(bands(*ghost_chain(-1.6)[:2], k, fermi_level=-2.95, predicted=True).ghosts) == 0
        # without a Fermi level nobody knows which levels are occupied
        assert bands(h, s, k, predicted=True).ghosts is None


def test_bands_near_the_fermi_level(ghost_chain):
    h, s, _ = ghost_chain(-1.45)
    with pytest.warns(GhostLevels, match="1 ghost level at -5.00 eV at 1 k-point"):
        found = bands(h, s, [[0.0, 0, 0], [0.5, 0, 0]], fermi_level=-3.2, nearest=1, predicted=True)
    assert found.ghosts.kpoints.tolist() == [[0.5, 0, 0]]


def test_sparse_and_dense_ratios(graphene):
    sample, k = graphene("mg_000"), [(0.1, 0.27, 0.0)]
    h, s, level = sample.hamiltonian, sample.overlap, sample.fermi_level
    sparse, dense = (
        states_near(h, s, level, 12, k, settings=x) for x in (SparseSettings(diagonalize_below=0), SparseSettings())
    )
    np.testing.assert_allclose(sparse.ratios, dense.ratios, atol=1e-6)


@pytest.mark.parametrize("by", [None, "element"])
def test_density_of_states(ghost_chain, by):
    settings = DosSettings(window=(-10, 10), by=by)
    h, s, atoms = ghost_chain(-1.45)
    with pytest.warns(GhostLevels):
        dos(h, s, atoms, (20, 1, 1), fermi_level=-3.2, settings=settings, predicted=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dos(h, s, atoms, (20, 1, 1), fermi_level=-3.2, settings=settings)
        h, s, atoms = ghost_chain(-1.6)
        dos(h, s, atoms, (20, 1, 1), n_electrons=1, settings=settings, predicted=True)


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR, Spin.SPINOR])
def test_checked_kpoints(random_crystal, spin):
    """Energies are those of `energies_at` at all k-points; few of these have ratios, and all levels there."""
    sample = random_crystal(spin)
    h, s = sample.hamiltonian, sample.overlap
    k = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * CHECKED_KPOINTS, 3))
    energies, ratios = energies_and_ratios(h, s, k)
    np.testing.assert_allclose(energies, energies_at(h, s, k), atol=1e-9)
    assert ratios.shape == energies.shape
    checked = ~np.isnan(ratios).any(axis=(0, -1) if spin is Spin.COLLINEAR else -1)
    assert checked[[0, -1]].all()
    assert checked.sum() == CHECKED_KPOINTS
    c = solve(h, s, k[:1])[1]
    np.testing.assert_allclose(overlap_ratios(c, at_kpoints(s, k[:1], spin), on_site_of(s, spin)), ratios[..., :1, :])
    assert np.isnan(energies_and_ratios(h, s, k, predicted=False)[1]).all()
