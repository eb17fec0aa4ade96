"""The density matrix of crystals: its electrons, its energy, its folding; and that of a molecule."""

import numpy as np
import pytest

from harmose.errors import MatrixError
from harmose.physics.bloch import bloch_sum
from harmose.physics.crystal_density import crystal_density, electrons
from harmose.physics.density import density_from_dense
from harmose.physics.kmesh import kmesh
from harmose.physics.occupations import ROOM_TEMPERATURE, Gaussian, occupations
from harmose.physics.states import energies_at, mesh_fermi_level
from harmose.spin import Spin


@pytest.mark.parametrize("smearing", [ROOM_TEMPERATURE, Gaussian(0.3)])
def test_electrons_and_band_energy_of_graphene(graphene, smearing):
    """Tr(D S) = N and Tr(D H) = sum of occupied energies, both per cell and over R only."""
    sample, mesh = graphene("pristine_1x1"), kmesh((9, 9, 1))
    h, s = sample.hamiltonian, sample.overlap
    d = crystal_density(h, s, 8, mesh, smearing)
    assert electrons(d, s) == pytest.approx(8, abs=1e-7)
    energies, level = energies_at(h, s, mesh.kpoints), mesh_fermi_level(h, s, mesh, 8, smearing)
    band_energy = 2 * mesh.weights @ (occupations(energies, level, smearing) * energies).sum(axis=1)
    assert electrons(d, h) == pytest.approx(band_energy, abs=1e-7)


def test_half_of_the_mesh_gives_the_same_density(graphene):
    sample = graphene("pristine_1x1")
    half, whole = (
        crystal_density(sample.hamiltonian, sample.overlap, 8, kmesh((4, 3, 1), True, time_reversal)).values
        for time_reversal in (True, False)
    )
    np.testing.assert_allclose(half, whole, atol=1e-10)


def test_density_of_a_supercell(graphene):
    """Blocks of the same pair of neighbours; 15x15 points of the cell are 5x5 of the 3x3 cell. CP2K's grids differ."""
    small, large = graphene("pristine_1x1"), graphene("pristine_3x3")
    d = crystal_density(small.hamiltonian, small.overlap, 8, (15, 15, 1))
    folded = crystal_density(large.hamiltonian, large.overlap, 72, (5, 5, 1))
    assert electrons(folded, large.overlap) == pytest.approx(72, abs=1e-6)
    for i, j in ((0, 0), (0, 1)):
        np.testing.assert_allclose(folded.block(i, j), d.block(i, j), atol=1e-4)


def test_density_of_a_molecule(water_sample):
    sample = water_sample(1)
    expected = density_from_dense(sample.hamiltonian.dense(), sample.overlap.dense(), 10)
    found = crystal_density(sample.hamiltonian, sample.overlap, 10, (1, 1, 1))
    np.testing.assert_allclose(found.dense(), expected, atol=1e-9)


def test_density_of_a_full_band(chain, with_spin):
    """Full bands without overlap: D = identity, whatever the hopping."""
    h, s, _ = chain(0, 0)
    both = with_spin(h, Spin.COLLINEAR, [[-1.5, 0.25], [0.5, -0.25]])
    d = crystal_density(both, s, 1, (12, 1, 1))
    np.testing.assert_allclose(d.values, [[1, 0], [0, 0]], atol=1e-8)
    assert electrons(d, s) == pytest.approx(1)


def test_density_of_a_half_filled_chain(chain):
    """D(R) = 2 sin(pi R / 2) / (pi R): 1 on site, 2 / pi to the neighbour."""
    h, s, _ = chain(0.0, -1.0)
    d = crystal_density(h, s, 1, (2000, 1, 1), Gaussian(1e-3))
    np.testing.assert_allclose(d.values, [[1.0, 2 / np.pi]], atol=1e-5)


def test_spinor_density_in_a_field(chain, with_spin):
    """H = B . sigma with B = (0, 0.4, 0) and one electron: D = (1 - sigma_y) / 2."""
    h, s, _ = chain(0, 0)
    band, field = np.array([0.0, -0.1]), np.array([-0.4j, 0.0])
    spinor = with_spin(h, Spin.SPINOR, [band, field, field.conj(), band])
    d = crystal_density(spinor, s, 1, (8, 1, 1), Gaussian(0.02))
    np.testing.assert_allclose(d.values[:, 0], [0.5, 0.5j, -0.5j, 0.5], atol=1e-8)
    assert electrons(d, s) == pytest.approx(1)
    with pytest.raises(MatrixError, match="whole mesh for a spinor"):
        crystal_density(spinor, s, 1, kmesh((8, 1, 1)))


def test_spinor_density_is_that_of_its_bloch_sum(chain, with_spin):
    """D(k) = sum_R exp(2 pi i k R) D(R) holds where D(R) beyond the graph vanishes: for full bands with overlap 0."""
    h, s, _ = chain(0, 0)
    rng = np.random.default_rng(1)
    hop = rng.normal(size=4) * 0.2 + 0.2j * rng.normal(size=4)
    onsite = np.array([-1.0, 0.3 - 0.2j, 0.3 + 0.2j, 1.0])
    spinor = with_spin(h, Spin.SPINOR, np.column_stack([onsite, hop]))
    mesh = kmesh((3, 1, 1), time_reversal=False)  # R = -1, 0, 1: as many cells as points, so that nothing is lost
    d = crystal_density(spinor, s, 1, mesh, Gaussian(0.01))
    h_k, d_k = bloch_sum(spinor, mesh.kpoints), bloch_sum(d, mesh.kpoints)
    energies, vectors = np.linalg.eigh(h_k)
    level = mesh_fermi_level(spinor, s, mesh, 1, Gaussian(0.01))
    filled = occupations(energies, level, Gaussian(0.01))
    np.testing.assert_allclose(d_k, (vectors * filled[:, None, :]) @ vectors.conj().swapaxes(1, 2), atol=1e-8)


def test_bad_input(chain, graphene):
    h, s, _ = chain(0.0, -1.0)
    with pytest.raises(MatrixError, match="overlap S is needed"):
        crystal_density(h, None, 1, (4, 1, 1))
    with pytest.raises(MatrixError, match="less than 2 electrons"):
        crystal_density(h, s, 2.5, (4, 1, 1))
    with pytest.raises(MatrixError, match="same atoms and pairs"):
        electrons(h, graphene("pristine_1x1").overlap)
