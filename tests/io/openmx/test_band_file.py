"""OpenMX's bands: a file written by hand, and what is refused."""

import numpy as np
import pytest

from harmose.errors import FormatError
from harmose.io.openmx.band_file import read_band_file
from harmose.spin import Spin
from harmose.units import BOHR, HARTREE

TEXT = """ 2  {spin}  -0.125
 1.0 0.0 0.0  0.0 2.0 0.0  0.0 0.0 1.0
2
2  0.0 0.0 0.0   0.5 0.0 0.0  G X
2  0.5 0.0 0.0   0.5 0.5 0.0  X M
"""
K = [[0, 0, 0], [0.5, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]]


def write(path, spin: int = 0) -> None:
    rows = "".join(
        f"2  {k[0]} {k[1]} {k[2]}\n{-1 - n + 10 * up:.6f} {n:.6f}\n" for n, k in enumerate(K) for up in range(1 + spin)
    )
    path.write_text(TEXT.format(spin=spin) + rows)


def test_bands(tmp_path):
    write(tmp_path / "a.Band")
    bands = read_band_file(tmp_path / "a.Band")
    np.testing.assert_allclose(bands.kpoints, K)
    np.testing.assert_allclose(bands.energies, HARTREE * np.array([[-1, 0], [-2, 1], [-3, 2], [-4, 3]]))
    np.testing.assert_allclose(bands.x, np.array([0, 0.5, 0.5, 1.5]) / BOHR)
    np.testing.assert_allclose(bands.ticks, np.array([0, 0.5, 1.5]) / BOHR)
    assert (bands.labels, bands.spin) == (("G", "X", "M"), Spin.NONE)
    assert bands.fermi_level == pytest.approx(-0.125 * HARTREE)
    assert read_band_file(tmp_path / "a.Band", spinor=True).spin is Spin.SPINOR


def test_collinear(tmp_path):
    write(tmp_path / "a.Band", spin=1)
    bands = read_band_file(tmp_path / "a.Band")
    assert (bands.spin, bands.energies.shape, bands.kpoints.shape) == (Spin.COLLINEAR, (2, 4, 2), (4, 3))
    np.testing.assert_allclose(bands.energies[1] - bands.energies[0], HARTREE * np.array([[10, 0]] * 4))


def test_refused(tmp_path):
    with pytest.raises(FormatError, match=r"b\.Band: the bands of OpenMX cannot be read \(No such file"):
        read_band_file(tmp_path / "b.Band")
    write(tmp_path / "a.Band")
    lines = (tmp_path / "a.Band").read_text().splitlines()
    for n, words in (
        (1, "whole, got another file or a part"),
        (-1, "another file"),
        (-2, "expected 4 k-points, got 3"),
    ):
        (tmp_path / "c.Band").write_text("\n".join(lines[:n]))
        with pytest.raises(FormatError, match=words):
            read_band_file(tmp_path / "c.Band")
