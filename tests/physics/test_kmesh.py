"""Meshes against ASE's Monkhorst-Pack points, and sums over them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.dft.kpoints import monkhorst_pack

from harmose.errors import ConfigError, StructureError
from harmose.physics.kmesh import kmesh, mesh_size, monkhorst_pack_mesh


def as_set(kpoints: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(k) for k in np.round(kpoints % 1, 9) % 1}


@pytest.mark.parametrize("size", [(3, 5, 1), (4, 2, 6), (1, 1, 1)])
def test_points_are_those_of_ase(size):
    """ASE's mesh has Gamma for odd sizes; for even ones it is the shifted mesh."""
    assert as_set(kmesh(size, shifted=size[0] == 4, time_reversal=False).kpoints) == as_set(monkhorst_pack(size))
    gamma = np.stack(np.meshgrid(*(np.arange(n) / n for n in size), indexing="ij"), axis=-1).reshape(-1, 3)
    assert as_set(kmesh(size, time_reversal=False).kpoints) == as_set(gamma)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(3, 5, 1), (4, 2, 6), (1, 1, 1), (2, 1, 1)])
def test_reduced_meshes_sum_even_functions(size, shifted):
    whole, half = kmesh(size, shifted, time_reversal=False), kmesh(size, shifted)
    assert whole.weights.sum() == pytest.approx(1)
    assert half.weights.sum() == pytest.approx(1)
    assert not whole.is_reduced
    # any function of k mod 1 with f(k) = f(-k)
    even = lambda k: np.cos(2 * np.pi * k @ [1, 3, 2]) + np.cos(2 * np.pi * k @ [2, -1, 1]) ** 2  # noqa: E731
    assert half.weights @ even(half.kpoints) == pytest.approx(whole.weights @ even(whole.kpoints), abs=1e-12)
    np.testing.assert_allclose(even(half.kpoints)[half.of_full], even(whole.kpoints)[whole.of_full], atol=1e-12)
    assert as_set(np.concatenate([half.kpoints, -half.kpoints])) == as_set(whole.kpoints)
    assert len(half.kpoints) <= len(whole.kpoints) // 2 + 4


@pytest.mark.parametrize("size", [(3, 2, 1), (4, 4, 1), (1, 3, 5)])
def test_monkhorst_pack(size):
    mesh, half = monkhorst_pack_mesh(size, time_reversal=False), monkhorst_pack_mesh(size)
    assert as_set(mesh.kpoints) == as_set(monkhorst_pack(size))
    assert as_set(np.concatenate([half.kpoints, -half.kpoints])) == as_set(mesh.kpoints)
    assert half.weights.sum() == pytest.approx(1)
    assert len(half.kpoints) == (np.prod(size) + 1) // 2


def test_order_of_the_whole_mesh():
    mesh = kmesh((2, 3, 4), time_reversal=False)
    grid = mesh.kpoints[mesh.of_full].reshape(2, 3, 4, 3) % 1
    np.testing.assert_allclose(grid[1, 2, 3], [1 / 2, 2 / 3, 3 / 4])


def test_mesh_size():
    atoms = Atoms("H", cell=[3.0, 6.0, 20.0], pbc=(True, True, False))
    assert mesh_size(atoms, spacing=0.3) == (9, 6, 1)  # 6.98 and 3.49, to multiples of 3
    assert mesh_size(atoms, spacing=1.5) == (2, 1, 1)
    with pytest.raises(StructureError, match="k-mesh: expected a crystal"):
        mesh_size(molecule("H2"))
    with pytest.raises(ConfigError, match="positive spacing"):
        mesh_size(atoms, 0.0)


@pytest.mark.parametrize("size", [(3, 3), (0, 1, 1), (1.5, 1, 1), (10**4, 10**4, 1)])
def test_bad_sizes(size):
    with pytest.raises(ConfigError, match="three positive whole numbers"):
        kmesh(size)
