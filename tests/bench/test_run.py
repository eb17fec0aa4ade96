"""`harmose bench`: files, bad input, memory and start of new processes."""

import json
import sys
from itertools import count

import numpy as np
import pytest

from harmose.bench import imports
from harmose.bench.memory import peak_memory
from harmose.bench.settings import COMPARED_LIBRARIES, BenchSettings
from harmose.cli import main


def test_quick(tmp_path, capsys):
    out = tmp_path / "bench"
    assert main(["bench", "--quick", "--out", str(out)]) == 0
    assert str(out / "bench.md") in capsys.readouterr().out
    text, content = (out / "bench.md").read_text(), json.loads((out / "bench.json").read_text())
    for row in content["rows"]:
        assert (row["system"], row["atoms"], row["orbitals"], row["edges"]) == ("water-1", 3, 24, 6)
    steps = {"graph", "regression", "stage1", "predict", "step stage1", "step joint", "batch ready", "batch stored"}
    assert {row["work"] for row in content["rows"]} >= steps
    for title in ("**Prediction**", "**Training step**", "| water-1 | 3 | 6 |", "Gflop/s"):
        assert title in text
    for figure in ("time", "speed"):
        assert (out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({figure}.png)" in text
    # Another folder is not replaced.
    (out / "bench.json").rename(out / "mine.json")
    assert main(["bench", "--quick", "--out", str(out)]) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "benzene"], "--systems: expected some of water-N, ethanol"),
        (["--against", "pytorch"], "Invalid value for '--against': 'pytorch' is not one of 'none', 'e3nn'"),
        (["--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of 'cpu', 'cuda', 'auto'"),
        (["--model", "/no/model"], "no such model"),
        (["--model", "water-pbe-def2svp", "--systems", "graphene-1x1"], "expected elements of the training set (H, O)"),
        (["--threads", "0"], "Invalid value for '--threads'"),
        (["--repeats", "0"], "Invalid value for '--repeats'"),
    ],
)
def test_bad_input(arguments, message, tmp_path, capsys):
    out = tmp_path / "bench"
    assert main(["bench", "--quick", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_missing_library(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", "--quick", "--against", "e3nn", "--out", str(tmp_path / "bench")]) == 2
    assert "--against e3nn: the package e3nn is not installed" in capsys.readouterr().err


def test_file_as_folder(tmp_path, capsys):
    (tmp_path / "bench").write_text("mine")
    assert main(["bench", "--quick", "--out", str(tmp_path / "bench")]) == 2
    assert "expected a folder, got a file" in capsys.readouterr().err


def test_nothing_is_compared_by_default():
    assert BenchSettings().against == ()
    assert COMPARED_LIBRARIES == ("e3nn",)


def test_memory_of_a_new_process():
    mine = np.ones(2**27)  # 1 GB that the other process must not count
    memory = peak_memory("water-1", "train")
    assert 50 < memory["before"] <= memory["prepared"] <= memory["peak"] < mine.nbytes / 1e6


def test_start_times(monkeypatch):
    """With a clock that advances by one second at each reading; the first of the runs does not count."""
    monkeypatch.setattr(imports, "STARTS", {"python": [sys.executable, "-c", ""]})
    readings = count()
    timing = imports.start_times(2, lambda: (float(k := next(readings)), k / 4))["python"]
    assert (timing.repeats, timing.wall.median, timing.cpu.median, next(readings)) == (2, 1.0, 0.25, 6)
