"""`harmose predict` in parts, and what it says of options without meaning."""

import numpy as np
import pytest
from ase.build import molecule
from typer.testing import CliRunner

import harmose
from harmose.cli import app, main


@pytest.fixture
def water(tmp_path):
    path = tmp_path / "water.xyz"
    molecule("H2O").write(path)
    return path


def test_in_parts(water, tmp_path):
    found = {}
    for name, options in {"whole": [], "parts": ["--partition", "1", "--memory", "8GB"]}.items():
        out = tmp_path / f"{name}.npz"
        arguments = ["predict", "water-pbe-def2svp", str(water), "--out", str(out), *options]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        found[name] = harmose.read(out).hamiltonian.values
        assert ("3 atoms, 3 pairs in 3 parts; memory " in done.output) == (name == "parts")
        assert ("block_bounds" in np.load(out)) == (name == "whole")
    assert np.abs(found["parts"] - found["whole"]).max() < 2e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition", "half"], "expected auto, off or a number of pairs, got 'half'"),
        (["--memory", "much"], "expected a quantity like 500MB or 12GB, got 'much'"),
        (["--stage", "2"], "'2' is not one of 'regression', 'stage1', 'full'"),
        (["--partition", "1", "--memory", "1MB"], "memory: 3 atoms need at least"),
    ],
)
def test_options_without_meaning(water, tmp_path, options, message, capsys):
    arguments = ["predict", "water-pbe-def2svp", str(water), "--out", str(tmp_path / "x.npz"), *options]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
