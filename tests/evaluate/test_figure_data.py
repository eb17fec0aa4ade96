"""Data of figures: bounded numbers of points, drawn at random, and means over all values."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from harmose.evaluate import figure_data
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.figure_data import FigureData, ParityPoints, RandomPoints
from harmose.evaluate.metrics import evaluate
from harmose.evaluate.report import typical_name


def test_all_points_as_long_as_there_are_few():
    points = RandomPoints(10)
    for k in range(3):
        points.add({"a": np.arange(3) + 3 * k, "b": -np.arange(3) - 3 * k})
    assert points.columns["a"].tolist() == list(range(9))
    assert points.columns["b"].tolist() == [-k for k in range(9)]


def test_selection_is_random_without_repetition_and_bounded():
    """Points of 400 pieces of 50: each tenth of the whole gives a tenth of the selection, within five deviations."""
    points = RandomPoints(1000)
    for k in range(400):
        points.add({"a": np.arange(50) + 50 * k, "b": 2 * np.arange(50) + 100 * k})
    a, b = points.columns["a"], points.columns["b"]
    assert len(points) == len(a) == len(np.unique(a)) == 1000
    np.testing.assert_array_equal(b, 2 * a)
    counts = np.histogram(a, bins=10, range=(0, 20_000))[0]
    assert np.abs(counts - 100).max() < 5 * np.sqrt(90)


def test_mean_is_over_all_values(monkeypatch):
    monkeypatch.setattr(figure_data, "MAX_POINTS", 7)
    rng = np.random.default_rng(1)
    dft, full = rng.normal(size=(2, 500))
    points = ParityPoints()
    for k in range(0, 500, 20):
        points.add({"dft": dft[k : k + 20], "full": full[k : k + 20]})
    assert len(points) == 7
    assert points.mean_error("full") == pytest.approx(np.abs(full - dft).mean(), rel=1e-14)


def test_orbitals_of_the_first_samples_only(predictions, monkeypatch):
    monkeypatch.setattr(figure_data, "MAX_SAMPLES", 2)
    data = FigureData()
    assert len(list(data.watch(predictions(3)))) == data.n_samples == 3
    assert len(data.orbital_energies) == 2 * 5
    assert {len(errors) for errors in data.orbital_errors["full"].values()} == {2}
    assert not data.periodic


def test_an_evaluation_keeps_no_prediction(predictions):
    """Predictions that are made one after the other die one after the other, and the figures are those of a list."""
    made, alive, most = predictions(6), weakref.WeakSet(), 0

    def one_by_one():
        nonlocal most
        for p in made:
            fresh = Prediction(replace(p.sample), {stage: h.with_values(h.values) for stage, h in p.stages.items()})
            alive.add(fresh)
            gc.collect()
            most = max(most, len(alive))
            yield fresh
            del fresh

    streamed, listed = FigureData(), FigureData()
    result = evaluate(streamed.watch(one_by_one()))
    assert most <= 2
    assert result == evaluate(listed.watch(made))
    assert streamed.elements.mean_error("full") == listed.elements.mean_error("full")
    assert streamed.elements.mean_error("full") == pytest.approx(result.full.mae_elements, rel=1e-14)
    assert typical_name(result) == made[3].sample.name
