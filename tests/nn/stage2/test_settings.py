"""Settings of stage 2: widths of edges, defaults, and what is refused."""

import pytest
from pydantic import ValidationError

from harmose.nn.stage2.settings import Stage2Settings


def test_edges_have_the_widths_of_the_settings():
    assert Stage2Settings(scalars=5, pseudoscalars=3, so2_channels=7).edges == (5, 3, 7)


def test_one_attention_round_by_default():
    assert Stage2Settings().attention_rounds == 1


@pytest.mark.parametrize(
    "changes", [{"attention_rounds": 0}, {"symmetry": "free"}, {"rotate": 1}, {"layers": 2}, {"heads": "4"}], ids=str
)
def test_settings_without_meaning_are_refused(changes):
    with pytest.raises(ValidationError):
        Stage2Settings(**changes)
