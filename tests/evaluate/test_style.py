"""Ticks of logarithmic axes, over decades and over little of one."""

import pytest
from matplotlib.figure import Figure

from harmose.evaluate.style import log_ticks


@pytest.mark.parametrize("limits", [(0.33, 0.46), (0.9, 1.9), (1.0, 300.0), (1e-6, 1e3)])
def test_every_logarithmic_axis_has_numbers(limits):
    axes = Figure().add_subplot()
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    log_ticks(axes.yaxis)
    ticks = [x for x in axes.get_yticks() if limits[0] <= x <= limits[1]]
    assert 3 <= len(ticks) <= 12
