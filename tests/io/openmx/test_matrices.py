"""Density and position matrices: electrons and band energy of the run, states of H and S, symmetry of the position."""

import numpy as np
import pytest
from tests.io.openmx.openmx_runs import crystal, random_operator, random_overlap, write_scfout

from harmose.core.graph import pair_vectors
from harmose.errors import FormatError
from harmose.io.disassembly import all_blocks
from harmose.io.openmx.log import read_log
from harmose.io.openmx.matrices import read_density_matrix, read_position_matrices
from harmose.io.openmx.openmx import read_openmx
from harmose.io.openmx.run import OPENMX, OPENMX_BOHR
from harmose.physics.crystal_density import crystal_density, electrons
from harmose.physics.kmesh import kmesh
from harmose.physics.occupations import BOLTZMANN, FermiDirac
from harmose.spin import Spin
from harmose.units import HARTREE

CRYSTAL = crystal()


def band_energy(h, d) -> float:
    """sum_R Tr(D(R) H(R)^dagger) in Hartree."""
    weights = np.repeat(d.multiplicity, np.diff(d.offsets))
    return float((np.real(d.values * h.values.conj()) * weights).sum()) / HARTREE


def check_density(folder) -> None:
    sample, d = read_openmx(folder), read_density_matrix(folder)
    log = read_log(next(folder.glob("*.out")))
    assert log is not None
    assert sample.overlap is not None
    assert electrons(d, sample.overlap) == pytest.approx(sample.n_electrons, abs=1e-8)
    assert band_energy(sample.hamiltonian, d) == pytest.approx(log.history[-1][1], abs=1e-11)


@pytest.mark.parametrize("name", ["h2o", "oh-col", "oh-nc"])
def test_density_of_molecules(kept_molecules, name):
    """The sum over D and H is OpenMX's band energy to its last digit: no sign and no conjugate can be another one."""
    check_density(kept_molecules / name)


@pytest.mark.parametrize("name", ["openmx-graphene", "openmx-fe-col", "openmx-bisb-soc", "openmx-385-small-graphene"])
def test_density_of_crystals(runs, name):
    check_density(runs / name)


@pytest.mark.parametrize("spin", list(Spin))
def test_density_of_every_spin(tmp_path, spin):
    h, d = (random_operator(CRYSTAL, spin, seed) for seed in (3, 8))
    path = write_scfout(tmp_path / "run.scfout", CRYSTAL, h, random_overlap(CRYSTAL), d)
    np.testing.assert_allclose(read_density_matrix(path).values, d.values, atol=1e-14)


def test_density_from_our_states(runs):
    """The density matrix of a crystal with spin-orbit coupling is ours. OpenMX moves its mesh by 1e-6."""
    folder = runs / "openmx-small-bisb-soc"
    sample = read_openmx(folder)
    mesh = kmesh((6, 6, 1), shifted=True, time_reversal=False)
    ours = crystal_density(sample.hamiltonian, sample.overlap, 30, mesh, FermiDirac(300 * BOLTZMANN))
    assert np.abs(ours.values - read_density_matrix(folder).values).max() < 1e-4


def test_density_without_its_imaginary_part(kept_molecules):
    with pytest.raises(
        FormatError, match=r"expected the imaginary part of the density matrix, got a file of OpenMX 3.8"
    ):
        read_density_matrix(kept_molecules / "385-oh-nc")


def test_position_of_known_elements(tmp_path):
    """OpenMX counts from the atom of the rows, we from the middle of both atoms."""
    h, s = random_operator(CRYSTAL, Spin.NONE, 3), random_overlap(CRYSTAL)
    known = [random_operator(CRYSTAL, Spin.NONE, seed, 0.1) for seed in (5, 6, 7)]
    order = np.lexsort([*all_blocks(s).keys.T[:0:-1], _away(all_blocks(s).keys), all_blocks(s).keys[:, 0]])
    tables = []
    for axis, operator in enumerate(known):
        blocks, overlap = all_blocks(operator, OPENMX), all_blocks(s, OPENMX)
        half = np.repeat(pair_vectors(CRYSTAL, blocks.keys)[:, axis] / 2, blocks.shapes.prod(axis=1))
        from_rows = (blocks.values[0] + half * overlap.values[0]) / OPENMX_BOHR
        tables.append(np.concatenate([from_rows[blocks.offsets[k] : blocks.offsets[k + 1]] for k in order]))
    path = write_scfout(tmp_path / "run.scfout", CRYSTAL, h, s, position=np.stack(tables))
    for ours, operator in zip(read_position_matrices(path), known):
        np.testing.assert_allclose(ours.values, operator.values, atol=1e-12)


def _away(keys: np.ndarray) -> np.ndarray:
    return (keys[:, 0] != keys[:, 1]) | keys[:, 2:].any(axis=1)


@pytest.mark.parametrize("name", ["h2o", "385-oh-nc", "oh-nc"])
def test_position_of_molecules(kept_molecules, name):
    """On site <s | z | p_z> is the same as <s | x | p_x>; a function of s has its centre at the atom."""
    x, y, z = read_position_matrices(kept_molecules / name)
    blocks = [operator.block(0, 0) for operator in (x, y, z)]
    # oxygen: 1s 2s 2p 3p 3d; p is y, z, x
    lengths = [blocks[0][0, 4], blocks[1][0, 2], blocks[2][0, 3]]
    np.testing.assert_allclose(lengths, lengths[0], atol=2e-4)
    assert abs(lengths[0]) > 0.1
    for block in blocks:
        np.testing.assert_allclose(block[:2, :2], 0, atol=2e-4)
