"""Numbers in the figures, read back from the drawn artists."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from harmose.errors import ConfigError
from harmose.evaluate import figure_data, plots
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.metrics import evaluate
from harmose.evaluate.style import FULL, STAGE1, energy_unit, number, png, svg
from harmose.units import MICRO_HARTREE

HISTORY = [
    {"step": 10 * k, "phase": "stage1" if k < 3 else "stage2", "seconds": 60 * k, "loss": 9.0 - k,
     "mae_train": MICRO_HARTREE * (80 - k), "mae_val": MICRO_HARTREE * (100 - 10 * k), "learning_rate": 1e-3}
    for k in range(6)
]  # fmt: skip


TITLES = {"stage1": "stage 1", "full": "+ stage 2"}


def line(axes, colour: str) -> np.ndarray:
    """The points (N, 2) of the first line of this colour that has any."""
    return next(x.get_xydata() for x in axes.lines if to_hex(x.get_color()) == colour and len(x.get_xdata()))


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_elements(predictions, gathered):
    made = predictions(3)
    upper, lower = plots.predicted_against_dft(gathered(made), "uEh", TITLES).axes
    points = upper.collections[0].get_offsets()
    assert len(points) == 2 * 3 * 49
    dense = np.sort(np.concatenate([p.sample.hamiltonian.dense().ravel() for p in made]))
    np.testing.assert_allclose(np.sort(points[:, 0])[::2], dense, atol=1e-12)
    mae = evaluate(made).full.mae_elements / MICRO_HARTREE
    assert line(lower, FULL)[0, 1] == pytest.approx(mae)
    assert f"+ stage 2, mean {number(mae)}" in [t.get_text() for t in lower.get_legend().get_texts()]


def test_selection_of_many_elements(predictions, gathered, monkeypatch):
    monkeypatch.setattr(figure_data, "MAX_POINTS", 20)
    upper, _ = plots.predicted_against_dft(gathered(predictions(2)), "meV", TITLES).axes
    assert len(upper.collections[0].get_offsets()) == 40


def test_orbital_energies(predictions, gathered):
    made = predictions(2)
    figure = plots.orbital_energies(gathered(made), "meV", TITLES)
    assert len(figure.axes[0].collections[0].get_offsets()) == 2 * 2 * 5
    mean = evaluate(made).stages["stage1"].orbital_energy / 1e-3
    assert line(figure.axes[1], STAGE1)[0, 1] == pytest.approx(mean)


def test_orbital_energy_errors(predictions, gathered):
    made = predictions(3)
    (axes,) = plots.orbital_energy_errors(gathered(made), "uEh", TITLES).axes
    drawn = line(axes, FULL)
    evaluation = evaluate(made)
    homo, lumo = (getattr(evaluation.full, name) / MICRO_HARTREE for name in ("homo", "lumo"))
    np.testing.assert_allclose(drawn[:, 0], np.arange(-5, 2) + 0.18)
    np.testing.assert_allclose(drawn[4:6, 1], [homo, lumo])
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["HOMO−4", "HOMO−3", "HOMO−2", "HOMO−1", "HOMO", "LUMO", "LUMO+1"]


def test_orbital_diagram(predictions):
    (made,) = predictions(1)
    (axes,) = plots.orbital_diagram(made, TITLES).axes
    solved = plots.solved_orbitals(made)
    assert texts(axes)[1::2] == [f"{solved[name].gap:.4f} eV" for name in ("dft", "stage1", "full")]
    energies = np.concatenate([x.get_ydata() for x in axes.lines])
    assert solved["dft"].energies[0] < solved["dft"].homo - 600
    assert energies.min() > solved["dft"].homo - 30.1


def test_orbitals_without_overlap(predictions, gathered):
    (made,) = predictions(1)
    bare = replace(made, sample=replace(made.sample, overlap=None))
    assert plots.orbital_energies(gathered([bare]), "uEh", TITLES) is None
    assert plots.orbital_energy_errors(gathered([bare]), "uEh", TITLES) is None
    assert plots.orbital_diagram(bare, TITLES) is None


def test_error_distribution(predictions):
    evaluation = evaluate(predictions(12))
    (axes,) = plots.error_distribution(evaluation, "uEh").axes
    assert sum(bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")) == 12
    median = np.median([s.full.mae for s in evaluation.samples]) / MICRO_HARTREE
    assert axes.get_legend().get_texts()[1].get_text() == f"+ stage 2, median {number(median)}"


def test_stage_comparison(predictions):
    evaluation = evaluate(predictions(6, full=0.5))
    (axes,) = plots.stage_comparison(evaluation, "meV").axes
    hard = next(x for x in axes.lines if x.get_marker() == "D").get_xydata()
    worst = max(evaluation.samples, key=lambda sample: sample.errors["stage1"].mae)
    np.testing.assert_allclose(hard, [[worst.errors["stage1"].mae * 1e3, worst.full.mae * 1e3]])
    assert texts(axes) == ["100 % of the samples\nhave a smaller error"]


def test_one_stage(predictions, gathered):
    made = predictions(2)
    same = evaluate([replace(p, stages={"full": p.full}) for p in made])
    assert len(plots.error_distribution(same, "uEh").axes[0].get_legend().get_texts()) == 1
    assert plots.stage_comparison(same, "uEh") is None
    axes = plots.predicted_against_dft(gathered(made), "uEh", {"full": "model"}).axes
    assert len(axes[0].collections[0].get_offsets()) == 98


def test_learning_curve():
    curve, rate = plots.learning_curve(HISTORY, "uEh").axes
    np.testing.assert_allclose(line(curve, FULL), [[k, 100 - 10 * k] for k in range(6)])
    assert {"stage1", "stage2", "50.0"} <= set(texts(curve))
    assert rate.get_xlabel() == "training time (min)"


@pytest.mark.parametrize(
    ("columns", "x_label", "y_label"),
    [
        (("step", "loss"), "step", "loss"),
        (("mae_val",), "entry", "H MAE (meV)"),
        (("seconds", "mae_train"), "training time (min)", "H MAE (meV)"),
        (("step", "phase", "loss", "learning_rate"), "step", "loss"),
    ],
)
def test_learning_curve_with_gaps(columns, x_label, y_label):
    rows = [{name: str(row[name]) for name in columns} for row in HISTORY]
    figure = plots.learning_curve([*rows, {}, {"loss": "", "mae_val": "nan", "step": None}], "meV")
    assert figure.axes[0].get_ylabel() == y_label
    assert figure.axes[-1].get_xlabel() == x_label
    assert len(svg(figure)) > 1000


@pytest.mark.parametrize("rows", [[], [{}], [{"phase": "stage1"}], [{"loss": "nan", "step": 1}]])
def test_learning_curve_without_numbers(rows):
    assert plots.learning_curve(rows, "uEh") is None


def test_no_error(water_sample, gathered):
    made = [Prediction(s, {"stage1": s.hamiltonian}) for s in map(water_sample, range(2))]
    draw = (plots.predicted_against_dft, plots.orbital_energies, plots.orbital_energy_errors)
    figures = [f(gathered(made), "uEh", {"stage1": "stage 1"}) for f in draw]
    for figure in (*figures, plots.error_distribution(evaluate(made), "uEh")):
        assert png(figure, dpi=40).startswith(b"\x89PNG")


def test_units():
    assert energy_unit("uEh") == (MICRO_HARTREE, "µEh")
    with pytest.raises(ConfigError, match="unit: expected one of uEh, meV, eV, Ha, got 'kcal'"):
        energy_unit("kcal")


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0"), (9.848, "9.85"), (13, "13.0"), (99.96, "100.0"), (1234.5, "1,234"), (0.5, "0.500"), (1e-7, "1e-07")],
)
def test_number(x, text):
    assert number(x) == text
