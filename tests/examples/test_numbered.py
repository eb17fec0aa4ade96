"""The numbered examples run in an empty folder, without warnings, and write what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBERED = sorted(EXAMPLES.glob("[0-9]_*.py"))

WRITES = {
    "1_read_and_look": {"water.npz"},
    "2_train_small": {"water.store", "kernel.model", "network.model"},
    "3_bands": {"bands.png"},
    "4_uncertainty": set(),
    "5_scf_start": set(),
    "6_add_a_reader": {"water.toy", "copy.toy"},
}
"""Files and folders that each example leaves in the current folder."""


def run(example, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error:::harmose", "MPLBACKEND": "agg"}
    command = [sys.executable, EXAMPLES / f"{example}.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def numbers(text, pattern):
    return [float(x) for x in re.findall(pattern, text, re.MULTILINE)]


def test_every_example_is_tested():
    assert [path.stem for path in NUMBERED] == list(WRITES)


@pytest.mark.slow
@pytest.mark.parametrize("example", WRITES)
def test_runs_in_an_empty_folder(example, tmp_path):
    result = run(example, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert {path.name for path in tmp_path.iterdir()} == WRITES[example]
    CHECKS[example](result.stdout)


def orbital_energies(text):
    assert "gap: 9.968 eV" in text


def each_part_helps(text):
    kernel, pairs, stage1, stage2 = numbers(text, r" ([\d.]+)$")
    assert kernel < 1
    assert stage2 < stage1 < pairs


def semimetal(text):
    below, above = numbers(text, r"([+-][\d.]+)(?: and| eV)")
    assert abs(below) < 0.05
    assert abs(above) < 0.05


def bounds(text):
    assert "stretched water is outside the training domain: True" in text
    errors = numbers(text, r"candidate \d: expected error ([\d.]+)")
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)


def fewer_cycles(text):
    own, predicted = numbers(text, r"(\d+) cycles")
    assert predicted < own


def read_and_written(text):
    assert text.endswith("read, checked against PySCF, and written again\n")


CHECKS = dict(
    zip(WRITES, (orbital_energies, each_part_helps, semimetal, bounds, fewer_cycles, read_and_written), strict=True)
)


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_docstring_says_how_to_run(path):
    assert f"    python examples/{path.name}\n" in path.read_text()
