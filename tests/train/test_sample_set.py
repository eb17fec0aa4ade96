"""The samples that are fitted as a whole first."""

import numpy as np
import pytest

from harmose.representation.concatenation import block_irreps, concatenate, sample_graph
from harmose.train.sample_set import FEWEST, choose, describe


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_descriptors_do_not_depend_on_the_orientation(water_sample):
    sample = water_sample(0)
    turned = water_sample(0)
    turned.structure.rotate(40, (1, 2, 3))
    space = block_irreps(sample.basis)
    graphs = [sample_graph(x, space) for x in (sample, turned, water_sample(1))]
    first, second, third = describe(concatenate(space, graphs), len(space.elements))
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.abs(first - third).max() > 1e-3
    assert first[:2].tolist() == [2, 1]  # two hydrogen atoms, one oxygen atom


def test_no_kind_of_block_is_missing(rng):
    n = 1000
    blocks = np.column_stack([np.full(n, 5), np.zeros(n, int)])
    blocks[[17, 800], 1] = 3
    chosen = choose(rng.normal(size=(n, 4)).astype(np.float32), blocks, np.full(n, 10), 500)
    assert {17, 800} <= set(chosen.tolist())
    assert len(chosen) == 50
    assert blocks[chosen, 0].sum() >= FEWEST


def test_unusual_samples_are_chosen_beside_usual_ones(rng):
    x = rng.normal(size=(500, 3)).astype(np.float32)
    x[[3, 100, 400]] += 30 * np.eye(3, dtype=np.float32)
    chosen = choose(x, np.full((500, 1), 10), np.full(500, 10), 400)
    assert len(chosen) == 40
    assert {3, 100, 400} <= set(chosen.tolist())


def test_one_sample_that_is_larger_than_allowed():
    assert choose(np.zeros((3, 2), np.float32), np.ones((3, 1), int), np.full(3, 10**6), 100).tolist() == [0, 1, 2]
    assert len(choose(np.zeros((3, 2), np.float32), np.zeros((3, 0), int), np.full(3, 10**6), 100)) == 1
