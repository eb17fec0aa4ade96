"""Predictions of the regression: symmetries, parts of a graph, unknown elements, and how it fades far from its training set."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.core.graph import build_graph
from harmose.errors import ModelError
from harmose.kernel_regression.fading import Fade
from harmose.kernel_regression.model import UNKNOWN
from harmose.kernel_regression.settings import RegressionSettings
from harmose.so3.wigner import random_rotation


@pytest.mark.parametrize("kind", ["kernel", "pairs"])
def test_predictions_rotate_with_the_molecule(request, predict, water_sample, kind):
    regression = request.getfixturevalue(f"{'kernel' if kind == 'kernel' else 'pair'}_regression")
    assert regression.kind == kind
    atoms, rotation = water_sample(7).structure, random_rotation(np.random.default_rng(0))
    h, turned = predict(regression, atoms), atoms.copy()
    turned.positions = turned.positions @ rotation.T
    np.testing.assert_allclose(predict(regression, turned).dense(), h.rotate(rotation).dense(), atol=1e-8)


def test_inversion_changes_blocks_by_their_parity(kernel_regression, predict, water_sample):
    atoms = water_sample(7).structure
    h, inverted = predict(kernel_regression, atoms), atoms.copy()
    inverted.positions = -inverted.positions
    degrees = np.concatenate([np.repeat(l, 2 * l + 1) for z in atoms.numbers for l in h.basis.degrees(int(z))])
    parity = (-1.0) ** degrees
    expected = h.dense() * parity * parity[:, None]
    np.testing.assert_allclose(predict(kernel_regression, inverted).dense(), expected, atol=1e-8)


def test_exchanging_two_like_atoms_exchanges_their_blocks(kernel_regression, predict, water_sample):
    atoms = water_sample(3).structure
    h, exchanged = predict(kernel_regression, atoms), predict(kernel_regression, atoms[[0, 2, 1]])
    np.testing.assert_allclose(exchanged.block(1, 2), h.block(2, 1), atol=1e-9)
    np.testing.assert_allclose(exchanged.block(0, 1), h.block(0, 2), atol=1e-9)


@pytest.mark.parametrize("atoms", [Atoms("O"), Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])], ids=["atom", "pair"])
def test_lone_atoms_and_pairs_are_predicted(kernel_regression, predict, atoms):
    assert np.isfinite(predict(kernel_regression, atoms).dense()).all()


def test_parts_of_a_graph_have_the_values_of_the_whole(kernel_regression, water_sample):
    space, atoms = kernel_regression.space, Atoms()
    for k, seed in enumerate((7, 8, 9)):
        water = water_sample(seed).structure
        water.positions += [30.0 * k, 0, 0]
        atoms += water
    oriented = space.orient(build_graph(atoms, space.basis))
    whole, weights, std = kernel_regression.faded(kernel_regression.neighbourhoods(oriented))
    settings = RegressionSettings(stored_pairs=0, edges_of_atoms=10)
    graph = kernel_regression.neighbourhoods(oriented, settings=settings)
    for group, pairs in oriented.pairs.items():
        rows = np.arange(len(pairs))[1::2][::-1].copy()
        values, *faded = kernel_regression.pair_values(graph, group, pairs[rows])
        torch.testing.assert_close(values, whole.pairs[group][rows], rtol=0, atol=1e-10)
        blocks = len(atoms) + pairs[rows]
        np.testing.assert_allclose(faded, (weights[blocks], std[blocks]), rtol=1e-5)
    for shell_type, members in oriented.atoms.items():
        rows = np.arange(len(members))[::-1].copy()
        values, *faded = kernel_regression.onsite_values(graph, shell_type, members[rows])
        torch.testing.assert_close(values, whole.onsite[shell_type][rows], rtol=0, atol=1e-10)
        np.testing.assert_allclose(faded, (weights[members[rows]], std[members[rows]]), rtol=1e-5)


def test_a_pair_of_elements_that_the_training_set_lacks(kernel_regression, neighbourhoods):
    """Nothing is added to H0, and the standard deviation says that nothing is known."""
    graph = neighbourhoods(Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]))
    values, weights, std = kernel_regression.faded(graph)
    assert not values.pairs[(1, 1)].any()
    assert (weights[2], std[2]) == (0, UNKNOWN)
    assert not kernel_regression.simple_values(graph).pairs[(1, 1)].any()
    assert torch.isfinite(values.onsite[1]).all()


def test_an_element_that_the_training_set_lacks(pair_regression, predict):
    del (onsite := dict(pair_regression.onsite))[1]
    without = type(pair_regression)(pair_regression.space, pair_regression.pairs, onsite)
    with pytest.raises(ModelError, match="no element 8"):
        predict(without, Atoms("O"))


FAR = (0.4, 0.6, 1.5, 1.7, 2.0, 3.0, 5.0, 8.0)
"""Lengths of a bond in angstrom far outside the training set, where it is 0.96 +- 0.1; the regression fades at 1.6."""


@pytest.fixture(scope="module")
def quickly_faded(kernel_regression):
    """The regression with fades as of labels with noise."""
    fades = {name: dict.fromkeys((0, 1), Fade(growth=3.0, gain=50.0)) for name in ("pair_fades", "onsite_fades")}
    return replace(kernel_regression, **fades)


def test_without_fades_nothing_is_weighted(kernel_regression, neighbourhoods, stretched):
    """Models older than version 4."""
    graph, nothing = neighbourhoods(stretched(2.0)), {name: {} for name in ("pair_fades", "onsite_fades", "distances")}
    old = replace(kernel_regression, **nothing)
    values, weights, std = old.faded(graph)
    np.testing.assert_array_equal(weights, 1)
    np.testing.assert_array_equal(std, 1)
    faded = kernel_regression.faded(graph)
    w, simple = faded.weights, kernel_regression.simple_values(graph)
    for group, rows in graph.oriented.pairs.items():
        w_pairs = torch.as_tensor(w[3 + rows])[:, None, None]
        expected = simple.pairs[group] + w_pairs * (values.pairs[group] - simple.pairs[group])
        torch.testing.assert_close(faded.values.pairs[group], expected)
    for shell_type, rows in graph.oriented.atoms.items():
        w_atoms = torch.as_tensor(w[rows])[:, None, None]
        expected = simple.onsite[shell_type] + w_atoms * (values.onsite[shell_type] - simple.onsite[shell_type])
        torch.testing.assert_close(faded.values.onsite[shell_type], expected)


def test_what_the_regression_fades_to(kernel_regression, neighbourhoods, water_sample, training):
    """Functions of the distance, which know neither angles nor third atoms, and means of the training set."""
    water = water_sample(7).structure
    graph, pair = neighbourhoods(water), neighbourhoods(water[[0, 1]])
    simple, alone = (kernel_regression.simple_values(x) for x in (graph, pair))
    torch.testing.assert_close(simple.pairs[(0, 1)][0], alone.pairs[(0, 1)][0])
    for shell_type, x in simple.onsite.items():
        scalars = training.coefficients.onsite[shell_type][:, 0].mean(0)
        proper = kernel_regression.space.onsite_layout(shell_type).n_proper
        torch.testing.assert_close(x[:, 0, :proper], scalars[:proper].expand(len(x), proper))
        assert not x[:, 1:].any()


@pytest.mark.parametrize("distance", [0.4, 0.7, 1.5, 3.0, 8.0, 11.0])
def test_what_the_regression_fades_to_does_not_explode(
    kernel_regression, neighbourhoods, stretched, training, distance
):
    largest = max(float(x.abs().max()) for x in training.coefficients.pairs.values() if len(x))
    simple = kernel_regression.simple_values(neighbourhoods(stretched(distance)))
    assert max(float(x.abs().max()) for x in simple.pairs.values() if len(x)) < 2 * largest


def test_near_the_training_set_nothing_has_faded(kernel_regression, neighbourhoods, water_atoms, stretched):
    faded = [kernel_regression.faded(neighbourhoods(water_atoms(seed)))[1:] for seed in range(100, 120)]
    weights, std = np.concatenate(faded, 1)
    assert weights.min() > 0.999
    assert np.median(std) < 10
    _, _, far = kernel_regression.faded(neighbourhoods(stretched(1.5)))
    assert far.min() > 100


def test_weights_fall_along_a_stretch(quickly_faded, kernel_regression, neighbourhoods, stretched):
    """Those of `quickly_faded` are functions of the variance that fall."""
    distances = np.linspace(1.05, 2.5, 30)
    weights = np.array([quickly_faded.faded(neighbourhoods(stretched(d))).weights for d in distances])
    assert (np.diff(weights, axis=0) < 1e-9).all()
    assert weights[-1].max() < 1e-3 * weights[0].min()
    for distance, low, high in ((1.05, 0.99, 1), (2.5, 0, 0.6)):
        fitted = kernel_regression.faded(neighbourhoods(stretched(distance))).weights
        assert low < fitted.min() < fitted.max() < high


def test_far_away_the_simpler_regression_is_left(quickly_faded, neighbourhoods, stretched):
    before = np.inf
    for distance in (1.3, 1.7, 3.0):
        graph = neighbourhoods(stretched(distance))
        (values, weights, _), simple = quickly_faded.faded(graph), quickly_faded.simple_values(graph)
        parts = [(values.pairs, simple.pairs), (values.onsite, simple.onsite)]
        left = max(float((a[key] - b[key]).abs().max()) for a, b in parts for key in a if len(a[key]))
        assert left < before
        before = left
    assert weights.max() < 1e-4
    assert left < 1e-3


@pytest.mark.parametrize("distance", FAR)
def test_far_away_predictions_are_as_symmetric_as_near_by(kernel_regression, predict, stretched, distance):
    atoms, rotation = stretched(distance), random_rotation(np.random.default_rng(0))
    h = predict(kernel_regression, atoms)
    assert np.isfinite(h.values).all()
    turned, mirrored = atoms.copy(), atoms.copy()
    turned.positions, mirrored.positions = atoms.positions @ rotation.T, -atoms.positions
    np.testing.assert_allclose(predict(kernel_regression, turned).dense(), h.rotate(rotation).dense(), atol=1e-9)
    degrees = np.concatenate([np.repeat(l, 2 * l + 1) for z in atoms.numbers for l in h.basis.degrees(int(z))])
    parity = (-1.0) ** degrees
    np.testing.assert_allclose(
        predict(kernel_regression, mirrored).dense(), h.dense() * parity * parity[:, None], atol=1e-9
    )
    exchanged = predict(kernel_regression, atoms[[1, 2, 0]])
    for k, i in enumerate((1, 2, 0)):
        np.testing.assert_allclose(exchanged.block(k, k), exchanged.block(k, k).T, atol=1e-9)
        for n, j in enumerate((1, 2, 0)):
            np.testing.assert_allclose(exchanged.block(k, n), h.block(i, j), atol=1e-9)


@pytest.mark.parametrize("distance", [1.4, 1.6, 2.0])
def test_h_is_smooth_through_the_fade(kernel_regression, predict, stretched, distance):
    """Second differences converge to second derivatives, and their errors fall as the square of the step."""

    def second_derivative(step: float) -> np.ndarray:
        low, middle, high = (predict(kernel_regression, stretched(distance + k * step)).values for k in (-1, 0, 1))
        return (high - 2 * middle + low) / step**2

    found = [second_derivative(step) for step in (0.02, 0.01, 0.005)]
    changes = [np.abs(b - a).max() for a, b in pairwise(found)]
    assert changes[0] < 0.1 * np.abs(found[-1]).max()
    assert changes[0] / changes[1] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("elements", [(1, 1), (1, 8), (8, 1)])
def test_nothing_jumps_where_the_orbitals_of_two_atoms_part(
    kernel_regression, predict, water_atoms, elements, monkeypatch
):
    """Two waters, at the distance at which the pair of two of their atoms begins."""
    radii, first, second = kernel_regression.space.basis.radii, water_atoms(1), water_atoms(2)
    i, j = (int(np.flatnonzero(x.numbers == z)[-1]) for x, z in zip((first, second), elements, strict=True))
    reach, along = radii[elements[0]] + radii[elements[1]], np.array([0.3, 0.4, np.sqrt(0.75)])

    def h(distance):
        moved = second.copy()
        moved.positions += first.positions[i] + distance * along - second.positions[j]
        return predict(kernel_regression, first + moved)

    def jump(step):
        inside, outside = h(reach - step), h(reach + step)
        assert len(inside.pairs) > len(outside.pairs)
        return np.abs(inside.dense() - outside.dense()).max()

    assert jump(1e-9) < 1e-6
    monkeypatch.setattr("harmose.kernel_regression.neighbourhoods.TAPER", 1e-12)
    assert jump(1e-9) > 1e-4
