"""Evaluations: JSON and back without loss, columns of the table, reductions."""

import json
import math
from dataclasses import fields, replace

import pytest

from harmose.errors import FormatError
from harmose.evaluate.evaluation import METRICS, Errors, Evaluation, StageMetrics
from harmose.evaluate.metrics import RotationError, evaluate


@pytest.fixture
def evaluation(predictions) -> Evaluation:
    rotation = {"stage1": RotationError(1e-9, 1e-10, 2, 2), "full": RotationError(1e-4, 1e-5, 2, 2)}
    return evaluate(predictions(3), rotations=rotation)


def with_stages(prediction, *names: str):
    """The same prediction with other stages: each name has the matrix of the whole model, "stage1" its own."""
    return replace(prediction, stages={n: prediction.stages["stage1" if n == "stage1" else "full"] for n in names})


def test_round_trip(evaluation):
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation
    assert json.loads(evaluation.to_json()) == evaluation.to_dict()


def test_null(predictions):
    bare = evaluate([replace(p, sample=replace(p.sample, overlap=None)) for p in predictions(1)])
    assert bare.to_dict()["stages"]["full"]["wavefunction"] is None
    assert Evaluation.from_json(bare.to_json()) == bare


def test_every_metric_is_a_row_of_the_table():
    assert {metric.name for metric in METRICS} == {field.name for field in fields(StageMetrics)}


def test_reduction(evaluation):
    stage1 = replace(evaluation.stages["stage1"], mae=4.0, wavefunction=0.96, homo=0.0, lumo=None)
    full = replace(evaluation.full, mae=3.0, wavefunction=0.99, homo=1.0, lumo=None)
    changed = replace(evaluation, stages={"stage1": stage1, "full": full})
    assert changed.reduction("mae") == pytest.approx(25)
    assert changed.reduction("wavefunction") == pytest.approx(75)
    assert changed.reduction("homo") is None
    assert changed.reduction("lumo") is None
    assert changed.to_dict()["reduction"]["mae"] == pytest.approx(25)


@pytest.mark.parametrize(
    ("stages", "titles", "compared"),
    [
        (("stage1", "full"), ["stage 1", "+ stage 2"], ("stage1", "full")),
        (("regression", "stage1", "full"), ["regression", "+ stage 1", "+ stage 2"], ("stage1", "full")),
        (("regression", "full"), ["regression"], None),
        (("stage1", "network"), ["stage 1", "network alone"], None),
        (("full", "network"), ["stage 2", "network alone"], None),
        (("full",), ["stage 2"], None),
    ],
)
def test_titles(predictions, stages, titles, compared):
    """A stage that changes nothing has no column; the network alone is never part of a reduction."""
    evaluation = evaluate([with_stages(p, *stages) for p in predictions(2)])
    assert list(evaluation.titles.values()) == titles
    assert evaluation.compared_stages == compared


def test_a_stage_that_changes_one_sample_has_a_column(predictions):
    first, second = predictions(2)
    same = replace(first, stages={"stage1": first.full, "full": first.full})
    assert len(evaluate([same, second]).titles) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"samples": [{"name": "a"}]},
        {"blocks": [{"elements": ["O"], "shells": ["1s", "2s"], "onsite": True, "n_elements": 1, "mae": {"full": 1}}]},
        {"stages": None},
        {"stages": {}},
        {"stages": {"full": {field.name: None for field in fields(StageMetrics)}}},
        {"stages": {"full": {field.name: math.inf for field in fields(StageMetrics)}}},
        {"n_samples": "many"},
    ],
)
def test_other_content(evaluation, change):
    with pytest.raises(FormatError, match="evaluation: expected"):
        Evaluation.from_dict({**evaluation.to_dict(), **change})


def test_other_stages_of_a_sample(evaluation):
    content = evaluation.to_dict()
    del content["samples"][1]["errors"]["full"]
    with pytest.raises(FormatError, match="expected the same stages everywhere"):
        Evaluation.from_dict(content)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '{"version": 2}'])
def test_other_text(text):
    with pytest.raises(FormatError, match="evaluation: expected"):
        Evaluation.from_json(text)


def test_nan_is_not_written(evaluation):
    errors = {**evaluation.samples[0].errors, "full": Errors(mae=math.nan)}
    broken = replace(evaluation, samples=(replace(evaluation.samples[0], errors=errors),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()
