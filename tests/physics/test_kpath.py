"""Special points and paths against ASE's, seekpath's and geometry."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.cell import Cell
from scipy.spatial.transform import Rotation

from harmose.errors import ConfigError, MatrixError, StructureError
from harmose.physics.kpath import explicit_path, kpath, reciprocal_vectors, special_points

HEXAGON = graphene(a=2.46, vacuum=6.0)
HEXAGON.pbc = (True, True, False)


@pytest.mark.parametrize(
    "structure", [bulk("Si"), bulk("Fe"), bulk("Mg"), bulk("NaCl", "rocksalt", a=5.6, cubic=True), HEXAGON]
)
def test_usual_path_points_and_lengths_are_those_of_ase(structure):
    expected = Cell(structure.cell.array).bandpath(npoints=100, pbc=structure.pbc)
    x, ticks, labels = expected.get_linear_kpoint_axis()
    found = kpath(structure, points=100)
    # where we write "U|K" once, ASE has both labels at one place
    places = [(label, tick) for both, tick in zip(found.labels, found.ticks) for label in both.split("|")]
    assert [label for label, _ in places] == labels
    np.testing.assert_allclose([tick for _, tick in places], ticks, atol=1e-9)
    assert found.x[-1] == pytest.approx(x[-1])
    assert abs(len(found.kpoints) - 100) <= len(labels)
    for name, point in expected.special_points.items():
        np.testing.assert_allclose(special_points(structure)[name], point, atol=1e-12)


def test_labels_are_where_their_points_are():
    found, known = kpath(HEXAGON, "GMKG"), special_points(HEXAGON)
    assert found.labels == ("G", "M", "K", "G")
    for tick, label in zip(found.ticks, found.labels):
        np.testing.assert_allclose(found.kpoints[np.argmin(np.abs(found.x - tick))], known[label], atol=1e-12)
    # |Gamma M| = 2 pi / (sqrt(3) a), |M K| = 2 pi / 3 a, |K Gamma| = 4 pi / 3 a
    lengths = 2 * np.pi / 2.46 * np.array([1 / np.sqrt(3), 1 / 3, 2 / 3])
    np.testing.assert_allclose(np.diff(found.ticks), lengths, rtol=1e-6)


def test_steps_and_density():
    found = kpath(HEXAGON, "GMKG", density=50)
    steps = np.linalg.norm(np.diff(found.kpoints, axis=0) @ reciprocal_vectors(HEXAGON), axis=1)
    np.testing.assert_allclose(np.diff(found.x), steps, atol=1e-9)
    assert np.all(np.abs(steps - 1 / 50) < 1e-3)
    assert len(kpath(HEXAGON, "GMKG", points=301).kpoints) == 301


def test_a_jump_has_no_length():
    found = kpath(HEXAGON, "GM,KG", density=10)
    assert found.labels == ("G", "M|K", "G")
    jump = np.argmin(np.diff(found.x))
    assert found.x[jump] == found.x[jump + 1] == found.ticks[1]
    np.testing.assert_allclose(found.kpoints[jump : jump + 2], [[0.5, 0, 0], [1 / 3, 1 / 3, 0]], atol=1e-9)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [0, 2, 1]])
def test_orientation_of_a_layer(order):
    turn = Rotation.random(random_state=4).as_matrix()
    layer = Atoms("C2", HEXAGON.positions @ turn.T, cell=(HEXAGON.cell.array @ turn.T)[order], pbc=HEXAGON.pbc[order])
    if np.linalg.det(layer.cell.array) < 0:
        layer.cell[2 if order[0] == 0 else 0] *= -1
    found = kpath(layer, "GMKG")
    np.testing.assert_allclose(found.ticks, kpath(HEXAGON, "GMKG").ticks, rtol=1e-9)
    assert not found.kpoints[:, ~layer.pbc].any()


def test_wire():
    wire = Atoms("H", cell=[3.0, 9, 2.0], pbc=(False, False, True))
    found = kpath(wire)
    assert found.labels == ("G", "X")
    np.testing.assert_allclose(found.kpoints[-1], [0, 0, 0.5])
    assert found.x[-1] == pytest.approx(np.pi / 2)


def test_seekpath():
    pytest.importorskip("seekpath")
    found, usual = kpath(bulk("Si"), "seekpath"), kpath(bulk("Si"))
    assert found.labels[:3] == ("G", "X", "U|K")
    assert found.ticks[1] == pytest.approx(usual.ticks[1])  # from Gamma to X either way
    with pytest.raises(ConfigError, match="three-dimensional"):
        kpath(HEXAGON, "seekpath")


def test_list_of_points():
    k = [[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]]
    np.testing.assert_allclose(explicit_path(k, Atoms("H", cell=[2, 2, 2], pbc=True)).x, [0, np.pi / 4, np.pi / 2])
    np.testing.assert_allclose(explicit_path(k).x, [0, 1, 2])
    with pytest.raises(MatrixError, match="fractional coordinates"):
        explicit_path([[0, 0]])


@pytest.mark.parametrize("path", ["GXG", "", "GM1", "gmk", "G-M", "Γ", "1G", ",", "G M"])
def test_unknown_points(path):
    with pytest.raises(ConfigError, match=f"points among G, K, M of this two-dimensional cell, got '{path}'"):
        kpath(HEXAGON, path)


def test_bad_input():
    with pytest.raises(StructureError, match=r"expected a crystal, got a molecule \(H2O, no periodic direction\)"):
        kpath(molecule("H2O"), "GX")
    with pytest.raises(StructureError, match="independent lattice vectors"):
        kpath(Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True))
    with pytest.raises(ConfigError, match="2 to 100000 points, got 1"):
        kpath(HEXAGON, points=1)
    with pytest.raises(ConfigError, match="at most 100000 points, got"):
        kpath(HEXAGON, density=1e9)
    with pytest.raises(ConfigError, match="positive number of points"):
        kpath(HEXAGON, density=-1)
