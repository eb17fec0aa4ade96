"""PETSc's files have the documented layout and the eigenvalues of the sample."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import eigvalsh

from harmose.core.blocks import BlockMatrix
from harmose.errors import FormatError
from harmose.io.files import write
from harmose.io.petsc import write_petsc
from harmose.physics.bloch import bloch_sum
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin


def read(path: Path, is_complex: bool = False) -> sparse.csr_matrix:
    """Read a matrix like PETSc's MatLoad: one big-endian number after another."""
    data = path.read_bytes()
    class_id, rows, cols, size = struct.unpack_from(">4i", data)
    assert class_id == 1211216
    counts = struct.unpack_from(f">{rows}i", data, 16)
    indices = struct.unpack_from(f">{size}i", data, 16 + 4 * rows)
    start, n = 16 + 4 * rows + 4 * size, size * (2 if is_complex else 1)
    assert len(data) == start + 8 * n
    values = np.array(struct.unpack_from(f">{n}d", data, start))
    values = values[::2] + 1j * values[1::2] if is_complex else values
    return sparse.csr_matrix((values, indices, np.concatenate([[0], np.cumsum(counts)])), shape=(rows, cols))


@pytest.mark.parametrize("k", [(0.0, 0.0, 0.0), (1 / 3, 1 / 3, 0.0)])
def test_matrices(graphene, tmp_path, k):
    sample = graphene("pristine_1x1")
    write_petsc(tmp_path / "out", sample, k)
    h, s = (read(tmp_path / "out" / f"{name}.petsc", any(k)) for name in "HS")
    np.testing.assert_allclose(h.toarray(), bloch_sum(sample.hamiltonian, k)[0], atol=1e-12)
    expected = eigenvalues(sample.hamiltonian, sample.overlap, k)[0]
    np.testing.assert_allclose(eigvalsh(h.toarray(), s.toarray()), expected, atol=1e-9)


def test_spins(graphene, tmp_path):
    sample = graphene("pristine_1x1")
    h = sample.hamiltonian
    for spin, names in ((Spin.COLLINEAR, {"H.up", "H.dn", "S"}), (Spin.SPINOR, {"H", "S"})):
        values = np.repeat(h.values, spin.n_components, axis=0).astype(spin.dtype)
        if spin is Spin.SPINOR:
            values[1:3] = 0
        matrix = BlockMatrix(h.basis, h.numbers, h.pairs, values, spin)
        write(tmp_path / spin, replace(sample, hamiltonian=matrix, spin=spin), "petsc")
        assert {file.stem for file in (tmp_path / spin).iterdir()} == names
        size = 52 if spin is Spin.SPINOR else 26
        assert read(tmp_path / spin / "S.petsc").shape == (size, size)


def test_existing_folder_is_kept(graphene, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FormatError):
        write_petsc(tmp_path / "out", graphene("pristine_1x1"))
