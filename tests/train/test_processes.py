"""Trainings on two processes of this machine: the numbers of one, one log, and an end in order however they end."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harmose.errors import ConfigError
from harmose.inference.checkpoint import load
from harmose.train import placement as placement_module
from harmose.train.engine import train
from harmose.train.placement import Placement, placement

TIMEOUT = 300
"""Seconds, for a busy machine: each process imports PyTorch."""

PHASES = (
    "phases.stage1.steps=40", "phases.stage1.batch_size=3", "phases.stage1.learning_rate=1e-3",
    "phases.stage2.accumulate=2", "phases.stage2.batch_pairs=6", "phases.stage2.learning_rate=1e-5",
    "phases.joint.batch_size=5", "phases.joint.learning_rate=1e-5",
)  # fmt: skip
"""Batches that cannot be divided evenly. Adam makes full steps of gradients that are rounding errors: small rates."""


@pytest.fixture
def start(small_config, tmp_path):
    """`start(out, "key=value", ...)`: a training on two processes, begun as a user does."""
    begun = []

    def run(out: str, *overrides: str) -> subprocess.Popen:
        keys = [f"data={tmp_path / 'water'}", f"out={tmp_path / out}", "devices=2", "threads=1", *overrides]
        command = [sys.executable, "-m", "harmose", "train", str(tmp_path / "small.yaml"), *keys]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        begun.append(subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def outcome(process: subprocess.Popen) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr. Both streams close when the last process has ended."""
    out, error = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, error


def other_process(first: int, state: Path) -> int:
    """Return the second process's id, once the state has been written."""
    end = time.monotonic() + TIMEOUT
    while not state.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    ids = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return int(ids[0])


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")


def numbers(path: Path) -> list[dict[str, str]]:
    with open(path / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
@needs_proc
def test_two_processes_are_one_training(small_config, start, tmp_path):
    """The losses, errors and weights of one process; stopped by a signal to either and resumed, those of two, bit by bit."""
    one = train(small_config("one", *PHASES))
    code, out, error = outcome(start("two", *PHASES))
    assert (code, error) == (0, "")
    assert out.count("model: ") == out.count("validation, 2 samples") == 1
    a, b = numbers(one), numbers(tmp_path / "two")
    assert [(r["step"], r["phase"], r["learning_rate"]) for r in a] == [
        (r["step"], r["phase"], r["learning_rate"]) for r in b
    ]
    for key in ("loss", "mae_train", "mae_val"):
        assert [r[key] == "" for r in a] == [r[key] == "" for r in b]
        values = [[float(r[key]) for r in rows if r[key]] for rows in (a, b)]
        assert values[1] == pytest.approx(values[0], rel=1e-5)
    metrics = [load(path).card.metrics for path in (one, tmp_path / "two")]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())

    stopped = start("parts", *PHASES, "save_every=0.05")
    os.kill(other_process(stopped.pid, tmp_path / "parts" / "state.safetensors"), signal.SIGTERM)
    code, _, error = outcome(stopped)
    assert (code, error) == (130, "harmose: interrupted\n")
    code, _, error = outcome(start("parts", *PHASES, "save_every=0.05"))
    assert (code, error) == (0, "")
    assert numbers(tmp_path / "parts") == b
    weights = [load_file(tmp_path / out / "model.safetensors") for out in ("two", "parts")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("which", ["first", "other"])
def test_a_killed_process_ends_all_and_the_training_resumes(small_config, start, tmp_path, which):
    """With random rotations, of which each process draws its own."""
    more = ("phases.stage1.steps=2", "phases.stage2.steps=300", "phases.joint.steps=0", "save_every=0.05")
    rotations = "network.stage2.symmetry=learned"
    run = start("run", *more, rotations)
    state = tmp_path / "run" / "state.safetensors"
    other = other_process(run.pid, state)
    os.kill(run.pid if which == "first" else other, signal.SIGKILL)
    code, _, error = outcome(run)
    assert code == (-signal.SIGKILL if which == "first" else 2)
    assert error.count("\n") == 1
    assert error.startswith("harmose: error: a process of this training has died; the same command goes on")
    saved = load_file(state)
    assert not torch.equal(saved["generator"], saved["generator.1"])
    # the number of processes may change
    resumed = train(small_config("run", *more, rotations, "save_every=60"))
    assert numbers(resumed)[-1]["step"] == "302"


@pytest.mark.slow
def test_patience_and_time_end_all(start, tmp_path):
    """The clock of the first process counts, here its processor time."""
    keys = ["phases.stage1.steps=1000000", "phases.stage1.patience=1", "phases.stage1.learning_rate=0.1", "validations=1000000",
            "phases.stage2.steps=null", "phases.stage2.share=1", "phases.joint.steps=0", "validation_samples=1",
            "time_limit=12s", "clock=cpu"]  # fmt: skip
    code, _, error = outcome(start("run", *keys))
    assert (code, error) == (0, "")
    log = numbers(tmp_path / "run")
    assert 0 < int([r for r in log if r["phase"] == "stage1"][-1]["step"]) < 1000000
    assert log[-1]["phase"] == "stage2"


@pytest.mark.slow
def test_errors_are_one_line(small_config, start, tmp_path):
    code, _, error = outcome(start("run", "train_samples=7"))
    assert (code, error.count("\n")) == (2, 1)
    assert "train_samples: expected at most the 6 of train, got 7" in error
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    code, _, error = outcome(start("full"))
    assert (code, error.count("\n")) == (2, 1)
    assert "holds something else" in error


@pytest.mark.parametrize(("gpus", "said"), [(0, "expected no GPU, which this machine lacks, got 4: set accelerator=cpu"),
                                             (1, "expected at most 1, the GPUs of this machine, got 4: set devices=1")])  # fmt: skip
def test_more_devices_than_there_are(small_config, monkeypatch, gpus, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=said):
        train(small_config("run", "devices=4", "accelerator=cuda"))
    assert not small_config("run").out.exists()


def test_devices_as_they_were_started(small_config, monkeypatch):
    assert placement(small_config()) == Placement(1, 1)
    assert placement(small_config("run", "devices=3")) == Placement(3, 1)
    assert placement(small_config("run", "devices=auto")) == Placement(1, 1)
    with pytest.raises(
        ConfigError, match=r"num_nodes: expected 1 for a command started by itself, got 2: .*MASTER_ADDR"
    ):
        placement(small_config("run", "num_nodes=2"), {})
    monkeypatch.setattr(placement_module.TorchElasticEnvironment, "detect", staticmethod(lambda: True))
    torchrun = {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}
    assert placement(small_config("run", "devices=auto", "num_nodes=2"), torchrun) == Placement(2, 2)
    with pytest.raises(ConfigError, match="devices: expected 2, as torchrun started, got 1: set devices=2"):
        placement(small_config("run", "num_nodes=2"), torchrun)
    monkeypatch.setattr(placement_module.TorchElasticEnvironment, "detect", staticmethod(lambda: False))
    monkeypatch.setattr(placement_module.SLURMEnvironment, "detect", staticmethod(lambda: True))
    with pytest.raises(ConfigError, match="num_nodes: expected 2, as SLURM started, got 1: set num_nodes=2"):
        placement(small_config("run", "devices=4"), {"SLURM_NTASKS": "8", "SLURM_NNODES": "2"})


def test_precisions_and_combinations_that_make_no_sense(small_config):
    with pytest.raises(ConfigError, match="precision: expected 32-true on cpu, got tf32, which GPUs have"):
        train(small_config("run", "precision=tf32"))
    with pytest.raises(ConfigError, match="expected compile false with several devices"):
        small_config("run", "compile=true", "devices=2")
    assert np.isfinite(float(numbers(train(small_config("auto", "devices=auto", "strategy=ddp")))[-1]["loss"]))
