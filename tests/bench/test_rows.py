"""Work that is timed for each system."""

import pytest

from harmose.bench import rows
from harmose.bench.rows import rows_of
from harmose.bench.settings import BenchSettings
from harmose.bench.systems import system
from harmose.bench.timing import BenchmarkLimits

ONCE = BenchmarkLimits(1, 0.01)


def work_of(name: str, **settings) -> set[tuple[str, str]]:
    return {(row.work, row.by) for row in rows_of(system(name), BenchSettings(limits=ONCE, **settings))}


def test_large_system(monkeypatch):
    monkeypatch.setattr(rows, "MOST_PAIRS_AS_A_WHOLE", 700)
    (row,) = rows_of(system("graphene-3x3"), BenchSettings(limits=ONCE))
    assert (row.atoms, row.orbitals, row.edges, row.work) == (18, 234, 1404, "in parts")


def test_molecule():
    work = {"predict", "stage1", "stage2", "regression", "step stage1", "step joint", "batch stored"}
    assert work_of("water-1") >= {(name, "harmose") for name in work}


def test_e3nn():
    pytest.importorskip("e3nn")
    assert work_of("water-1", against=("e3nn",)) >= {("step stage1", "e3nn"), ("network stage1", "e3nn")}


def test_limits(monkeypatch):
    for name in ("MOST_EDGES_COMPARED", "MOST_EDGES_TRAINED", "MOST_EDGES_LOADED", "MOST_ORBITALS_WITH_FERMI_LEVEL"):
        monkeypatch.setattr(rows, name, 1)
    left = work_of("graphene-1x1", against=("e3nn",))
    assert ("blocks of H", "harmose") in left
    assert not {work for work, by in left if by != "harmose" or work in ("predict", "batch ready", "step stage1")}
