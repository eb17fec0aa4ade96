"""What is timed of a system."""

import pytest

from harmose.bench import rows
from harmose.bench.rows import rows_of
from harmose.bench.settings import BenchSettings
from harmose.bench.systems import system
from harmose.bench.timing import Patience

ONCE = BenchSettings(patience=Patience(1, 0.01))


def test_what_is_large_is_predicted_in_parts(monkeypatch):
    monkeypatch.setattr(rows, "LARGE", 700)
    (row,) = rows_of(system("graphene-3x3"), ONCE)
    assert (row.atoms, row.orbitals, row.edges, row.what) == (18, 234, 1404, "in parts")


@pytest.mark.parametrize("by", ["harmose", "e3nn"])
def test_who_does_what(by, found):
    expected = {"harmose": {"predict", "stage1", "stage2", "closed form", "step stage1", "step joint", "batch stored"}}
    expected["e3nn"] = {"step stage1", "network stage1"}
    assert {row.what for row in found if row.by == by} >= expected[by]


@pytest.fixture(scope="module")
def found():
    return rows_of(system("water-1"), ONCE)


def test_others_are_left_out_where_they_take_too_much(monkeypatch):
    for name in ("RIVAL_EDGES", "TRAINED_EDGES", "LOADED_EDGES", "LEVEL_ORBITALS"):
        monkeypatch.setattr(rows, name, 1)
    left = {(row.what, row.by) for row in rows_of(system("graphene-1x1"), ONCE)}
    assert ("blocks of H", "harmose") in left
    assert not {what for what, by in left if by != "harmose" or what in ("predict", "batch ready", "step stage1")}
