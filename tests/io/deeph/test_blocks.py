"""Blocks of DeepH with and without spin, and the sample that they make."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from harmose.errors import FormatError
from harmose.io.assembly import zeros
from harmose.io.deeph.blocks import RawOperator, has_overlap, make_sample, spinful_entries, written_blocks
from harmose.io.disassembly import Blocks
from harmose.so3.conventions import E3NN
from harmose.spin import Spin

ATOMS = Atoms("HLi", [[0, 0, 0], [0, 0, 1.6]], cell=[20, 20, 20], pbc=True)
DEGREES = [{1: (0,), 3: (0, 1)}[z] for z in ATOMS.numbers.tolist()]
KEYS = np.array([[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
SHAPES = np.array([[1, 1], [4, 4], [1, 4], [4, 1]])


def hermitian(rng, spinful: bool) -> np.ndarray:
    """Entries of a Hermitian matrix of H and Li, block after block; complex if `spinful`."""
    size = 10 if spinful else 5
    h = rng.normal(size=(size, size)) + (1j * rng.normal(size=(size, size)) if spinful else 0)
    h = (h + h.conj().T) / 2
    cut = 2 if spinful else 1
    blocks = (h[:cut, :cut], h[cut:, cut:], h[:cut, cut:], h[cut:, :cut])
    return np.concatenate([block.ravel() for block in blocks])


def sample_of(entries: np.ndarray, spinful: bool, overlap: RawOperator | None = None):
    h = RawOperator("h.h5", KEYS, SHAPES * (1 + spinful), entries)
    return make_sample(Path("folder"), ATOMS, DEGREES, h, overlap, spinful, E3NN, None)


def test_blocks_without_spin():
    entries = hermitian(np.random.default_rng(0), spinful=False)
    sample = sample_of(entries, spinful=False)
    assert (sample.name, sample.spin, sample.basis.name) == ("folder", Spin.NONE, "deeph")
    assert [str(shell) for shell in sample.basis.shells[3]] == ["1s", "2p"]
    np.testing.assert_allclose(sample.hamiltonian.block(0, 1).ravel(), entries[17:21])
    assert not sample.structure.pbc.any()


def test_spinful_blocks_are_split_into_components():
    entries = hermitian(np.random.default_rng(1), spinful=True)
    sample = sample_of(entries, spinful=True)
    assert sample.spin is Spin.SPINOR
    whole = entries[4 + 64 :][:16].reshape(2, 8)  # block (0, 1): rows up, down; columns up (4), down (4)
    uu, ud, du, dd = sample.hamiltonian.block(0, 1)
    np.testing.assert_allclose(np.block([[uu, ud], [du, dd]]), whole)
    h, _ = written_blocks(replace(sample, overlap=zeros(ATOMS, sample.basis)), E3NN)
    order = [h.keys.tolist().index(key) for key in KEYS.tolist()]
    starts = 4 * h.offsets
    again = np.concatenate([spinful_entries(h)[starts[k] : starts[k + 1]] for k in order])
    np.testing.assert_allclose(again, entries)


def test_real_blocks_without_coupling_are_collinear():
    rng = np.random.default_rng(2)
    up, down = hermitian(rng, spinful=False), hermitian(rng, spinful=False)
    entries = spinful_entries(Blocks(KEYS, SHAPES, np.stack([up, down])))
    assert len(entries) == 4 * len(up)
    sample = sample_of(entries, spinful=True)
    assert sample.spin is Spin.COLLINEAR
    np.testing.assert_allclose(sample.hamiltonian.block(0, 1).reshape(2, -1), [up[17:21], down[17:21]])


def test_wrong_shapes_and_atoms():
    entries = hermitian(np.random.default_rng(3), spinful=False)
    with pytest.raises(FormatError, match=r"h\.h5: expected block \(i=0, j=0, R=\[0, 0, 0\]\) of shape \(2, 2\)"):
        make_sample(Path("x"), ATOMS, DEGREES, RawOperator("h.h5", KEYS, SHAPES, entries), None, True, E3NN, None)
    far = KEYS + np.array([0, 5, 0, 0, 0])
    with pytest.raises(FormatError, match=r"expected blocks of 2 atoms .*, got one of atoms 0 and 5 in cell"):
        make_sample(Path("x"), ATOMS, DEGREES, RawOperator("h.h5", far, SHAPES, entries), None, False, E3NN, None)


def test_overlap_file(tmp_path):
    path = tmp_path / "overlap.h5"
    assert not has_overlap(path, orthogonal=True)
    with pytest.raises(FormatError, match=r"expected overlap\.h5 beside H, got H without S"):
        has_overlap(path, orthogonal=False)
    path.touch()
    assert has_overlap(path, orthogonal=False)
