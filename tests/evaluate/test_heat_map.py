"""The heat map holds each block's MAE at its place, and nothing where there is no block."""

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


def test_offsite_blocks_fill_a_symmetric_matrix_of_shells(predictions):
    evaluation = evaluate(predictions(3))
    figure = heat_map.offsite_heat_map(evaluation, "uEh")
    axes = figure.axes[1]
    labels = ["O 1s", "O 2s", "O 2p", "H 1s"]
    assert ticks(axes.xaxis) == ticks(axes.yaxis) == labels
    by_label = {block.label: block for block in evaluation.blocks}
    for panel, stage in enumerate(("stage1", "full")):
        matrix = image(figure, panel)
        for k, label in enumerate(labels):
            expected = getattr(by_label[f"{label} – H 1s"], stage) / MICRO_HARTREE
            np.testing.assert_allclose([matrix[k, 3], matrix[3, k]], expected)
        assert np.isnan(matrix[:3, :3]).all()


def test_onsite_blocks_are_a_matrix_for_each_element(predictions):
    evaluation = evaluate(predictions(3))
    figure = heat_map.onsite_heat_map(evaluation, "meV")
    axes = figure.axes[0]
    assert ticks(axes.xaxis) == ["O 1s", "O 2s", "O 2p", "H 1s"]
    assert ticks(axes.yaxis) == ["1s", "2s", "2p"]
    by_label = {block.label: block for block in evaluation.blocks}
    matrix = image(figure, 0)
    np.testing.assert_allclose(matrix[[0, 2], [2, 0]], by_label["O 1s – O 2p on-site"].stage1 / 1e-3)
    np.testing.assert_allclose(matrix[0, 3], by_label["H 1s – H 1s on-site"].stage1 / 1e-3)
    assert np.isnan(matrix[1:, 3]).all()


def test_both_stages_share_one_scale(predictions):
    figure = heat_map.offsite_heat_map(evaluate(predictions(2)), "uEh")
    first, second = (figure.axes[panel].images[0].norm for panel in (0, 1))
    assert (first.vmin, first.vmax) == (second.vmin, second.vmax)
    assert first.vmax == max(np.nanmax(image(figure, panel)) for panel in (0, 1))


def test_very_many_shells_are_summed_up_by_element(predictions, monkeypatch):
    evaluation = evaluate(predictions(2))
    monkeypatch.setattr(heat_map, "MAX_LABELS", 3)
    figure = heat_map.offsite_heat_map(evaluation, "uEh")
    assert ticks(figure.axes[0].xaxis) == ["O", "H"]
    pair = [b for b in evaluation.blocks if not b.onsite and b.elements == ("O", "H")]
    expected = np.average([b.full for b in pair], weights=[b.n_elements for b in pair]) / MICRO_HARTREE
    np.testing.assert_allclose(image(figure, 1)[0, 1], expected)


def test_one_stage_has_one_panel_and_no_blocks_no_figure(predictions):
    made = predictions(1)
    figure = heat_map.onsite_heat_map(evaluate([replace(p, stage1=p.full) for p in made]), "uEh")
    assert len(figure.axes) == 2  # a panel and the colour bar
    lone = evaluate(made)
    onsite = replace(lone, blocks=tuple(block for block in lone.blocks if block.onsite))
    assert heat_map.offsite_heat_map(onsite, "uEh") is None


def test_blocks_without_error_can_be_drawn(predictions):
    made = [replace(p, stage1=p.sample.hamiltonian, full=p.sample.hamiltonian) for p in predictions(1)]
    for draw in (heat_map.onsite_heat_map, heat_map.offsite_heat_map):
        assert png(draw(evaluate(made), "uEh"), dpi=40).startswith(b"\x89PNG")
