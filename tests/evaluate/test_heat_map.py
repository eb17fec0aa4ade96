"""The heat map shows the MAE of each type of block at its place, and nothing where there is no block."""

from dataclasses import replace

import numpy as np

from harmose.evaluate import heat_map
from harmose.evaluate.metrics import evaluate
from harmose.evaluate.style import png
from harmose.units import MICRO_HARTREE


def image(figure, panel: int) -> np.ndarray:
    return np.ma.filled(figure.axes[panel].images[0].get_array(), np.nan)


def ticks(axis) -> list[str]:
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_offsite(predictions):
    evaluation = evaluate(predictions(3))
    figure = heat_map.offsite_heat_map(evaluation, "uEh")
    axes = figure.axes[1]
    labels = ["O 1s", "O 2s", "O 2p", "H 1s"]
    assert ticks(axes.xaxis) == ticks(axes.yaxis) == labels
    by_label = {block.label: block for block in evaluation.blocks}
    for panel, stage in enumerate(("stage1", "full")):
        matrix = image(figure, panel)
        for k, label in enumerate(labels):
            expected = by_label[f"{label} – H 1s"].mae[stage] / MICRO_HARTREE
            np.testing.assert_allclose([matrix[k, 3], matrix[3, k]], expected)
        assert np.isnan(matrix[:3, :3]).all()


def test_onsite(predictions):
    evaluation = evaluate(predictions(3))
    figure = heat_map.onsite_heat_map(evaluation, "meV")
    axes = figure.axes[0]
    assert ticks(axes.xaxis) == ["O 1s", "O 2s", "O 2p", "H 1s"]
    assert ticks(axes.yaxis) == ["1s", "2s", "2p"]
    by_label = {block.label: block for block in evaluation.blocks}
    matrix = image(figure, 0)
    np.testing.assert_allclose(matrix[[0, 2], [2, 0]], by_label["O 1s – O 2p on-site"].mae["stage1"] / 1e-3)
    np.testing.assert_allclose(matrix[0, 3], by_label["H 1s – H 1s on-site"].mae["stage1"] / 1e-3)
    assert np.isnan(matrix[1:, 3]).all()


def test_one_colour_scale(predictions):
    figure = heat_map.offsite_heat_map(evaluate(predictions(2)), "uEh")
    first, second = (figure.axes[panel].images[0].norm for panel in (0, 1))
    assert (first.vmin, first.vmax) == (second.vmin, second.vmax)
    assert first.vmax == max(np.nanmax(image(figure, panel)) for panel in (0, 1))


def test_many_shells(predictions, monkeypatch):
    evaluation = evaluate(predictions(2))
    monkeypatch.setattr(heat_map, "MAX_LABELS", 3)
    figure = heat_map.offsite_heat_map(evaluation, "uEh")
    assert ticks(figure.axes[0].xaxis) == ["O", "H"]
    pair = [b for b in evaluation.blocks if not b.onsite and b.elements == ("O", "H")]
    expected = np.average([b.full for b in pair], weights=[b.n_elements for b in pair]) / MICRO_HARTREE
    np.testing.assert_allclose(image(figure, 1)[0, 1], expected)


def test_a_panel_for_each_stage(predictions):
    (made,) = predictions(1)
    h = made.stages["full"]
    four = replace(made, stages={"regression": made.sample.hamiltonian, **made.stages, "network": h + h})
    for prediction, n in ((four, 4), (made, 2), (replace(made, stages={"stage1": h, "full": h}), 1)):
        figure = heat_map.onsite_heat_map(evaluate([prediction]), "uEh")
        assert sum(bool(axes.images) for axes in figure.axes) == n


def test_no_blocks_no_figure(predictions):
    evaluation = evaluate(predictions(1))
    onsite = replace(evaluation, blocks=tuple(block for block in evaluation.blocks if block.onsite))
    assert heat_map.offsite_heat_map(onsite, "uEh") is None


def test_no_error(predictions):
    made = [replace(p, stages={"full": p.sample.hamiltonian}) for p in predictions(1)]
    for draw in (heat_map.onsite_heat_map, heat_map.offsite_heat_map):
        assert png(draw(evaluate(made), "uEh"), dpi=40).startswith(b"\x89PNG")
