"""`benchmarks/ablation.py` with a few steps on eight waters: tables, resuming, reductions."""

import json

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from harmose.cli import main
from harmose.data.store import Store
from harmose.evaluate.evaluation import Evaluation
from harmose.inference.checkpoint import load
from harmose.units import MICRO_HARTREE

WIDTHS = {"channels": 4, "pseudo_channels": 2, "scalars": 8, "so2_channels": 4, "pseudoscalars": 2, "hidden": 8}
CONFIG = {
    "network": {
        "stage1": {**WIDTHS, "radial": 8, "layers": 1},
        "stage2": {**WIDTHS, "heads": 2, "mlp_layers": 1, "turns": 2},
    },
    "phases": {name: {"steps": 5, "warmup": 2, "batch_size": 2} for name in ("stage1", "stage2", "joint")},
    "validations": 2,
    "accelerator": "cpu",
    "tensorboard": False,
    "regression": "pairs",
}
"""A training that is small enough for a test."""


@pytest.fixture
def ablation(benchmark_script):
    return benchmark_script("ablation")


@pytest.fixture
def run(ablation, water_store, tmp_path):
    """`run("--seeds", "2", ...)`: run the script in the folder `out`; return the result of typer's runner."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    with Store.open(water_store, writable=True) as store:
        names = store.names()
        store.set_splits({"train": names[:4], "val": names[4:]})
    phases = ["phases.stage2.steps=0", "phases.joint.steps=0"]
    none = [*phases, "phases.stage1.steps=0"]
    plan = {
        "sets": {"water": {"title": "Eight waters", "store": "w", "config": "small.yaml"}},
        "variants": {
            "regression": {"title": "regression alone", "change": none},
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


def test_table(run, tmp_path):
    assert run().exit_code == 0
    out = tmp_path / "out"
    runs = {p.parent.name: json.loads(p.read_text()) for p in out.glob("runs/water/*/evaluation.json")}
    assert sorted(runs) == [
        f"{name}-{seed}" for name in ("full", "regression", "stage1", "stage1-wide") for seed in (0, 1)
    ]
    assert runs["regression-0"]["n_parameters"] == 0
    assert list(runs["regression-0"]["evaluation"]["stages"]) == ["regression"]
    assert list(runs["stage1-0"]["evaluation"]["stages"]) == ["regression", "stage1"]
    whole = runs["full-0"]["n_parameters"]
    assert runs["stage1-0"]["n_parameters"] < 0.6 * whole
    assert runs["stage1-wide-0"]["n_parameters"] == pytest.approx(whole, rel=0.15)
    table = (out / "ablation.md").read_text().splitlines()
    (row,) = [line for line in table if line.startswith("| both stages |") and "±" in line][:1]
    mae = [runs[f"full-{seed}"]["evaluation"]["stages"]["full"]["mae"] / MICRO_HARTREE for seed in (0, 1)]
    mean, spread = row.split(" | ")[3].split(" ± ")
    assert float(mean.replace(",", "")) == pytest.approx(np.mean(mae), rel=6e-3)
    assert float(spread.replace(",", "")) == pytest.approx(np.std(mae, ddof=1), rel=6e-2)
    assert (out / "ablation-water.png").stat().st_size > 10_000
    assert len(list((out / "regression").iterdir())) == 1


def test_metrics(run, tmp_path, water_store):
    """The metrics are those of `harmose evaluate`, which has no cached regression."""
    run("--seeds", "1", "--variant", "full")
    folder = tmp_path / "out" / "runs" / "water" / "full-0"
    finished = json.loads((folder / "evaluation.json").read_text())
    assert load(folder).card.seed == 0
    with Store.open(water_store, writable=True) as store:
        store.set_splits({"test": finished["settings"]["evaluated"]})
    command = ["evaluate", str(folder), str(water_store), "--split", "test", "--rotations", "0"]
    assert main([*command, "--out", str(tmp_path / "report")]) == 0
    again = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    for name in ("mae", "mae_elements", "orbital_energy", "homo", "gap", "wavefunction"):
        assert finished["evaluation"]["stages"]["full"][name] == pytest.approx(again["stages"]["full"][name], rel=1e-9)


def test_finished_runs(run, tmp_path):
    run("--seeds", "1", "--variant", "stage1")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("runs/*/*/*")}
    again = run("--variant", "full", "--seeds", "1")
    assert again.exit_code == 0
    assert again.output.count("evaluated in") == 1  # the reference is finished
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    other = run("--variant", "stage1", "--seeds", "1", "--time", "50s")
    assert other.exit_code == 2
    assert "was made with another time_limit" in other.output


def test_challenging_samples_and_block(benchmark_script, run, tmp_path):
    run("--seeds", "1", "--variant", "full")
    report = benchmark_script("ablation_report")
    evaluations = {}
    for name in ("stage1", "full"):
        content = json.loads((tmp_path / "out" / "runs" / "water" / f"{name}-0" / "evaluation.json").read_text())
        evaluations[name] = Evaluation.from_dict(content["evaluation"])
    table = report.values([report.Run(name, 0, e, 1) for name, e in evaluations.items()], "stage1", "eV")
    worst = max(evaluations["stage1"].samples, key=lambda s: s.full.mae).name
    block = max(evaluations["stage1"].blocks, key=lambda b: b.full).label
    errors = {s.name: s.full.mae for s in evaluations["full"].samples}
    assert table["mae_challenging_samples"]["full"][0] == pytest.approx(errors[worst])
    blocks = {b.label: b.full for b in evaluations["full"].blocks}
    assert table["mae_challenging_block"]["full"][0] == pytest.approx(blocks[block])
    gained = report.reductions(table, "stage1")
    expected = 100 * (1 - evaluations["full"].full.mae / evaluations["stage1"].full.mae)
    assert gained["mae"]["full"][0] == pytest.approx(expected)
    assert gained["mae"]["stage1"][0] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--variant", "stage3"], "--variant: expected one of full, regression, stage1, stage1-wide, got stage3"),
        (["--only", "oil"], "--only: expected one of water, got oil"),
    ],
)
def test_bad_options(run, arguments, text):
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_unused_store(run, water_store):
    result = run(store=f"oil={water_store}")
    assert result.exit_code == 2
    assert "expected --store NAME=PATH of a set: w" in result.output
