"""What makes errors grow is found, bounds hold for new samples, and nothing is stated that the samples cannot support."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.errors import ModelError
from harmose.uncertainty.calibration import Held, fit_blocks, fit_orbitals
from harmose.uncertainty.features import ErrorFeatures
from harmose.uncertainty.llpr import LastLayer
from harmose.uncertainty.orbitals import KINDS
from harmose.uncertainty.state import from_state, to_state

RIGIDITY = LastLayer({0: np.eye(3)}, {0: np.eye(2)})


def held(n: int, seed: int = 0, kinds=(-1, 0, 1)) -> list[Held]:
    """Errors size * novelty^1.2 * rigidity^0.5 * exp(0.3 distance) times lognormal numbers that blocks partly share."""
    rng, out = np.random.default_rng(seed), []
    for k in range(n):
        kind = rng.choice(kinds, size=30)
        ood_score = np.exp(rng.normal(size=30) * 0.5 + rng.normal() * 0.5)
        last_layer_std, distance = np.exp(rng.normal(size=30) - 2), rng.uniform(0, 5, size=30)
        features = ErrorFeatures(kind, np.full(30, 0.01) * (2.0 + kind), ood_score, last_layer_std, distance, ood_score[:3])
        error = features.size * ood_score**1.2 * last_layer_std**0.5 * np.exp(0.3 * distance)
        out.append(Held(f"g{k}", features, error * np.exp(0.4 * rng.normal(size=30) + 0.4 * rng.normal())))
    return out


def test_powers_are_found():
    found = fit_blocks(held(60), RIGIDITY)
    np.testing.assert_allclose(found.powers, [1.2, 0.5, 0.3], atol=0.08)
    assert found.n_groups == 60


def test_powers_that_errors_do_not_ask_for_are_near_zero():
    samples = [
        replace(x, error=x.features.size * np.exp(np.random.default_rng(k).normal(size=30)))
        for k, x in enumerate(held(60))
    ]
    assert np.abs(fit_blocks(samples, RIGIDITY).powers).max() < 0.1


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_new_samples_stay_within_their_bounds(level):
    found = fit_blocks(held(60), RIGIDITY)
    kept = np.mean([(x.error <= found.block_bounds(x.features, level)).mean() for x in held(300, seed=1)])
    assert level - 0.06 < kept < level + 0.06


def test_bounds_grow_with_novelty():
    found = fit_blocks(held(60), RIGIDITY)
    features = held(1, seed=2)[0].features
    far = replace(features, ood_score=20 * features.ood_score)
    assert (found.block_bounds(far, 0.9) > 10 * found.block_bounds(features, 0.9)).all()


def test_beyond_the_calibration_bounds_grow_in_proportion_and_are_outside():
    """Errors of these samples do not depend on rigidity at all; what lies a hundred times beyond is another matter."""
    samples = [
        replace(x, error=x.features.size * np.exp(np.random.default_rng(k).normal(size=30)))
        for k, x in enumerate(held(60))
    ]
    found = fit_blocks(samples, RIGIDITY)
    features = replace(held(1, seed=2)[0].features, last_layer_std=np.full(30, found.most[1]))
    far = replace(features, last_layer_std=100 * features.last_layer_std)
    np.testing.assert_allclose(found.block_bounds(far, 0.9), 100 * found.block_bounds(features, 0.9))
    assert found.outside(far)
    assert not found.outside(replace(features, atom_ood_score=np.ones(3)))


def test_few_groups_support_few_levels():
    found = fit_blocks(held(5), RIGIDITY)
    assert found.highest == 0.8
    assert found.level(None) == 0.8
    with pytest.raises(ModelError, match=r"5 independent samples, which support levels up to 0\.8; got 0\.9"):
        found.level(0.9)


def test_samples_of_one_group_are_one():
    assert fit_blocks([replace(x, group="one") for x in held(30)], RIGIDITY).n_groups == 1


def test_a_kind_of_block_that_was_not_seen_has_the_bound_of_all():
    found = fit_blocks(held(60, kinds=(-1, 0)), RIGIDITY)
    features = held(1, seed=3, kinds=(7,))[0].features
    np.testing.assert_allclose(found.block_bounds(features, 0.9), found.factors[-1, 4] * found.spreads(features))


def test_expected_errors_are_the_mean():
    found, new = fit_blocks(held(60), RIGIDITY), held(300, seed=1)
    expected, error = (np.concatenate(x) for x in zip(*((found.expected(x.features), x.error) for x in new)))
    assert expected.mean() == pytest.approx(error.mean(), rel=0.2)


def test_orbital_energies():
    rng = np.random.default_rng(4)
    spread = np.exp(rng.normal(size=(80, 5)))
    error = 0.3 * spread**0.5 * np.exp(0.3 * rng.normal(size=(80, 5)))
    found = fit_orbitals(
        fit_blocks(held(80), RIGIDITY), [(f"g{k}", {"occupied": (e, s)}) for k, (e, s) in enumerate(zip(error, spread))]
    )
    assert found.orbital_powers[KINDS.index("occupied")] == pytest.approx(0.5, abs=0.1)
    kept = (error <= found.orbital_bounds("occupied", spread, 0.9)).mean()
    assert 0.85 < kept < 0.95
    assert np.isinf(found.orbital_bounds("gap", np.ones(1), 0.9))
    largest = spread.max()
    far = found.orbital_bounds("occupied", np.array([largest, 100 * largest]), 0.9)
    assert far[1] == pytest.approx(100 * far[0])


def test_round_trip():
    found = fit_blocks(held(12), RIGIDITY)
    again = from_state(to_state(found))
    features = held(1, seed=5)[0].features
    np.testing.assert_array_equal(again.block_bounds(features, 0.9), found.block_bounds(features, 0.9))
    assert again.n_groups == 12
    assert from_state({}) is None


@pytest.mark.parametrize("name", ["powers", "factors", "orbitals", "n_groups"])
def test_damaged_tensors_are_refused(name):
    state = to_state(fit_blocks(held(12), RIGIDITY))
    with pytest.raises(ModelError, match="the calibration is not complete"):
        from_state({k: v for k, v in state.items() if k != name})
    with pytest.raises(ModelError, match="the calibration is not complete"):
        from_state(state | {name: state[name][:0]})
