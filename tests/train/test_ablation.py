"""The ablation table of a few steps on eight waters: made once, taken up again, reduced against the reference."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from harmose.cli.models import evaluate as evaluate_command
from typer.testing import CliRunner

from harmose.data.store import Store
from harmose.inference.checkpoint import load

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ablation

    yield ablation
    for name in ("ablation", "ablation_report"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(ablation, small_config, water_store, tmp_path):
    """`run("--seeds", "2", ...)` in the folder `out`; the console's text and the exit code."""
    small_config()  # leaves small.yaml
    with Store.open(water_store, writable=True) as store:
        names = store.names()
        store.set_splits({"train": names[:4], "val": names[4:]})
    phases = ["phases.stage2.steps=0", "phases.joint.steps=0"]
    plan = {
        "sets": {"water": {"title": "Eight waters", "store": "w", "config": "small.yaml"}},
        "variants": {
            "stage1": {"title": "stage 1", "change": phases},
            "stage1-wide": {"title": "stage 1, wide", "change": phases, "widen": "full"},
            "full": {"title": "both stages", "change": ["phases.stage2.learning_rate=1e-2"]},
        },
        "reference": "stage1",
        "time_limit": "60s",
        "seeds": 2,
        "change": ["clock=cpu", "threads=1"],
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    app = typer.Typer()
    app.command()(ablation.main)

    def call(*more: str, store: str = f"w={water_store}"):
        arguments = [str(tmp_path / "out"), "--plan", str(tmp_path / "plan.yaml"), "--store", store, *more]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return call


def test_a_table_of_every_variant(run, tmp_path):
    assert run().exit_code == 0
    out = tmp_path / "out"
    runs = {p.parent.name: json.loads(p.read_text()) for p in out.glob("runs/water/*/evaluation.json")}
    assert sorted(runs) == ["full-0", "full-1", "stage1-0", "stage1-1", "stage1-wide-0", "stage1-wide-1"]
    whole = runs["full-0"]["n_parameters"]
    assert runs["stage1-0"]["n_parameters"] < 0.6 * whole
    assert runs["stage1-wide-0"]["n_parameters"] == pytest.approx(whole, rel=0.15)
    table = (out / "ablation.md").read_text().splitlines()
    (row,) = [line for line in table if line.startswith("| both stages |") and "±" in line][:1]
    mae = [runs[f"full-{seed}"]["evaluation"]["full"]["mae"] / 27.211386245988e-6 for seed in (0, 1)]
    mean, spread = row.split(" | ")[3].split(" ± ")
    assert float(mean.replace(",", "")) == pytest.approx(np.mean(mae), rel=6e-3)
    assert float(spread.replace(",", "")) == pytest.approx(np.std(mae, ddof=1), rel=6e-2)
    assert (out / "ablation-water.png").stat().st_size > 10_000
    assert len(list((out / "closed-form").iterdir())) == 1


def test_metrics_are_those_of_evaluate(run, tmp_path, water_store):
    """`harmose evaluate` on the same samples, without what runs share."""
    run("--seeds", "1", "--variant", "full")
    folder = tmp_path / "out" / "runs" / "water" / "full-0"
    found = json.loads((folder / "evaluation.json").read_text())
    assert load(folder).card.seed == 0
    with Store.open(water_store, writable=True) as store:
        store.set_splits({"test": found["settings"]["evaluated"]})
    evaluate_command(str(folder), water_store, out=tmp_path / "report", split="test", rotations=0)
    again = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    for name in ("mae", "mae_elements", "orbital_energy", "homo", "gap", "wavefunction"):
        assert found["evaluation"]["full"][name] == pytest.approx(again["full"][name], rel=1e-9)


def test_finished_runs_are_taken_as_they_are(run, tmp_path):
    run("--seeds", "1", "--variant", "stage1")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("runs/*/*/*")}
    again = run("--variant", "full", "--seeds", "1")
    assert again.exit_code == 0
    assert again.output.count("evaluated in") == 1  # the reference was there
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    other = run("--variant", "stage1", "--seeds", "1", "--time", "50s")
    assert other.exit_code == 2
    assert "was made with another time_limit" in other.output


def test_challenging_is_where_the_reference_is_worst(ablation, run, tmp_path):
    run("--seeds", "1", "--variant", "full")
    from ablation_report import Run, reductions, values

    from harmose.evaluate.evaluation import Evaluation

    found = {}
    for name in ("stage1", "full"):
        content = json.loads((tmp_path / "out" / "runs" / "water" / f"{name}-0" / "evaluation.json").read_text())
        found[name] = Evaluation.from_dict(content["evaluation"])
    table = values([Run(name, 0, e, 1) for name, e in found.items()], "stage1", "eV")
    worst = max(found["stage1"].samples, key=lambda s: s.full.mae).name
    block = max(found["stage1"].blocks, key=lambda b: b.full).label
    errors = {s.name: s.full.mae for s in found["full"].samples}
    assert table["mae_challenging_samples"]["full"][0] == pytest.approx(errors[worst])
    blocks = {b.label: b.full for b in found["full"].blocks}
    assert table["mae_challenging_block"]["full"][0] == pytest.approx(blocks[block])
    gained = reductions(table, "stage1")
    expected = 100 * (1 - found["full"].full.mae / found["stage1"].full.mae)
    assert gained["mae"]["full"][0] == pytest.approx(expected)
    assert gained["mae"]["stage1"][0] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--variant", "stage3"], "--variant: expected one of full, stage1, stage1-wide, got stage3"),
        (["--only", "oil"], "--only: expected one of water, got oil"),
    ],
)
def test_mistakes_are_named(run, arguments, text):
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_a_store_that_no_set_asks_for(run, water_store):
    result = run(store=f"oil={water_store}")
    assert result.exit_code == 2
    assert "expected --store NAME=PATH of a set: w" in result.output
