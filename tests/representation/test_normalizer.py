"""Normalizers: fitted scales, shifts, round trips, and tensors of another model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.errors import ModelError
from harmose.representation.block_irreps import BlockIrreps, Coefficients, map_coefficients
from harmose.representation.concatenation import TargetSettings, block_irreps, compute_targets
from harmose.representation.normalizer import (
    SCALE_FLOOR,
    denormalize,
    fit_normalizer,
    from_state,
    normalize,
    scale_at,
    to_state,
)


@pytest.fixture(scope="module")
def targets(water_sample):
    samples = [water_sample(seed) for seed in range(30)]
    return compute_targets(block_irreps(samples[0].basis), samples, TargetSettings())


@pytest.fixture(scope="module")
def oriented(targets):
    return targets.concatenated.oriented


@pytest.fixture(scope="module")
def normalizer(targets, oriented):
    return fit_normalizer(targets.space, oriented, targets.coefficients, with_shift=True)


def test_round_trip_of_coefficients(normalizer, targets, oriented):
    scales, shifts = normalizer.scales(oriented), normalizer.shifts(oriented)
    again = denormalize(normalize(targets.coefficients, shifts, scales), shifts, scales)
    for part in ("pairs", "onsite"):
        for key, x in getattr(targets.coefficients, part).items():
            torch.testing.assert_close(getattr(again, part)[key], x, rtol=1e-5, atol=1e-4)


def test_normalized_irreps_have_unit_rms(normalizer, targets, oriented):
    normalized = normalize(targets.coefficients, normalizer.shifts(oriented), normalizer.scales(oriented))
    space, oxygen = targets.space, normalized.onsite[1].double().numpy()
    layout = space.onsite_layout(1)
    for degree in range(space.l_max + 1):
        squares = (oxygen[:, degree**2 : (degree + 1) ** 2] ** 2).sum(1).mean(0)
        varies = normalizer.onsite_scale[1][degree**2] > 2 * SCALE_FLOOR
        np.testing.assert_allclose(squares[varies & layout.mask[degree**2]], 1, rtol=1e-4)
    pairs = normalized.pairs[0, 1].double().numpy()
    np.testing.assert_allclose((pairs**2).sum(1).mean(0), 1, rtol=1e-4)


def test_shifts_are_the_mean_scalars_of_each_element(normalizer, targets, oriented):
    n = targets.space.onsite_layout(1).n_proper
    expected = targets.coefficients.onsite[1][:, 0, :n].mean(0).numpy()
    np.testing.assert_allclose(normalizer.onsite_shifts(oriented, 1, oriented.atoms[1])[3, 0, :n], expected)
    assert not normalizer.pair_shifts((0, 1), 4).any()


def test_without_shifts_there_are_none(targets, oriented):
    plain = fit_normalizer(targets.space, oriented, targets.coefficients)
    assert not plain.onsite_shift
    assert not plain.shifts(oriented).onsite[1].any()


def test_scales_follow_the_distance(targets, oriented):
    """Irreps that fall as exp(-3 r) have an envelope that does."""
    distance = torch.as_tensor(np.linalg.norm(oriented.vectors, axis=1))
    generator = torch.Generator().manual_seed(0)
    pairs = {
        g: torch.randn(x.shape, generator=generator, dtype=x.dtype)
        * torch.exp(-3 * distance[oriented.pairs[g]])[:, None, None]
        for g, x in targets.coefficients.pairs.items()
    }
    fitted = fit_normalizer(targets.space, oriented, Coefficients(pairs, targets.coefficients.onsite))
    low, high = fitted.pair_scale[1][-2:]
    near, far = scale_at(fitted.pair_scale[1], np.array([low, high]))
    np.testing.assert_allclose(np.log(near / far), 3 * (high - low), atol=0.6)
    np.testing.assert_array_equal(scale_at(fitted.pair_scale[1], np.array([high + 5])), [far])


def test_residuals_of_rounding_errors_have_the_floor(targets, oriented):
    zero = map_coefficients(torch.zeros_like, targets.coefficients)
    scales = fit_normalizer(targets.space, oriented, zero).scales(oriented)
    assert all((x > 0).all() for part in (scales.pairs, scales.onsite) for x in part.values())


def test_scales_of_some_pairs(normalizer, oriented):
    pairs = oriented.pairs[0, 1]
    some, whole = normalizer.pair_scales(oriented, (0, 1), pairs[[5, 2]]), normalizer.scales(oriented).pairs[0, 1]
    assert torch.equal(some, whole[[5, 2]])


def test_round_trip_of_tensors(normalizer, targets, oriented):
    again = from_state(targets.space, to_state(normalizer))
    a, b = normalizer.scales(oriented), again.scales(oriented)
    assert all(torch.equal(a.pairs[g], b.pairs[g]) for g in a.pairs)
    assert torch.equal(normalizer.shifts(oriented).onsite[1], again.shifts(oriented).onsite[1])


def test_pairs_outside_the_training_set_have_scales_of_one(normalizer, targets):
    """Hydrogen peroxide: the training set has pairs of H and of O with H, but none of O."""
    oriented = targets.space.orient(build_graph(molecule("H2O2"), targets.space.basis))
    oxygens = oriented.pair_type == 3
    assert oxygens.sum() == 1
    np.testing.assert_array_equal(normalizer.covers(oriented), ~oxygens)
    normalizer.check_covers(oriented, all_pairs=False)
    with pytest.raises(ModelError, match="no pair of elements 8-8"):
        normalizer.check_covers(oriented)
    scales, shifts = normalizer.scales(oriented), normalizer.shifts(oriented)
    assert (scales.pairs[(1, 1)] == 1).all()
    assert not shifts.pairs[(1, 1)].any()
    assert all((x > 0).all() for x in scales.pairs.values())


def test_elements_and_pairs_outside_the_training_set(normalizer, targets):
    space = targets.space
    with pytest.raises(ModelError, match="no pair of elements 8-8"):
        normalizer.check_covers(space.orient(build_graph(molecule("O2"), space.basis)))
    hydrogen = replace(normalizer, onsite_scale={0: normalizer.onsite_scale[0]})
    with pytest.raises(ModelError, match="no element 8"):
        hydrogen.check_covers(space.orient(build_graph(Atoms("O"), space.basis)))


@pytest.mark.parametrize("name", ["pair_scale.1", "onsite_scale.0", "onsite_shift.1"])
def test_tensors_of_another_shape_are_refused(normalizer, targets, name):
    state = to_state(normalizer)
    with pytest.raises(ModelError, match="the normalizer does not belong to the card"):
        from_state(targets.space, state | {name: state[name][..., :-1]})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.1", "which it cannot have"),
        ("pair_scale.7", "does not exist"),
        ("onsite_shift.5", "does not exist"),
        ("pair_scale.2", "does not exist"),
    ],
)
def test_tensors_without_meaning_are_refused(normalizer, targets, name, message):
    with pytest.raises(ModelError, match=message):
        from_state(targets.space, to_state(normalizer) | {name: torch.ones(3)})


def test_scales_of_all_elements_are_needed(normalizer, targets):
    state = to_state(normalizer)
    del state["onsite_scale.0"]
    with pytest.raises(ModelError, match="expected scales of every element on site"):
        from_state(targets.space, state)


def test_a_normalizer_of_another_basis_set_is_refused(normalizer, space: BlockIrreps):
    with pytest.raises(ModelError, match="the normalizer is not complete"):
        from_state(space, to_state(normalizer))


def test_like_atoms_may_be_exchanged(normalizer, targets):
    """An irrep of the shells (a, b) of two like atoms has the scale of its mirror image (b, a)."""
    space = targets.space
    for pair_type, scale in normalizer.pair_scale.items():
        if space.is_symmetric(pair_type):
            shell_type = int(space.shell_type[pair_type // len(space.elements)])
            column = space.pair_layout((shell_type, shell_type)).reversal[0]
            np.testing.assert_allclose(scale[:-5][column], scale[:-5], rtol=1e-12)
