"""The table of a training that was stopped, perhaps in the middle of a line."""

import csv

from rich.console import Console

from harmose.train.log import COLUMNS, METRICS, Log


def row(step: int, **more) -> dict:
    return {"step": step, "phase": "stage1", "seconds": 1.5 * step, "loss": 10.0, "learning_rate": 1e-3} | more


def steps(folder) -> list[str]:
    with open(folder / METRICS, newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames) == COLUMNS
        return [r["step"] for r in reader]


def test_a_resumed_log_goes_on_after_the_saved_step(tmp_path):
    with Log(tmp_path, Console(quiet=True), 0, tensorboard=False) as log:
        for k in (3, 6, 9):
            log.write(row(k, mae_train=0.5, mae_val=1.0))
    with open(tmp_path / METRICS, "a") as file:
        file.write("12,stage1,18.0")
    with Log(tmp_path, Console(quiet=True), 7, tensorboard=False) as log:
        assert steps(tmp_path) == ["3", "6"]
        log.write(row(9))
    assert steps(tmp_path) == ["3", "6", "9"]
    with Log(tmp_path, Console(quiet=True), 0, tensorboard=False):
        assert steps(tmp_path) == []


def test_a_cut_line_is_dropped(tmp_path):
    with Log(tmp_path, Console(quiet=True), 0, tensorboard=False) as log:
        log.write(row(3))
    with open(tmp_path / METRICS, "a") as file:
        file.write("5,stage1,18")
    with Log(tmp_path, Console(quiet=True), 7, tensorboard=False):
        assert steps(tmp_path) == ["3"]
