"""Energies and orbitals in chunks of k-points, and meshes from their arguments."""

import numpy as np
import pytest

from harmose.errors import ConfigError, MatrixError
from harmose.physics import states
from harmose.physics.eigen import eigenvalues
from harmose.physics.kmesh import kmesh
from harmose.physics.states import check_overlap, energies_at, mesh_fermi_level, mesh_for, parse_mesh, states_at
from harmose.spin import Spin

KPOINTS = np.linspace(0, 0.5, 7)[:, None] * [1, 0, 0]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(states, "CHUNK", 3)


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR, Spin.SPINOR])
def test_chunks_are_the_whole(chain, with_spin, spin, small_chunks):
    h, s, _ = chain(-1.0, -0.5, 0.1)
    values = {Spin.NONE: [0], Spin.COLLINEAR: [0, 1], Spin.SPINOR: [0, 1, 1, 0]}[spin]
    h = with_spin(h, spin, [h.values[0] * (1 if k == 0 else 0.1) for k in values])
    expected = eigenvalues(h, s, KPOINTS)
    np.testing.assert_allclose(energies_at(h, s, KPOINTS), expected, atol=1e-12)
    chunks = list(states_at(h, s, KPOINTS))
    assert len(chunks) > 1
    for part, energies, c, overlap in chunks:
        np.testing.assert_allclose(energies, expected[..., part, :], atol=1e-12)
        norms = np.einsum("...ib,...ij,...jb->...b", c.conj(), overlap, c)
        np.testing.assert_allclose(norms, 1, atol=1e-12)


def test_the_fermi_level_of_a_half_filled_chain(chain):
    h, s, _ = chain(-3.0, -0.5)
    assert mesh_fermi_level(h, s, (12, 1, 1), 1) == pytest.approx(-3.0, abs=1e-6)


def test_spinors_have_the_whole_mesh(chain, with_spin):
    h, _, _ = chain(0.0, 1.0)
    spinor = with_spin(h, Spin.SPINOR, [h.values[0]] * 4)
    assert len(mesh_for(h, (4, 1, 1)).kpoints) == 3
    assert len(mesh_for(spinor, (4, 1, 1)).kpoints) == 4
    mesh = kmesh((2, 1, 1))
    assert mesh_for(spinor, mesh) is mesh


@pytest.mark.parametrize(("text", "size"), [("15x15x1", (15, 15, 1)), ("3,2,1", (3, 2, 1)), ("4", (4, 4, 4))])
def test_parse_mesh(text, size):
    assert parse_mesh(text) == size


@pytest.mark.parametrize("text", ["", "3x3", "axbxc", "-1x1x1", "1.5"])
def test_bad_meshes(text):
    with pytest.raises(ConfigError, match="k-mesh: expected a size such as 15x15x1"):
        parse_mesh(text)


def test_missing_overlap(chain):
    _, s, _ = chain(0.0, 1.0)
    assert check_overlap(s, "bands") is s
    with pytest.raises(MatrixError, match="bands: the basis is not orthogonal"):
        check_overlap(None, "bands")
