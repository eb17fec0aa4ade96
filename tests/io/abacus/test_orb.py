"""ABACUS's orbital files: values, order of shells, damaged files."""

from pathlib import Path

import numpy as np
import pytest

import harmose
from harmose.core.basis import Shell
from harmose.errors import BasisError, FormatError
from harmose.io.abacus.orb import read_orb
from harmose.units import BOHR

POINTS, SPACING = 601, 0.01
COUNTS = (2, 2, 1)


def shape(r: np.ndarray, l: int, k: int) -> np.ndarray:
    """R of function k of an l, not normalised, in Bohr^(-3/2)."""
    return r**l * (1 - (r / 6) ** 2) ** 3 * (1 - 0.3 * k * r**2)


def orb_text(symbol: str = "C", scale: float = 1.0) -> str:
    r = SPACING * np.arange(POINTS)
    lines = ["-" * 75, f"Element                     {symbol}", "Energy Cutoff(Ry)          100",
             "Radius Cutoff(a.u.)         6", "Lmax                        2"]  # fmt: skip
    lines += [f"Number of {letter}orbital-->       {n}" for letter, n in zip("SPD", COUNTS)]
    lines += [
        "-" * 75,
        "SUMMARY  END",
        "",
        f"Mesh                        {POINTS}",
        f"dr                          {SPACING}",
    ]
    for l, count in enumerate(COUNTS):
        for k in range(count):
            values = shape(r, l, k)
            values *= scale / np.sqrt(np.sum((r * values) ** 2) * SPACING)
            lines += ["                Type                   L                   N", f"    0    {l}    {k}"]
            rows = [values[start : start + 4] for start in range(0, POINTS, 4)]
            lines += [" ".join(f"{v:.14e}" for v in row) for row in rows]
    return "\n".join(lines) + "\n"


def write(path: Path, **settings) -> Path:
    path.write_text(orb_text(**settings))
    return path


@pytest.mark.parametrize("scale", [1.0, 1.01])
def test_functions(tmp_path, scale):
    """ABACUS normalises what it reads."""
    orbitals = read_orb(write(tmp_path / "C_gga_6au_100Ry_2s2p1d.orb", scale=scale))
    assert orbitals.number == 6
    assert orbitals.shells == (Shell(1, 0), Shell(2, 0), Shell(2, 1), Shell(3, 1), Shell(3, 2))
    r = np.linspace(0, 6, 333)
    for function, (l, k) in zip(orbitals.functions, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]):
        assert function.cutoff == pytest.approx(6 * BOHR)
        fine = np.linspace(0, 6, 20001)
        norm = np.sqrt(np.sum((fine * shape(fine, l, k)) ** 2) * fine[1])
        np.testing.assert_allclose(function(r * BOHR) * BOHR**1.5, shape(r, l, k) / norm, atol=1e-8)
        grid, values = function.samples()
        assert grid[1] == pytest.approx(SPACING * BOHR)
        assert np.sum((grid * values) ** 2) * function.step == pytest.approx(1, abs=1e-10)


def test_basis_set(tmp_path):
    files = [write(tmp_path / "C.orb"), write(tmp_path / "H.orb", symbol="H")]
    basis = harmose.basis(files)
    assert (basis.name, basis.elements) == ("abacus", (1, 6))
    assert basis.basis.radii[6] == 3.2  # 6 Bohr, up to 0.1 angstrom
    assert harmose.basis(str(files[0])).elements == harmose.basis(files, ["C"]).elements == (6,)
    with pytest.raises(BasisError, match="a second one for C"):
        harmose.basis([files[0], files[0]])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Element                     C", "Element                     Xx", "got Element 'Xx'"),
        ("Element", "Atom", "with a line Element"),
        ("Mesh                        601", "Mesh                        602", "expected 602 finite numbers"),
        ("Mesh                        601", "Mesh                        many", "a number after Mesh, got 'many'"),
        ("dr                          0.01", "dr                          10", "end within 200 Bohr"),
        ("Sorbital-->       2", "Sorbital-->       3", "expected 6 functions as its head says, got 5"),
        ("Number of", "Count of", "'Number of Sorbital-->'"),
    ],
)
def test_damaged_files(tmp_path, old, new, text):
    content = orb_text()
    assert old in content
    (tmp_path / "C.orb").write_text(content.replace(old, new))
    with pytest.raises(FormatError, match=text) as raised:
        read_orb(tmp_path / "C.orb")
    assert str(tmp_path / "C.orb") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_truncated_missing_and_not_normalised(tmp_path):
    path = write(tmp_path / "C.orb", scale=1.2)
    with pytest.raises(FormatError, match=r"a norm of 1.44 for l = 0"):
        read_orb(path)
    whole = path.read_bytes()
    for fraction in np.linspace(0, 0.97, 8):
        path.write_bytes(whole[: int(fraction * len(whole))])
        with pytest.raises(FormatError):
            read_orb(path)
    with pytest.raises(FormatError, match="no such file"):
        read_orb(tmp_path / "none.orb")
