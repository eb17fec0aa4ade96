"""Systems to time: numbers of atoms, lattices."""

import numpy as np
import pytest

from harmose.bench.systems import DEFAULT, INTERLAYER, LATTICE, primitive, system, twisted
from harmose.core.structure import check_structure, neighbour_pairs
from harmose.errors import ConfigError

BOND = LATTICE / np.sqrt(3)


@pytest.mark.parametrize(
    ("name", "structures", "atoms"),
    [
        ("water-1", 1, 3),
        ("water-10", 10, 30),
        ("ethanol", 1, 9),
        ("butane", 1, 14),
        ("graphene-3x3", 1, 18),
        ("graphene-2x5", 1, 20),
        ("bilayer-2", 1, 76),
    ],
)
def test_systems(name, structures, atoms):
    made = system(name)
    assert (made.name, len(made.structures), made.n_atoms) == (name, structures, atoms)
    for structure in made.structures:
        check_structure(structure)
    again = system(name)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(made.structures, again.structures))
    assert system(name, "mine").model == "mine"


def test_default_systems():
    assert all(system(name).n_atoms for name in DEFAULT)


@pytest.mark.parametrize(
    "name", ["", "water", "water-0", "graphene-3", "graphene-3x-1", "bilayer-100", "benzene", "water-1\n"]
)
def test_other_names(name):
    with pytest.raises(ConfigError, match="--systems: expected some of water-N"):
        system(name)


@pytest.mark.parametrize(("m", "angle"), [(1, 21.787), (2, 13.174), (6, 5.086), (30, 1.085)])
def test_twisted_bilayer(m, angle):
    """Lopes dos Santos et al., Phys. Rev. Lett. 99, 256802 (2007): cos = (n^2 + 4 n m + m^2) / 2 (n^2 + n m + m^2)."""
    atoms, n = twisted(m), m + 1
    assert len(atoms) == 4 * (3 * m * m + 3 * m + 1)
    assert np.degrees(np.arccos((n * n + 4 * n * m + m * m) / (2 * (n * n + n * m + m * m)))) == pytest.approx(
        angle, abs=1e-3
    )
    half = len(atoms) // 2
    bonds = []
    for layer in (atoms[:half], atoms[half:]):
        i, j, _, distance = neighbour_pairs(layer, 1.2 * BOND)
        assert distance == pytest.approx(BOND, abs=1e-6)  # also across the boundary of the cell
        assert (np.bincount(np.concatenate([i, j]), minlength=half) == 3).all()
        first = np.flatnonzero((i == 0) | (j == 0))[0]
        vector = layer.get_distance(i[first], j[first], mic=True, vector=True)
        bonds.append(np.degrees(np.arctan2(vector[1], vector[0])))
    assert min((bonds[0] - bonds[1]) % 60, (bonds[1] - bonds[0]) % 60) == pytest.approx(angle, abs=1e-3)
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(INTERLAYER)


def test_graphene():
    _, _, _, distance = neighbour_pairs(primitive().repeat((3, 3, 1)), 1.2 * BOND)
    assert len(distance) == 27
    assert distance == pytest.approx(BOND)
