"""`harmose evaluate`: columns, files, bad input."""

import json

import pytest

from harmose.cli import main
from harmose.data.store import Store
from harmose.units import MICRO_HARTREE


def test_evaluate(tmp_path, water_model, water_store, capsys):
    out = tmp_path / "evaluation"
    command = ["evaluate", "exact", str(water_store), "--out", str(out), "--rotations", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "2 samples" in printed  # the split val
    result = json.loads((out / "evaluation.json").read_text())
    assert result["stages"]["stage1"]["mae"] == pytest.approx(10 * MICRO_HARTREE)
    assert result["stages"]["full"]["mae"] == pytest.approx(4 * MICRO_HARTREE)
    # A constant in every element is not equivariant.
    assert result["stages"]["full"]["rotation_error"] > MICRO_HARTREE
    assert "60.0" in printed
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "report.html"]
    assert main(command) == 2
    assert "evaluation.json: exists already; --force replaces it" in capsys.readouterr().err
    assert main([*command, "--force", "--split", "train", "--max-samples", "3"]) == 0
    assert json.loads((out / "evaluation.json").read_text())["n_samples"] == 3


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--unit", "kcal"], "Invalid value for '--unit': 'kcal' is not one of 'uEh', 'meV', 'eV', 'Ha'"),
        (["--split", "holdout"], "expected a split among train, val, all, got 'holdout'"),
        (["--max-samples", "0"], "Invalid value for '--max-samples'"),
        (["--network-alone", "exact"], "expected a model that was trained with regression: none"),
    ],
)
@pytest.mark.usefixtures("water_model")
def test_bad_options(water_store, capsys, extra, words):
    assert main(["evaluate", "exact", str(water_store), *extra]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("water_model")
def test_columns(tmp_path, water_store, capsys):
    command = ["evaluate", "exact", str(water_store), "--rotations", "0", "--out", str(tmp_path / "out")]
    assert main([*command, "--network-alone", "alone"]) == 0
    printed = capsys.readouterr().out
    header = next(line for line in printed.splitlines() if "metric" in line)
    titles = ["metric", "regression", "+ stage 1", "+ stage 2", "network alone", "reduction by stage 2"]
    assert [cell.strip() for cell in header.strip("┃ ").split("┃")] == titles
    stages = json.loads((tmp_path / "out" / "evaluation.json").read_text())["stages"]
    mae = {stage: metrics["mae"] / MICRO_HARTREE for stage, metrics in stages.items()}
    assert mae == pytest.approx({"regression": 30, "stage1": 10, "full": 4, "network": 4})
    assert main(["evaluate", "alone", str(water_store), "--rotations", "0"]) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if "metric" in line)
    assert [cell.strip() for cell in header.strip("┃ ").split("┃")] == [
        "metric",
        "stage 1",
        "+ stage 2",
        "reduction by stage 2",
    ]


def test_labels_of_another_functional(tmp_path, water_model, water_basis, water_sample, capsys):
    with Store.create(tmp_path / "pbe", water_basis, metadata={"functional": "pbe"}) as store:
        store.append(water_sample(0))
    assert main(["evaluate", "exact", str(tmp_path / "pbe")]) == 2
    assert "expected labels of functional hf, as the model's, got pbe" in capsys.readouterr().err


def test_train_then_evaluate(tmp_path, water_store, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "data: water\nout: run\naccelerator: cpu\ntensorboard: false\nvalidations: 1\n"
        "phases: {stage1: {steps: 3, batch_size: 2}, stage2: {steps: 2, batch_size: 2}}\n"
    )
    assert main(["train", "config.yaml", "seed=1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "model: run"
    assert main(["evaluate", "run", "water", "--out", "report", "--rotations", "1"]) == 0
    printed, page = capsys.readouterr().out, (tmp_path / "report" / "report.html").read_text()
    assert "Hamiltonian MAE" in printed
    assert "errors within the bounds of 80 % confidence" in printed  # two held-out and six left-out samples
    assert "learning curve" in page
    assert "<title>run on water</title>" in page
    assert main(["train", "config.yaml", "seed=1"]) == 0
    assert "already trained" in capsys.readouterr().out
    assert main(["train", "config.yaml", "seed=2"]) == 2
    assert "out: run holds a training with seed = 1, this one has 2" in capsys.readouterr().err


@pytest.mark.usefixtures("water_model")
def test_few_samples_at_a_time(tmp_path, water_store, water_sample, samples_alive, monkeypatch):
    """Of 40 samples no more are in memory than are predicted in one pass, here 3, and the one before."""
    monkeypatch.setattr("harmose.train.dataset.PAIRS_AT_ONCE", 9)
    with Store.open(water_store, writable=True) as store:
        store.append_all(water_sample(k) for k in range(8, 40))
    out = tmp_path / "out"
    assert main(["evaluate", "exact", str(water_store), "--split", "all", "--rotations", "1", "--out", str(out)]) == 0
    assert json.loads((out / "evaluation.json").read_text())["n_samples"] == 40
    assert samples_alive.n == 40 + 4 + 1  # those that are turned, and the one of median error
    assert samples_alive.most <= 4
