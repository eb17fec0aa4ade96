"""The magic-angle example on a cell of 28 atoms: all files that it writes."""

import importlib.util
import sys
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples" / "results"


def test_all_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location("magic_angle", EXAMPLES / "magic_angle.py")
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "magic_angle", example)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "SMALL", 1)
    monkeypatch.setattr(example, "NEAR", 4)
    assert example.main([str(tmp_path / "out"), "--m", "1", "--cells", "1", "--width", "0.5", "--whole", "2"]) == 0
    out = capsys.readouterr().out
    assert "(2, 1): 21.787 degrees, 28 atoms" in out
    assert "of 112 electrons below" in out
    density = np.loadtxt(tmp_path / "out" / "dos.csv", delimiter=",", skiprows=1)
    assert density.shape == (1001, 3)
    assert (density[:, 1] > -1e-3).all()
    states = np.genfromtxt(tmp_path / "out" / "states.csv", delimiter=",", skip_header=1, usecols=(1, 3))
    at_k = states[6:, 1]
    assert states.shape == (10, 2)
    assert np.abs(at_k).max() < 0.02, "the cones of the layers meet at K"
    assert (tmp_path / "out" / "magic-angle.png").stat().st_size > 10_000
