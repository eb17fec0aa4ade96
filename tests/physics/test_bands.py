"""Bands and Fermi levels of graphene and iron against CP2K's and SIESTA's own, of chains against closed forms, of anything against sisl."""

import numpy as np
import pytest
from ase.build import molecule

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError, StructureError
from harmose.io.files import read
from harmose.physics.bands import MIN_GAP, band_gap, bands
from harmose.physics.eigen import eigenvalues
from harmose.physics.kpath import explicit_path, kpath, special_points
from harmose.physics.occupations import FermiDirac
from harmose.physics.states import mesh_fermi_level
from harmose.spin import Spin
from harmose.units import BOHR

DIRAC = "GMKG"


def test_the_fermi_level_of_graphene_is_that_of_cp2k(graphene):
    """CP2K: 15x15 k-points, Fermi-Dirac at 300 K. H is rounded to 1e-6 eV and cut off at 8.2 angstrom."""
    sample = graphene("pristine_1x1")
    found = mesh_fermi_level(sample.hamiltonian, sample.overlap, (15, 15, 1), 8)
    assert found == pytest.approx(sample.fermi_level, abs=1e-5)


@pytest.mark.parametrize("name", ["pristine_3x3", "mg_000", "mg_018", "mg_019", "mg_020"])
def test_the_fermi_level_of_displaced_graphene_is_that_of_cp2k(graphene, name):
    sample = graphene(name)
    found = mesh_fermi_level(sample.hamiltonian, sample.overlap, (3, 3, 1), 72)
    assert found == pytest.approx(sample.fermi_level, abs=1e-5)


def test_two_bands_of_graphene_meet_at_k(graphene):
    sample = graphene("pristine_1x1")
    found = bands(sample.hamiltonian, sample.overlap, DIRAC, sample.structure, 8, (15, 15, 1))
    at_k = np.argmin(np.abs(found.x - found.ticks[2]))
    assert found.labels[2] == "K"
    np.testing.assert_allclose(found.relative[at_k, 3:5], 0, atol=1e-4)
    assert found.relative[at_k, 2] < -5
    assert found.relative[at_k, 5] > 5
    gap = found.gap
    assert gap.is_metal
    assert gap.k_occupied == gap.k_empty == at_k
    # the slope is the Fermi velocity of PBE, 0.82e6 m/s
    step = found.x[at_k + 1] - found.x[at_k]
    velocity = (found.relative[at_k + 1, 4] - found.relative[at_k, 4]) / step * 1e-10 / 6.582119569e-16
    assert velocity == pytest.approx(0.82e6, rel=0.05)


def test_bands_of_a_supercell_are_folded(graphene):
    """k of the 3x3 cell holds the nine points (k + G) / 3 of the primitive one.

    CP2K took another grid for the two, so occupied bands agree to 2 meV after their zeros, the mean of H - H', do.
    """
    small, large = graphene("pristine_1x1"), graphene("pristine_3x3")
    k = kpath(large.structure, DIRAC, points=8).kpoints
    shifts = np.stack(np.meshgrid(np.arange(3), np.arange(3), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    points = ((k[:, None] + shifts) / [3, 3, 1]).reshape(-1, 3)
    folded = np.sort(eigenvalues(small.hamiltonian, small.overlap, points).reshape(len(k), -1), axis=1)
    found = eigenvalues(large.hamiltonian, large.overlap, k)
    assert folded.shape == found.shape
    difference = (found - large.fermi_level) - (folded - small.fermi_level)
    assert np.abs(difference[:, :36]).max() < 2e-3
    assert np.abs(difference[:, :72]).mean() < 2e-3


@pytest.fixture(scope="module")
def iron(shared_data):
    """Ferromagnetic iron by SIESTA, and the folder of its output."""
    folder = shared_data / "dft-outputs" / "siesta-Fe"
    return read(folder), folder


def test_the_fermi_level_of_iron_is_that_of_siesta(iron):
    """KgridCutoff of 10 angstrom is a 9x9x9 mesh; Fermi-Dirac of 25 meV, one level for both spins."""
    sample, _ = iron
    found = mesh_fermi_level(sample.hamiltonian, sample.overlap, (9, 9, 9), 16, FermiDirac(0.025))
    assert found == pytest.approx(sample.fermi_level, abs=1e-8)


def test_bands_of_iron_are_those_of_siesta(iron):
    """Its path has other representatives of the same special points; the integration grid is less symmetric than iron."""
    sample, folder = iron
    words = (folder / "fe.bands").read_text().split()
    n_bands, n_spins, n_k = (int(word) for word in words[5:8])
    table = np.array(words[8 : 8 + n_k * (1 + n_spins * n_bands)], dtype=float).reshape(n_k, -1)
    special = special_points(sample.structure)
    segments = zip("GHNGP", "HNGP", (40, 28, 28, 34))
    parts = [special[a] + np.linspace(0, 1, n + 1)[1:, None] * (special[b] - special[a]) for a, b, n in segments]
    points = np.concatenate([special["G"][None], *parts])
    found = bands(sample.hamiltonian, sample.overlap, points, sample.structure, fermi_level=sample.fermi_level)
    np.testing.assert_allclose(found.x, table[:, 0] / BOHR, atol=2e-6)
    np.testing.assert_allclose(kpath(sample.structure, "GHNGP").ticks, found.x[[0, 40, 68, 96, 130]], atol=1e-9)
    difference = np.abs(found.energies - table[:, 1:].reshape(n_k, n_spins, n_bands).swapaxes(0, 1))
    assert difference.mean() < 2e-3
    assert difference.max() < 0.02
    assert found.gap.is_metal


@pytest.mark.parametrize(
    ("folder", "path", "indirect", "direct"),
    [("siesta-Si", "LGXUG", 0.54, 2.5), ("aims-Si", "LGXUG", 0.60, 2.5), ("deeph-MoTe2", "GMKG", 1.04, 1.04)],
)
def test_gaps_of_semiconductors(shared_data, folder, path, indirect, direct):
    """Silicon (LDA and PBE): from Gamma to near X, 2.5 eV at Gamma; a layer of MoTe2: at K."""
    sample = read(shared_data / "dft-outputs" / folder)
    level = (
        {"fermi_level": sample.fermi_level}
        if sample.fermi_level is not None
        else {"n_electrons": 28, "mesh": (4, 4, 4)}
    )
    structure = sample.structure.copy()
    structure.pbc = (True, True, path == "LGXUG")
    gap = bands(sample.hamiltonian, sample.overlap, path, structure, **level).gap
    assert gap.indirect == pytest.approx(indirect, abs=0.02)
    assert gap.direct == pytest.approx(direct, abs=0.1)
    assert gap.is_direct == (folder == "deeph-MoTe2")


@pytest.fixture(scope="module")
def to_sisl():
    """An operator as sisl's sparse matrix, orbital by orbital, and its geometry."""
    sisl = pytest.importorskip("sisl")

    def convert(h: BlockMatrix, s: BlockMatrix, atoms):
        reach = 2 * np.abs(h.keys[:, 2:]).max(axis=0) + 1
        of = {z: sisl.Atom(z, R=[4.1] * h.basis.n_orbitals(z)) for z in set(h.numbers.tolist())}
        lattice = sisl.Lattice(atoms.cell.array, nsc=reach)
        geometry = sisl.Geometry(atoms.positions, [of[z] for z in h.numbers.tolist()], lattice)
        out = sisl.Hamiltonian(geometry, orthogonal=False)
        starts = h.orbital_starts
        for i, j, *cell in h.keys.tolist():
            for a, b, r in {(i, j, tuple(cell)), (j, i, tuple(-c for c in cell))}:
                shift = geometry.lattice.sc_index(r) * geometry.no
                rows = np.arange(starts[a], starts[a + 1])
                cols = np.arange(starts[b], starts[b + 1]) + shift
                block = np.stack([h.block(a, b, r), s.block(a, b, r)], axis=-1)
                for row, values in zip(rows, block):
                    out[row, cols] = values
        return out

    return convert


def test_bands_are_those_of_sisl_along_its_own_path(graphene, to_sisl):
    import sisl

    sample = graphene("pristine_1x1")
    h = to_sisl(sample.hamiltonian, sample.overlap, sample.structure)
    theirs = sisl.BandStructure(h, [[0, 0, 0], [0.5, 0, 0], [1 / 3, 1 / 3, 0], [0, 0, 0]], 30, ["G", "M", "K", "G"])
    expected = theirs.apply.array.eigh()
    found = bands(sample.hamiltonian, sample.overlap, theirs.k, sample.structure)
    np.testing.assert_allclose(found.energies, expected, atol=1e-8)
    np.testing.assert_allclose(found.x, theirs.lineark(), atol=1e-6)
    ours = kpath(sample.structure, DIRAC)
    np.testing.assert_allclose(ours.ticks, theirs.lineark(ticks=True)[1], atol=1e-6)


@pytest.mark.parametrize("c", [-7.5, 3.25])
def test_a_multiple_of_s_shifts_all_bands(graphene, c):
    sample = graphene("pristine_1x1")
    h, s = sample.hamiltonian, sample.overlap
    moved = h.with_values(h.values + c * s.values)
    plain, found = (bands(m, s, DIRAC, sample.structure, 8, (6, 6, 1)) for m in (h, moved))
    np.testing.assert_allclose(found.energies, plain.energies + c, atol=1e-9)
    np.testing.assert_allclose(found.relative, plain.relative, atol=1e-8)
    np.testing.assert_allclose(plain.shifted(c).energies, found.energies, atol=1e-9)
    assert plain.shifted(c).fermi_level == pytest.approx(found.fermi_level)


def test_a_half_filled_chain_is_a_metal(chain):
    h, s, atoms = chain(-1.0, -0.5)
    found = bands(h, s, "GX", atoms, n_electrons=1, mesh=(60, 1, 1))
    np.testing.assert_allclose(found.energies[[0, -1], 0], [-2, 0], atol=1e-12)
    assert found.fermi_level == pytest.approx(-1.0, abs=1e-6)
    assert found.gap.is_metal


def test_collinear_bands_share_a_fermi_level(chain, with_spin):
    """Up -2 to -1 eV, down 0 to 1 eV: with one electron up is full; with both spins' half one metal less."""
    h, s, atoms = chain(0, 0)
    both = with_spin(h, Spin.COLLINEAR, [[-1.5, 0.25], [0.5, -0.25]])
    found = bands(both, s, "GX", atoms, n_electrons=1, mesh=(12, 1, 1))
    assert found.energies.shape == (2, len(found.x), 1)
    gap = found.gap
    assert -1 < found.fermi_level < 0
    assert (gap.highest_occupied, gap.lowest_empty) == pytest.approx((-1.0, 0.0))
    assert gap.indirect == pytest.approx(1.0)
    assert not gap.is_metal
    assert gap.is_direct  # both at Gamma, though of other spins


def test_spinor_bands_hold_one_electron_each(chain, with_spin):
    """In a field along x of 0.4 eV the two bands of the chain are 0.8 eV apart."""
    h, s, atoms = chain(0, 0)
    band, field = np.array([0.0, -0.1]), np.array([0.4, 0.0])
    spinor = with_spin(h, Spin.SPINOR, [band, field, field, band])
    found = bands(spinor, s, "GX", atoms, n_electrons=1, mesh=(12, 1, 1))
    cosine = 2 * np.cos(2 * np.pi * found.kpoints[:, 0])
    np.testing.assert_allclose(found.energies, (-0.1 * cosine)[:, None] + [-0.4, 0.4], atol=1e-12)
    assert found.gap.indirect == pytest.approx(0.4)
    assert found.gap.direct == pytest.approx(0.8)


def test_gaps_are_indirect_direct_or_none():
    #               k = 0          k = 1         k = 2
    energies = np.array([[[-3.0, 2.0], [-1.0, 3.0], [-2.0, 1.0]]])
    gap = band_gap(energies, 0.0)
    assert (gap.highest_occupied, gap.lowest_empty, gap.indirect, gap.direct) == (-1.0, 1.0, 2.0, 3.0)
    assert (gap.k_occupied, gap.k_empty) == (1, 2)
    assert not gap.is_direct
    assert band_gap(energies, -1.5).is_metal
    assert band_gap(np.array([[[-MIN_GAP / 4, MIN_GAP / 4]]]), 0.0).is_metal
    assert band_gap(energies, 5.0) is None
    assert band_gap(energies, -5.0) is None


def test_bad_input(chain):
    h, s, atoms = chain(-1.0, -0.5)
    with pytest.raises(MatrixError, match=r"bands: .* the overlap S is needed"):
        bands(h, None, "GX", atoms)
    with pytest.raises(ConfigError, match="points among G, X of this one-dimensional cell, got 'GMKG'"):
        bands(h, s, "GMKG", atoms)
    with pytest.raises(ConfigError, match="needs the structure"):
        bands(h, s, "GX")
    with pytest.raises(StructureError, match="expected a crystal, got a molecule"):
        bands(h, s, "GX", molecule("H2"))
    with pytest.raises(MatrixError, match="Fermi level is not known"):
        _ = bands(h, s, "GX", atoms).relative
    with pytest.raises(MatrixError, match="less than 2 electrons, got 3"):
        bands(h, s, "GX", atoms, n_electrons=3)
    with pytest.raises(ConfigError, match="expected a k-mesh"):
        bands(h, s, explicit_path([[0, 0, 0]]), n_electrons=1)
    assert bands(h, s, [[0, 0, 0], [0.5, 0, 0]]).fermi_level is None


@pytest.mark.parametrize("level", [1.0, 0.2, 0.2 - 0.9 * MIN_GAP, 2.7, 2.7 + 0.9 * MIN_GAP])
def test_a_fermi_level_at_the_band_edge(level):
    """The Fermi level of a file may stand inside the edge by the digits that it is written with."""
    energies = np.array([[[-1.0, 2.9], [0.2, 2.7]]])
    gap = band_gap(energies, level)
    assert (gap.highest_occupied, gap.lowest_empty, gap.is_metal) == (0.2, 2.7, False)
    assert (gap.indirect, gap.direct) == pytest.approx((2.5, 2.5))


def test_a_band_that_crosses_the_fermi_level_by_more_is_a_metal():
    energies = np.array([[[-1.0, 2.9], [0.2, 2.7]]])
    assert band_gap(energies, 0.2 - 1.1 * MIN_GAP).is_metal
    assert band_gap(energies, 2.7 + 1.1 * MIN_GAP).is_metal
    assert band_gap(np.array([[[0.0, 1.0], [0.0, 1.0]], [[0.5, 1.5], [0.6, 1.4]]]), 0.55).is_metal


def test_magnesium_oxide_is_an_insulator(shared_data):
    """PySCF's Fermi level is the highest state of its mesh, 0.17 meV below the top of the band; the gap is DeepH-dock's."""
    sample = read(shared_data / "cases" / "06-fermi-level-at-band-edge" / "MgO")
    found = bands(sample.hamiltonian, sample.overlap, None, sample.structure, fermi_level=sample.fermi_level)
    assert found.gap.indirect == pytest.approx(2.522879, abs=1e-4)
    assert found.gap.is_direct
