"""Settings of stage 1: widths of edges, and what is refused."""

import pytest
from pydantic import ValidationError

from harmose.nn.stage1.settings import Stage1Settings


def test_edges_have_the_widths_of_the_settings():
    assert Stage1Settings(scalars=5, pseudoscalars=3, so2_channels=7).edges == (5, 3, 7)


@pytest.mark.parametrize("changes", [{"channels": 0}, {"layers": 1.5}, {"hidden": -1}, {"doublets": 3}], ids=str)
def test_settings_without_meaning_are_refused(changes):
    with pytest.raises(ValidationError):
        Stage1Settings(**changes)
