"""Out-of-domain scores: the same for every orientation, small for environments like those of the training set."""

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.errors import ModelError
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.settings import RegressionSettings
from harmose.kernel_regression.training_domain import (
    CONTACTS,
    OOD_LIMIT,
    TrainingDomain,
    descriptors,
    fit_species_domain,
    fit_training_domain,
    from_state,
    to_state,
)
from harmose.representation.block_irreps import BlockIrreps
from harmose.so3.wigner import random_rotation


@pytest.fixture(scope="module")
def domain(training) -> TrainingDomain:
    """Forty waters."""
    return fit_training_domain(Neighbourhoods(training.space, training.oriented), training.atom_sample)


def test_descriptors_do_not_depend_on_orientation_and_order(neighbourhoods, water_atoms):
    atoms = water_atoms(3)
    turned = atoms[[2, 0, 1]]
    turned.positions = turned.positions @ random_rotation(np.random.default_rng(0)).T
    a = descriptors(neighbourhoods(atoms), np.array([0, 1, 2]))
    b = descriptors(neighbourhoods(turned), np.array([1, 2, 0]))
    np.testing.assert_allclose(a, b, atol=1e-10)


def test_new_waters_are_inside(neighbourhoods, water_atoms, domain):
    scores = np.array([domain.scores(neighbourhoods(water_atoms(seed))) for seed in range(100, 130)])
    assert np.median(scores) < 1
    assert (scores < OOD_LIMIT).mean() > 0.95


def test_other_environments_are_outside(neighbourhoods, water_atoms, domain):
    atoms = water_atoms(100)
    stretched = atoms.copy()
    stretched.positions = atoms.positions[0] + 1.3 * (atoms.positions - atoms.positions[0])
    four = atoms + Atoms("H", [atoms.positions[0] + [0, 0, 2.5]])
    for other in (stretched, four, atoms[[0]], atoms[[0, 1]]):
        assert domain.scores(neighbourhoods(other))[0] > OOD_LIMIT


def test_scores_of_some_atoms(neighbourhoods, water_atoms, domain):
    atoms = water_atoms(100)
    scores = domain.scores(neighbourhoods(atoms))
    few = neighbourhoods(atoms, settings=RegressionSettings(edges_of_atoms=1))
    np.testing.assert_allclose(domain.scores(few, np.array([2, 0])), scores[[2, 0]])


def test_one_sample_gives_no_statistics(neighbourhoods, water_atoms):
    x = descriptors(neighbourhoods(water_atoms(0)), np.array([1, 2]))
    assert fit_species_domain(x, np.zeros(2)) is None
    assert not TrainingDomain().scores(neighbourhoods(water_atoms(0))).any()


def test_round_trip(neighbourhoods, water_atoms, domain):
    graph = neighbourhoods(water_atoms(100))
    read = from_state(graph.space, to_state(domain))
    np.testing.assert_allclose(read.scores(graph), domain.scores(graph), rtol=1e-9)
    np.testing.assert_array_equal(read.contacts.ranges, domain.contacts.ranges)


def test_distances_to_neighbours(neighbourhoods, water_atoms, domain):
    """An O-H bond that breaks; models of older versions do not know distances."""
    atoms = water_atoms(100)
    assert not domain.contact_excess(neighbourhoods(atoms)).any()
    atoms.set_distance(0, 1, 1.9, fix=0)
    excess = domain.contact_excess(neighbourhoods(atoms))
    assert (excess[:2] > 0.5).all()
    np.testing.assert_array_equal(domain.contact_excess(neighbourhoods(atoms), np.array([2, 0])), excess[[2, 0]])
    older = from_state(neighbourhoods(atoms).space, {k: x for k, x in to_state(domain).items() if k != CONTACTS})
    assert not older.contact_excess(neighbourhoods(atoms)).any()
    assert fit_training_domain(neighbourhoods(atoms), np.zeros(3, dtype=int)).contacts is None


@pytest.mark.parametrize("state", [{"x.mean": torch.zeros(1)}, {"0.mean": torch.zeros(1)}, {"0.other": torch.zeros(1)}])
def test_damaged_tensors_are_refused(training, state):
    with pytest.raises(ModelError, match="the training domain is not complete"):
        from_state(training.space, state)


def test_a_domain_of_other_elements_is_refused(domain):
    shells = (Shell(1, 0),)
    other = BlockIrreps(BasisSet("other", dict.fromkeys((1, 6, 8), shells), dict.fromkeys((1, 6, 8), 4.0)), 0)
    with pytest.raises(ModelError, match="does not belong to the card: expected descriptors of 240 numbers"):
        from_state(other, {k: x for k, x in to_state(domain).items() if k != CONTACTS})
    with pytest.raises(ModelError, match="expected lengths of contacts of 3 elements"):
        from_state(other, to_state(domain))
