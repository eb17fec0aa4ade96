"""Corrections: what they add, how they fade, and what the sum's weights and standard deviations are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmose.kernel_regression.contacts import ContactLengths
from harmose.kernel_regression.correction import corrected, relative_std
from harmose.kernel_regression.fading import NO_FADE, Fade, fit_correction_fade
from harmose.kernel_regression.training_domain import SpeciesDomain, TrainingDomain, from_state, to_state
from harmose.representation.concatenation import block_irreps


def test_the_weight_falls_with_the_fourth_power_beyond_the_cutoff():
    fade = Fade(gain=1e12, cutoff=2.0)
    np.testing.assert_allclose(fade.weight(np.array([0.0, 2.0, 20.0])), [1, 1 / 2, 1 / (1 + 1e4)], rtol=1e-9)
    # without one nothing changes, to the last digit
    v = np.geomspace(1e-3, 1e3, 50)
    usual = Fade(0.3, 1.0, 40.0, 0.1, 0.5, 2.0, 3.0)
    own, simple = (1 + 0.3 * v), 40.0 * (1 + 0.1 * (v / (1 + v / 2.0))) ** 0.5
    np.testing.assert_array_equal(usual.weight(v), 1 / (1 + own / (3.0 * simple)))
    assert (NO_FADE.weight(v) == 1).all()


def test_the_error_of_the_sum_is_that_of_the_rest_where_the_correction_has_faded():
    generator = np.random.default_rng(0)
    v, far = generator.uniform(0.1, 1, 500), generator.uniform(1, 2, 100)
    errors, before = (x * generator.normal(size=500) ** 2 for x in (0.01, 1.0))
    fade = fit_correction_fade(errors, v, 0.01 * generator.normal(size=100) ** 2, far, before)
    assert fade.simple_growth == 0
    assert fade.cutoff == pytest.approx(np.quantile(v, 0.9))
    std = relative_std(fade.std(np.array([0.1, 1e4, 0.1])), np.array([3, 3, 5]), {3: fade})
    assert std[0] == pytest.approx(0.1, rel=0.2)  # a tenth of the error before
    assert std[1] == pytest.approx(1, rel=1e-3)
    assert std[2] == 1  # a species that the correction leaves as it is


def test_corrections_are_added_to_some_rows():
    before = torch.ones(3, 1, 2, dtype=torch.float64), np.array([0.5, 0.5, 1.0]), np.array([2.0, 2.0, 2.0])
    own = torch.full((2, 1, 2), 0.25, dtype=torch.float64), np.array([1.0, 0.0]), np.array([1.0, 4.0])
    fades = {7: Fade(gain=16.0)}
    values, weights, std = corrected(before, own, np.array([7, 7]), fades, np.array([0, 2]))
    assert values[:, 0, 0].tolist() == [1.25, 1.0, 1.25]
    assert weights.tolist() == [1.0, 0.5, 1.0]
    assert std.tolist() == [0.5, 2.0, 2.0]
    assert before[0].eq(1).all()  # nothing is changed in place
    assert before[1].tolist() == [0.5, 0.5, 1.0]


def test_an_atom_is_as_far_as_from_the_nearest_domain(water_basis):
    """Ranges of contacts are joined where both are known."""
    first, second = np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 2, 2))
    first[0, 0, 0], second[0, 0, 0] = (0.9, 1.2), (1.1, 1.5)
    second[0, 0, 1], first[1, 1, 1] = (1.0, 2.0), (2.0, 3.0)
    joined = ContactLengths(first).joined(ContactLengths(second)).ranges
    assert joined[0, 0, 0].tolist() == [0.9, 1.5]
    assert joined[0, 0, 1].tolist() == [1.0, 2.0]
    assert joined[1, 1, 1].tolist() == [2.0, 3.0]
    assert joined[1, 0, 0].tolist() == [0.0, 0.0]

    size = 2 * 4 * 20
    near, other = (
        TrainingDomain(
            {0: SpeciesDomain(np.full(size, x), np.eye(size, 3, dtype=np.float32), np.ones(1))}, ContactLengths(r)
        )
        for x, r in ((0.0, first), (1.0, second))
    )
    both = near.extended(other).extended(replace(other, contacts=None))
    space = block_irreps(water_basis)
    again = from_state(space, to_state(both))
    assert len(again.further) == 2
    np.testing.assert_array_equal(again.contacts.ranges, joined)
    np.testing.assert_array_equal(again.further[0].species[0].mean, 1.0)
    assert again.further[0].contacts is None
