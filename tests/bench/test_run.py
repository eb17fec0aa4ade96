"""`harmose bench`: runs, writes what it says, refuses bad input in one line."""

import json

import numpy as np
import pytest

from harmose.bench.memory import peak_memory
from harmose.cli import main


def test_quick(tmp_path, capsys):
    out = tmp_path / "bench"
    assert main(["bench", "--quick", "--against", "none", "--out", str(out)]) == 0
    assert str(out / "bench.md") in capsys.readouterr().out
    text, content = (out / "bench.md").read_text(), json.loads((out / "bench.json").read_text())
    for row in content["rows"]:
        assert (row["system"], row["atoms"], row["orbitals"], row["edges"]) == ("water-1", 3, 24, 6)
        assert 0 < row["timing"]["cpu"]["low"] <= row["timing"]["cpu"]["median"] <= row["timing"]["cpu"]["high"]
    found = {row["what"] for row in content["rows"]}
    assert found >= {
        "graph",
        "closed form",
        "stage1",
        "predict",
        "step stage1",
        "step joint",
        "batch ready",
        "batch stored",
    }
    for title in (
        "**Prediction**",
        "**Training step**",
        "| water-1 | 3 | 6 |",
        "Gflop/s",
    ):
        assert title in text
    for picture in ("time", "speed"):
        assert (out / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({picture}.png)" in text
    # Again into the same folder: an earlier bench is replaced, anything else is not.
    (out / "bench.json").rename(out / "mine.json")
    assert main(["bench", "--quick", "--out", str(out)]) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "benzene"], "--systems: expected some of water-N, ethanol"),
        (["--against", "pytorch"], "--against: expected some of e3nn, deeptb, got 'pytorch'"),
        (["--against", "deeptb"], "--against deeptb: expected --deeptb-python"),
        (
            ["--against", "deeptb", "--deeptb-python", "/no/python"],
            "--deeptb-python /no/python: expected an interpreter",
        ),
        (["--device", "tpu"], "--device: expected cpu, cuda or auto, got 'tpu'"),
        (["--model", "/no/model"], "no such model"),
        (["--model", "water-pbe-def2svp", "--systems", "graphene-1x1"], "expected elements among H, O"),
        (["--threads", "0"], "Invalid value for '--threads'"),
        (["--repeats", "0"], "Invalid value for '--repeats'"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message, tmp_path, capsys):
    out = tmp_path / "bench"
    assert main(["bench", "--quick", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_file_is_not_a_folder(tmp_path, capsys):
    (tmp_path / "bench").write_text("mine")
    assert main(["bench", "--quick", "--out", str(tmp_path / "bench")]) == 2
    assert "expected a folder, got a file" in capsys.readouterr().err


def test_memory_is_that_of_a_fresh_process():
    mine = np.ones(2**27)  # 1 GB, which the other process has nothing to do with
    found = peak_memory("water-1", "train")
    assert 50 < found["before"] <= found["prepared"] <= found["peak"] < mine.nbytes / 1e6


def test_starts_are_those_of_fresh_processes(monkeypatch):
    import sys

    from harmose.bench import imports

    monkeypatch.setattr(imports, "STARTS", {"sleep": [sys.executable, "-c", "import time; time.sleep(0.2)"]})
    found = imports.start_times(2)["sleep"]
    assert found.repeats == 2
    assert found.cpu.median < found.wall.median
    assert found.wall.low > 0.2
