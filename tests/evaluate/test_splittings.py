"""Spin-orbit splittings: a chain with Rashba coupling in closed form, and OpenMX's own bands of BiSb."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.evaluate.band_metrics import compare_bands
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.metrics import evaluate
from harmose.evaluate.splittings import compare_splittings, splittings
from harmose.io.openmx.band_file import read_band_file
from harmose.physics.bands import Bands, bands
from harmose.spin import Spin

K = np.column_stack([np.linspace(0, 0.5, 9), np.zeros((9, 2))])
WINDOW = (-1.0, 1.0)


def rashba(coupling: float, spin: Spin = Spin.SPINOR) -> Sample:
    """A chain of s orbitals with H(k) = 0.2 cos(2 pi k) + 2 coupling sin(2 pi k) sigma_z in eV, half filled."""
    basis = BasisSet("s", {6: (Shell(1, 0),)}, {6: 1.5})
    atoms = Atoms("C", [[0, 0, 0]], cell=np.diag([2.0, 9, 9]), pbc=(True, False, False))
    graph = build_graph(atoms, basis)
    up, down, none = [0.0, 0.1 - 1j * coupling], [0.0, 0.1 + 1j * coupling], [0.0, 0.0]
    values = np.array([up, none, none, down]) if spin is Spin.SPINOR else np.array([[0.0, 0.1]])
    h = BlockMatrix(basis, graph.numbers, graph.pairs, values, spin)
    s = BlockMatrix(basis, graph.numbers, graph.pairs, np.array([[1.0, 0.0]]))
    return Sample("chain", atoms, basis, h, s, spin=spin, n_electrons=1.0)


def along(sample: Sample) -> Bands:
    return bands(sample.hamiltonian, sample.overlap, K, fermi_level=0.0)


def test_closed_form():
    expected = 4 * 0.03 * np.sin(2 * np.pi * K[:, 0])
    np.testing.assert_allclose(splittings(along(rashba(0.03)))[:, 0], expected, atol=1e-12)


def test_errors():
    dft, predicted = along(rashba(0.03)), along(rashba(0.0306))
    found = compare_splittings(predicted.shifted(5.0), dft, WINDOW)
    assert found is not None
    assert found.relative == pytest.approx(0.02)
    assert found.worst == pytest.approx(4 * 0.0006)
    assert found.size == pytest.approx(splittings(dft).mean())
    assert found.n == len(K)
    narrow = compare_splittings(predicted, dft, (0.1, 1.0))  # cos(2 pi k) above a half
    assert narrow is not None
    assert narrow.n == 3


def test_nothing_to_compare():
    dft = along(rashba(0.03))
    assert compare_splittings(dft, dft, (5.0, 6.0)) is None
    assert compare_splittings(dft, along(rashba(0.0)), WINDOW) is None
    one = along(rashba(0.0, Spin.NONE))
    assert compare_splittings(one, one, WINDOW) is None


def test_rows_of_the_evaluation():
    sample, other = rashba(0.03), rashba(0.0306)
    full = evaluate([Prediction(sample, {"full": other.hamiltonian})]).full
    errors = compare_bands(along(other), replace(along(sample), fermi_level=0.0))
    assert errors.splittings is not None
    assert full.splittings_relative == pytest.approx(0.02)
    assert full.splittings is not None
    assert full.splittings > 0


def test_own_bands_of_openmx(shared_data):
    """Splittings of the matrices are those of the code's own bands: none at M, 0.67 eV at most at K."""
    folder = shared_data / "crystals" / "bisb-soc" / "bisb_1x1"
    sample, theirs = harmose.read(folder), read_band_file(folder / "bisb_1x1.Band", spinor=True)
    ours = bands(sample.hamiltonian, sample.overlap, theirs.kpoints, fermi_level=sample.fermi_level)
    found = compare_splittings(ours, theirs, (-20.0, 20.0))
    assert found is not None
    assert found.worst < 1e-7
    np.testing.assert_allclose(splittings(theirs)[[0, 14]], 0, atol=1e-7)
    assert found.size == pytest.approx(0.2, abs=0.1)
