"""Novelty: blind to rotations and order, small for what is like the training set, large for what is not."""

import numpy as np
import pytest
from ase import Atoms

from harmose.core.graph import build_graph
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training_domain import OOD_LIMIT, features, fit_training_domain
from harmose.representation.block_irreps import BlockIrreps
from harmose.so3.wigner import random_rotation


@pytest.fixture(scope="module")
def space(water_basis):
    return BlockIrreps(water_basis, 2)


def seen(space, atoms: Atoms, z: int) -> np.ndarray:
    oriented = space.orient(build_graph(atoms, space.basis))
    return features(Neighbourhoods(space, oriented), np.flatnonzero(atoms.numbers == z))


@pytest.fixture(scope="module")
def oxygen(space, water_atoms):
    """What the oxygen of forty waters looks like."""
    x = np.concatenate([seen(space, water_atoms(seed), 8) for seed in range(40)])
    return fit_training_domain(x, np.arange(40))


def test_it_does_not_see_rotation_or_order(space, water_atoms):
    atoms = water_atoms(3)
    turned = atoms[[2, 0, 1]]
    turned.positions = turned.positions @ random_rotation(np.random.default_rng(0)).T
    np.testing.assert_allclose(seen(space, turned, 8), seen(space, atoms, 8), atol=1e-10)


def test_waters_it_has_not_seen_are_familiar(space, water_atoms, oxygen):
    found = [oxygen.ood_score(seen(space, water_atoms(seed), 8))[0] for seed in range(100, 130)]
    assert np.median(found) < 1
    assert max(found) < OOD_LIMIT


def test_other_surroundings_are_not(space, water_atoms, oxygen):
    atoms = water_atoms(100)
    stretched = atoms.copy()
    stretched.positions = atoms.positions[0] + 1.3 * (atoms.positions - atoms.positions[0])
    pair = atoms + Atoms("H", [atoms.positions[0] + [0, 0, 2.5]])
    for other in (stretched, pair, atoms[[0]], atoms[[0, 1]]):
        assert oxygen.ood_score(seen(space, other, 8))[0] > OOD_LIMIT


def test_one_sample_says_nothing_of_others(space, water_atoms):
    assert fit_training_domain(seen(space, water_atoms(0), 8), np.zeros(1)) is None
