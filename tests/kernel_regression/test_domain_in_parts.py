"""A training domain that is fitted in parts against one that is fitted to the whole."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.kernel_regression.domain_in_parts import DomainFit
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training_domain import fit_training_domain


def fit(parts, n_species=2):
    found = DomainFit(n_species)
    for visit in (found.add, found.measure):
        for part in parts:
            visit(Neighbourhoods(part.space, part.oriented), part.atom_sample)
    return found.domain()


def waters(make_training, seeds):
    part = make_training(seeds)
    return replace(part, atom_sample=np.array(seeds)[part.atom_sample])


@pytest.mark.parametrize("n_parts", [1, 3])
def test_parts_give_the_domain_of_the_whole(make_training, n_parts):
    whole = waters(make_training, list(range(25)))
    expected = fit_training_domain(Neighbourhoods(whole.space, whole.oriented), whole.atom_sample)
    found = fit([waters(make_training, part.tolist()) for part in np.array_split(np.arange(25), n_parts)])
    new = make_training(range(100, 110))
    graph = Neighbourhoods(new.space, new.oriented)
    np.testing.assert_allclose(found.scores(graph), expected.scores(graph), rtol=1e-3)
    np.testing.assert_allclose(found.contacts.ranges, expected.contacts.ranges, atol=1e-12)


def test_a_group_in_several_parts_is_one_group(make_training):
    """Two halves of each water's copies: ranges count groups, and a group's extremes are those of both halves."""
    parts = [waters(make_training, list(range(10))), waters(make_training, list(range(10)))]
    np.testing.assert_allclose(fit(parts).contacts.ranges, fit(parts[:1]).contacts.ranges, atol=1e-12)


def test_one_sample_has_no_domain(make_training):
    found = fit([waters(make_training, [3])])
    assert not found.species
    assert found.contacts is None
