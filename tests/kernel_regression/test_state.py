"""Regressions as tensors: round trips, and tensors that belong to another model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmose.core.basis import BasisSet, Shell
from harmose.core.graph import build_graph
from harmose.errors import ModelError
from harmose.kernel_regression.fit import fit_regression
from harmose.kernel_regression.linear_terms import PairRegression
from harmose.kernel_regression.state import from_state, to_state
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import TargetSettings

REFUSED = "checkpoint: the regression does not belong to the card"


def assert_same(one, other):
    for a, b in ((one.pairs, other.pairs), (one.onsite, other.onsite)):
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["kernel_regression", "pair_regression"])
def test_round_trip(request, name, water_sample):
    regression = request.getfixturevalue(name)
    space = regression.space
    again = from_state(space, to_state(regression))
    assert again.kind == regression.kind
    for name in ("pair_fades", "distance_fades", "onsite_fades"):
        assert getattr(again, name) == getattr(regression, name)
    assert again.distances.keys() == regression.distances.keys()
    assert_fades_the_same(again, regression, water_sample(5).structure)


def assert_fades_the_same(again, regression, water):
    """In the training set and far outside: values, weights and standard deviations, and what the regression fades to."""
    for distance in (0.96, 1.6, 3.0):
        water.set_distance(0, 1, distance, fix=0)
        oriented = regression.space.orient(build_graph(water, regression.space.basis))
        one, other = (x.faded(x.neighbourhoods(oriented)) for x in (again, regression))
        assert_same(one.values, other.values)
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-9)
        np.testing.assert_allclose(one.std, other.std, rtol=1e-9)
        assert_same(*(x.simple_values(x.neighbourhoods(oriented)) for x in (again, regression)))


@pytest.fixture(scope="module")
def with_charges(make_training):
    """Training set and regression of H - H0 that reads the charges of H0."""
    training = make_training(range(12), TargetSettings(prior=True, operators=("density",)))
    return training, fit_regression(training)[0]


def test_round_trip_of_a_regression_that_reads_charges(with_charges):
    """Weights of electronic terms are written in float32."""
    training, regression = with_charges
    again = from_state(training.space, to_state(regression))
    graphs = [x.neighbourhoods(training.oriented, training.charges) for x in (regression, again)]
    one, other = (x.faded(graph) for x, graph in zip((regression, again), graphs))
    for group in one.values.pairs:
        torch.testing.assert_close(other.values.pairs[group], one.values.pairs[group], rtol=0, atol=1e-4)
    np.testing.assert_allclose(other.std, one.std, rtol=1e-2)
    for species, atom in regression.onsite.items():
        np.testing.assert_array_equal(again.onsite[species].average, atom.average)
        assert np.abs(atom.average - atom.mean).max() > 1e-3


def test_a_regression_of_version_3_never_fades(kernel_regression, water_sample):
    """Its states have neither draws nor simpler regressions."""

    def without(draws: int, expansion):
        weights = {m: w[:, draws:] for m, w in expansion.weights.items()}
        return replace(expansion, weights=weights, n_proper=expansion.n_proper - draws)

    pairs, onsite = {}, {}
    for key, pair in kernel_regression.pairs.items():
        n, linear = pair.n_draws, {m: w[:, pair.n_draws :] for m, w in pair.linear.items()}
        pairs[key] = PairRegression(linear, without(n, pair.kernel_expansion))
    for key, atom in kernel_regression.onsite.items():
        expansions = {n: without(atom.n_draws, x) for n, x in atom.kernel_expansions.items()}
        onsite[key] = replace(atom, kernel_expansions=expansions, draws=None, average=None)
    old = type(kernel_regression)(kernel_regression.space, pairs, onsite)
    state = to_state(old)
    assert {name.split(".")[0] for name in state} == {"pair", "onsite"}
    assert not [name for name in state if "draws" in name or "fade" in name or "average" in name]
    again = from_state(old.space, state)
    atoms = water_sample(5).structure
    atoms.set_distance(0, 1, 1.6, fix=0)
    oriented = old.space.orient(build_graph(atoms, old.space.basis))
    values, weights, std = again.faded(again.neighbourhoods(oriented))
    assert weights.min() == weights.max() == std.min() == std.max() == 1
    assert_same(values, replace(kernel_regression, pair_fades={}, onsite_fades={}, distances={}).values(oriented))


def test_columns_of_zeros_are_not_written(kernel_regression):
    """H has one s shell: blocks between two H have no component of order 1 except for those of p."""
    state, pair = to_state(kernel_regression), kernel_regression.pairs[1]
    for name, weights in (("expansion.weights_1", pair.kernel_expansion.weights[1]), ("linear.1", pair.linear[1])):
        used = np.flatnonzero(weights.any(0))
        assert 0 < len(used) < weights.shape[1]
        assert state[f"pair.1.{name}"].shape[1] == len(used)


def test_kernels_in_single_precision_are_read(kernel_regression):
    state = to_state(kernel_regression)
    short = {k: v.float() if ".expansion" in k and v.dtype == torch.float64 else v for k, v in state.items()}
    again = from_state(kernel_regression.space, short)
    for pair_type, pair in kernel_regression.pairs.items():
        assert again.pairs[pair_type].kernel_expansion.sparse_points.position.dtype == np.float64
        for m, weights in pair.kernel_expansion.weights.items():
            read = again.pairs[pair_type].kernel_expansion.weights[m]
            assert read.dtype == np.float64
            np.testing.assert_allclose(read, weights, rtol=1e-6, atol=1e-30)


@pytest.fixture(scope="module")
def other_space():
    """Irreps of a basis set with more shells and elements."""
    shells = (Shell(1, 0), Shell(2, 0), Shell(2, 1))
    return BlockIrreps(BasisSet("other", dict.fromkeys((1, 6, 8), shells), dict.fromkeys((1, 6, 8), 4.0)), 2)


@pytest.mark.parametrize("name", ["kernel_regression", "pair_regression"])
def test_a_regression_of_another_basis_set_is_refused(request, name, other_space):
    with pytest.raises(ModelError, match=REFUSED):
        from_state(other_space, to_state(request.getfixturevalue(name)))


PARTS = (
    "pair.1.linear.0",
    "pair.1.expansion.weights_1",
    "pair.1.expansion.position",
    "pair.1.expansion.third",
    "pair.1.expansion.n_proper",
    "pair.1.n_draws",
    "pair.1.fade",
    "distance.1.linear.0",
    "distance.1.fade",
    "onsite.0.mean",
    "onsite.0.average",
    "onsite.0.fade",
    "onsite.0.draws.shift",
    "onsite.0.draws.linear_1",
    "onsite.1.linear.1_0",
    "onsite.1.expansion_0.weights_2",
    "onsite.1.expansion_0.count",
)


@pytest.mark.parametrize("name", PARTS)
def test_a_tensor_of_another_shape_is_refused(kernel_regression, name):
    state = to_state(kernel_regression)
    with pytest.raises(ModelError, match=REFUSED):
        from_state(kernel_regression.space, state | {name: state[name][:-1]})


@pytest.mark.parametrize("name", [name for name in PARTS if not name.endswith((".linear.1_0", ".draws.linear_1"))])
def test_a_missing_tensor_is_refused(kernel_regression, name):
    state = to_state(kernel_regression)
    del state[name]
    with pytest.raises(ModelError, match=REFUSED):
        from_state(kernel_regression.space, state)


@pytest.mark.parametrize("part", ["mean_density", "electronic.1", "draws.electronic"])
def test_electronic_terms_of_another_shape_are_refused(with_charges, part):
    training, regression = with_charges
    state = to_state(regression)
    with pytest.raises(ModelError, match=REFUSED):
        from_state(training.space, state | {f"onsite.1.{part}": state[f"onsite.1.{part}"][:-1]})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pair.1.expansion.exponent", [3]),
        ("pair.9.linear.0", [1.0]),
        ("pair.2.linear.0", [1.0]),
        ("onsite.7.mean", [1.0]),
        ("onsite.x.mean", [1.0]),
        ("atoms.1.mean", [1.0]),
        ("onsite.1.linear.1_5", [1.0]),
        ("pair", [1.0]),
        ("pair.1.n_draws", [10**6]),
        ("pair.1.n_draws", [-1]),
        ("pair.1.fade", [1.0]),
        ("onsite.1.fade", [1.0] * 30),
        ("onsite.1.draws.linear_7", [1.0]),
        ("onsite.1.draws.shift", []),
    ],
)
def test_values_that_make_no_sense_are_refused(kernel_regression, name, values):
    with pytest.raises(ModelError, match=REFUSED):
        from_state(kernel_regression.space, to_state(kernel_regression) | {name: torch.tensor(values)})


@pytest.mark.parametrize("field", [{"growth": -1.0}, {"gain": 0.0}, {"gain": float("inf")}])
@pytest.mark.parametrize("name", ["pair", "distance", "onsite"])
def test_fades_that_make_no_sense_are_refused(kernel_regression, name, field):
    fade = kernel_regression.pair_fades[1]._replace(**field)
    with pytest.raises(ModelError, match=REFUSED):
        from_state(kernel_regression.space, to_state(kernel_regression) | {f"{name}.1.fade": torch.tensor(fade)})


def test_third_atoms_of_elements_that_do_not_exist_are_refused(kernel_regression):
    state = to_state(kernel_regression)
    name = "pair.1.expansion.third"
    with pytest.raises(ModelError, match="third atoms of elements that do not exist"):
        from_state(kernel_regression.space, state | {name: state[name] + 9})


def test_more_elements_than_one_byte_can_number(kernel_regression):
    pair = kernel_regression.pairs[1]
    points = replace(pair.kernel_expansion.sparse_points, n_species=300)
    pairs = {1: replace(pair, kernel_expansion=replace(pair.kernel_expansion, sparse_points=points))}
    with pytest.raises(ModelError, match="at most 255 elements, got 300"):
        to_state(replace(kernel_regression, pairs=pairs))


def test_sparse_points_of_the_first_models(kernel_regression):
    """Before version 2 triangles were written as side lengths and a complex axis."""
    state = to_state(kernel_regression)
    for pair_type, pair in kernel_regression.pairs.items():
        name, points = f"pair.{pair_type}.expansion", pair.kernel_expansion.sparse_points
        position, length = points.position, points.distance[points.edge]
        sides = np.stack(
            [length, np.linalg.norm(position, axis=1), np.linalg.norm(position - length[:, None] * [0, 0, 1], axis=1)],
            1,
        )
        del state[f"{name}.count"], state[f"{name}.position"]
        state |= {f"{name}.sides": torch.as_tensor(sides), f"{name}.edge": torch.as_tensor(points.edge)}
        state[f"{name}.axis"] = torch.as_tensor(position[:, :2].copy())
    again = from_state(kernel_regression.space, state)
    for pair_type, pair in kernel_regression.pairs.items():
        expected = pair.kernel_expansion.sparse_points.position
        np.testing.assert_allclose(again.pairs[pair_type].kernel_expansion.sparse_points.position, expected, atol=1e-12)
