"""Evaluations go to JSON and back without loss, and nothing else comes back."""

import json
import math
from dataclasses import fields, replace

import pytest

from harmose.errors import FormatError
from harmose.evaluate.evaluation import METRICS, Evaluation, SampleErrors, StageMetrics
from harmose.evaluate.metrics import RotationError, evaluate


@pytest.fixture
def evaluation(predictions) -> Evaluation:
    rotation = {"stage1": RotationError(1e-9, 1e-10, 2, 2), "full": RotationError(1e-4, 1e-5, 2, 2)}
    return evaluate(predictions(3), rotation_error=rotation)


def test_round_trip(evaluation):
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation
    assert json.loads(evaluation.to_json()) == evaluation.to_dict()


def test_what_does_not_apply_is_null_and_comes_back_as_none(predictions):
    bare = evaluate([replace(p, sample=replace(p.sample, overlap=None)) for p in predictions(1)])
    assert bare.to_dict()["full"]["wavefunction"] is None
    assert Evaluation.from_json(bare.to_json()) == bare


def test_every_metric_of_a_stage_is_a_row_of_the_table():
    assert [metric.name for metric in METRICS] == [field.name for field in fields(StageMetrics)]


def test_reduction_is_in_per_cent_of_the_error(evaluation):
    stage1 = replace(evaluation.stage1, mae=4.0, wavefunction=0.96, homo=0.0, lumo=None)
    full = replace(evaluation.full, mae=3.0, wavefunction=0.99, homo=1.0, lumo=None)
    changed = replace(evaluation, stage1=stage1, full=full)
    assert changed.reduction("mae") == pytest.approx(25)
    assert changed.reduction("wavefunction") == pytest.approx(75)
    assert changed.reduction("homo") is None
    assert changed.reduction("lumo") is None
    assert changed.to_dict()["reduction"]["mae"] == pytest.approx(25)


def test_a_second_stage_shows_in_any_sample(evaluation):
    assert evaluation.has_second_stage
    same = replace(evaluation, samples=tuple(replace(s, full=s.stage1) for s in evaluation.samples))
    assert not same.has_second_stage


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"samples": [{"name": "a"}]},
        {
            "blocks": [
                {"elements": ["O"], "shells": ["1s", "2s"], "onsite": True, "n_elements": 1, "stage1": 1, "full": 1}
            ]
        },
        {"full": None},
        {"full": {field.name: None for field in fields(StageMetrics)}},
        {"stage1": {field.name: math.inf for field in fields(StageMetrics)}},
        {"n_samples": "many"},
    ],
)
def test_other_content_is_refused(evaluation, change):
    with pytest.raises(FormatError, match="evaluation: expected"):
        Evaluation.from_dict({**evaluation.to_dict(), **change})


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '{"version": 1}'])
def test_other_text_is_refused(text):
    with pytest.raises(FormatError, match="evaluation: expected"):
        Evaluation.from_json(text)


def test_errors_that_are_not_finite_are_never_written(evaluation):
    broken = replace(evaluation, samples=(replace(evaluation.samples[0], full=SampleErrors(math.nan)),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()
