"""SIESTA's density matrix: that of a run, electrons and spins, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import harmose
from harmose.core.sample import Sample
from harmose.errors import FormatError, MatrixError
from harmose.io.siesta.density import write_density
from harmose.physics.kmesh import kmesh
from harmose.spin import Spin

sisl = pytest.importorskip("sisl")


def read(path: Path, sample: Sample):
    """sisl's matrix of a `.DM` file. The structure is not in it."""
    geometry = harmose.to_sisl(sample).geometry
    return sisl.io.siesta.dmSileSiesta(path).read_density_matrix(geometry=geometry)


def elements(matrix, component: int = 0) -> dict[tuple[int, ...], np.ndarray]:
    """Dense matrices of each cell."""
    n, lattice = matrix.no, matrix.geometry.lattice
    whole = matrix.tocsr(component).toarray().reshape(n, -1, n)
    return {tuple(cell): whole[:, lattice.sc_index(cell)] for cell in lattice.sc_off.tolist()}


def electrons(matrix, sample: Sample, component: int) -> float:
    """sum_R Tr(D(R) S(R)^T), with S between SIESTA's orbitals from sisl."""
    signed = replace(sample, hamiltonian=sample.overlap, spin=Spin.NONE, overlap=None)
    s, d = elements(harmose.to_sisl(signed)), elements(matrix, component)
    signs = np.concatenate([(-1.0) ** np.abs(np.arange(-l, l + 1)) for z in sample.structure.numbers.tolist()
                            for l in sample.basis.degrees(z)])  # fmt: skip
    return float(sum((d[cell] * s[cell] * signs[:, None] * signs).sum() for cell in d))


def test_density_of_silicon(shared_data, tmp_path):
    """Every element of SIESTA's own density matrix, to the tolerance of its SCF (1e-4)."""
    run = shared_data / "dft-outputs" / "siesta-Si"
    sample = harmose.read(run)
    write_density(tmp_path / "Si.DM", sample, 8.0, kmesh((8, 8, 8)))
    ours, theirs = elements(read(tmp_path / "Si.DM", sample)), elements(read(run / "Si.DM", sample))
    worst = max(np.abs(ours[cell] - d)[d != 0].max(initial=0.0) for cell, d in theirs.items())
    assert worst < 1e-5
    assert max(np.abs(d).max() for d in theirs.values()) > 0.4


def test_spins_of_iron(shared_data, tmp_path):
    """Up and down are two matrices in this order; a mesh of 3x3x3 is coarse, but iron has its moment on it."""
    sample = harmose.read(shared_data / "dft-outputs" / "siesta-Fe")
    write_density(tmp_path / "fe.DM", sample, sample.n_electrons, kmesh((3, 3, 3)))
    matrix = read(tmp_path / "fe.DM", sample)
    up, down = (electrons(matrix, sample, component) for component in (0, 1))
    assert up + down == pytest.approx(sample.n_electrons, abs=1e-6)
    assert 1.5 < up - down < 3.5


def test_molecule(water_sample, tmp_path):
    sample = water_sample(0)
    write_density(tmp_path / "w.DM", sample, 10.0, kmesh((1, 1, 1)))
    assert electrons(read(tmp_path / "w.DM", sample), sample, 0) == pytest.approx(10.0)


def test_refused(water_sample, tmp_path):
    sample = water_sample(0)
    with pytest.raises(MatrixError, match="overlap S is needed"):
        write_density(tmp_path / "w.DM", replace(sample, overlap=None), 10.0, kmesh((1, 1, 1)))
    h = sample.hamiltonian
    spinor = replace(h, values=np.zeros((4, h.values.shape[1]), complex), spin=Spin.SPINOR)
    with pytest.raises(FormatError, match=r"expected spin none or collinear for SIESTA's .DM, got a spinor"):
        write_density(tmp_path / "w.DM", replace(sample, hamiltonian=spinor, spin=Spin.SPINOR), 10.0, kmesh((1, 1, 1)))
    assert not list(tmp_path.iterdir())
