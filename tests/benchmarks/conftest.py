"""Fixtures of the tests of `benchmarks/`."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_script(monkeypatch) -> Callable[[str], ModuleType]:
    """`benchmark_script(name)`: a script of `benchmarks/` as a module; it is forgotten after the test."""
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")}
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in scripts & set(sys.modules):
        del sys.modules[name]
