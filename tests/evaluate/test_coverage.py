"""Coverage: shares within the bounds, JSON, figures."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.evaluate import uncertainty_plots
from harmose.evaluate.coverage import CoverageCounter
from harmose.evaluate.evaluation import Evaluation
from harmose.evaluate.metrics import evaluate
from harmose.evaluate.report import coverage_line, terminal_table, write_report
from harmose.uncertainty.calibration import CONFIDENCES, Calibration
from harmose.uncertainty.features import ErrorFeatures
from harmose.uncertainty.orbitals import ORBITAL_KINDS, orbital_energies
from harmose.uncertainty.prediction import Uncertainty, mean_errors


@pytest.fixture(scope="module")
def stated(predictions):
    """Four predictions whose blocks are bounded by three times their own error, but for one block of the third.

    The last one is outside the training domain.
    """

    def bounds(prediction, missed: int, outside: bool) -> Uncertainty:
        error = mean_errors(prediction.full, prediction.sample.hamiltonian)
        size = np.where(np.arange(len(error)) < missed, error / 2, 3 * error)
        n, one, ood = len(error), np.ones(len(error)), np.full(3, 2.5 if outside else 0.5)
        features = ErrorFeatures(np.zeros(n, dtype=int), size, one, one, one, 0 * one, one, ood)
        factors, orbitals = np.ones((2, len(CONFIDENCES))), np.full((len(ORBITAL_KINDS), len(CONFIDENCES)), 100.0)
        shape = {"powers": np.zeros(4), "feature_floors": np.ones(3), "feature_limits": np.full(3, 10.0)}
        of_orbitals = {
            "orbital_factors": orbitals,
            "orbital_powers": np.zeros(len(ORBITAL_KINDS)),
            "orbital_limits": np.full(len(ORBITAL_KINDS), 1e3),
        }
        typical = {"block_types": np.zeros(1), "block_factors": factors, "mean_scores": np.ones(2), "n_groups": 100}
        calibration = Calibration(**shape, **of_orbitals, **typical)
        found = orbital_energies(prediction.full, prediction.sample.overlap, size, 10)
        return Uncertainty(prediction.full, 0.9, features, calibration, found)

    return [replace(p, uncertainty=bounds(p, int(k == 2), k == 3)) for k, p in enumerate(predictions(4))]


def test_shares(stated):
    counter = CoverageCounter()
    for prediction in stated:
        counter.add(prediction)
    found = counter.result()
    assert found.confidences == CONFIDENCES
    assert found.shares["blocks"] == pytest.approx([(2 + 5 / 6) / 3] * len(CONFIDENCES))
    assert found.stated("gap") == 1
    assert found.counts["blocks"] == 18  # without those that have no bounds
    assert found.counts["occupied"] == 15
    assert (found.n_samples, found.n_outside) == (4, 1)


def test_samples_count_equally_whatever_their_size(stated):
    """Two samples of six blocks count like one that says the same: no block is kept to find the shares."""
    counter = CoverageCounter()
    for prediction in [*stated[:3], *stated[:3]]:
        counter.add(prediction)
    found = counter.result()
    assert found.shares["blocks"] == pytest.approx([(2 + 5 / 6) / 3] * len(CONFIDENCES), rel=1e-15)
    assert found.counts["blocks"] == 36


def test_predictions_without_bounds(predictions, stated):
    assert evaluate(predictions(2)).coverage is None
    assert evaluate([*predictions(2), *stated]).coverage.n_samples == 4


def test_in_an_evaluation(stated):
    evaluation = evaluate(stated)
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    line = coverage_line(evaluation.coverage)
    assert line.startswith(
        "errors within the bounds of 90 % confidence: blocks of H 94.4 %, occupied orbital energies 100.0 %"
    )
    assert line.endswith("1 of 4 samples outside the training domain")
    assert "errors within the bounds" in str(terminal_table(evaluation).renderables[1])


def test_figures(stated, predictions, gathered, tmp_path):
    evaluation = evaluate(stated)
    axes = uncertainty_plots.reliability(evaluation.coverage).axes[0]
    assert "gap" in [text.get_text() for text in axes.get_legend().get_texts()]
    axes = uncertainty_plots.bounds_and_errors(gathered(stated), "uEh").axes[0]
    assert sum(len(line.get_xdata()) for line in axes.lines) == 18 + 2  # blocks, and the line where error = bound
    assert uncertainty_plots.bounds_and_errors(gathered(predictions(1)), "uEh") is None
    page = write_report(tmp_path / "report.html", evaluation, gathered(stated)).read_text()
    assert "Uncertainty" in page


def test_all_samples_outside_the_training_domain(stated, gathered, tmp_path):
    evaluation = evaluate(stated[3:])
    assert evaluation.coverage.shares == {}
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert coverage_line(evaluation.coverage) == "no bounds: 1 of 1 samples outside the training domain"
    assert uncertainty_plots.bounds_and_errors(gathered(stated[3:]), "uEh") is None
    page = write_report(tmp_path / "report.html", evaluation, gathered(stated[3:])).read_text()
    assert "1 of 1 samples are outside the training domain" in page
