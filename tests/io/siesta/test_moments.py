"""Initial moments by SIESTA's inputs."""

import pytest

from harmose.io.siesta.moments import initial_moments
from harmose.io.siesta.run import Run

BLOCK = "%block DM.InitSpin\n{}\n%endblock DM.InitSpin\n"


@pytest.mark.parametrize(
    ("text", "moments"),
    [
        ("", [1, 1, 1]),  # the largest moments, parallel
        ("DM.InitSpin.AF true", [1, -1, 1]),
        ("dm_init-spin-af", [1, -1, 1]),
        ("DM.InitSpin.AF .false.", [1, 1, 1]),
        (BLOCK.format("1 +\n3 -"), [1, 0, -1]),
        (BLOCK.format("2 -1.5d0 # down\n1 2"), [2, -1.5, 0]),
        (BLOCK.format("1 +2. 90. 0."), [2, 0, 0]),
        (BLOCK.format(""), [0, 0, 0]),
        ("DM.UseSaveDM true\n" + BLOCK.format("1 1."), [1, 0, 0]),
        ("DM.UseSaveDM true", None),
        (BLOCK.format("4 1."), None),
        (BLOCK.format("[1 -- 3] 1."), None),
        (BLOCK.format("1 much"), None),
        ("%include more.fdf", None),
    ],
)
def test_what_an_input_says(tmp_path, text, moments):
    (tmp_path / "run.fdf").write_text(f"SystemLabel fe\nSpin polarized\n{text}\n")
    found = initial_moments(Run("fe", tmp_path / "fe.HSX"), 3)
    assert (None if found is None else found.tolist()) == moments


def test_without_an_input(tmp_path):
    assert initial_moments(Run("fe", tmp_path / "fe.HSX"), 3) is None
    for name in ("a", "b"):
        (tmp_path / f"{name}.fdf").write_text("SystemLabel fe\n")
    assert initial_moments(Run("fe", tmp_path / "fe.HSX"), 3) is None
