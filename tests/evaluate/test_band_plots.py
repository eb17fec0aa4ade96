"""Figures of bands and densities of states."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.errors import ConfigError
from harmose.evaluate.band_metrics import bands_along, compare_bands, reference_bands
from harmose.evaluate.band_plots import PROJECTION_COLOURS, band_structure, density_of_states, predicted_bands
from harmose.evaluate.style import png
from harmose.physics.dos import DosSettings, dos
from harmose.spin import Spin


@pytest.fixture(scope="module")
def dft(wire):
    return reference_bands(wire)


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_bands(dft):
    figure = band_structure({"DFT": dft}, (-10, 5), "wire")
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["Γ", "X"]
    assert axes.get_ylim() == (-10, 5)
    assert axes.get_legend() is None
    drawn = np.array([line.get_ydata() for line in axes.lines[:4]])
    np.testing.assert_allclose(drawn, dft.relative.T)
    assert "Fermi level" in axes.get_ylabel()
    assert png(figure).startswith(b"\x89PNG")


def test_prediction_over_dft(wire, dft):
    fallen = wire.hamiltonian.values.copy()
    fallen[0, 15] = -3.0
    found = compare_bands(bands_along(wire.hamiltonian.with_values(fallen), wire.overlap, dft), dft)
    figure = band_structure({"DFT": dft, "model": found.aligned}, (-10, 5), "", found.ghosts)
    (axes,) = figure.axes
    assert labels(axes) == ["DFT", "model", "without a DFT state"]
    marked = next(line for line in axes.lines if line.get_label() == "without a DFT state")
    assert len(marked.get_xdata()) == len(dft.kpoints)
    np.testing.assert_allclose(marked.get_ydata(), -3 + 0.2 * np.cos(2 * np.pi * dft.kpoints[:, 0]) - dft.fermi_level)


def test_spins(dft):
    both = replace(dft, energies=np.stack([dft.energies, dft.energies + 1]), spin=Spin.COLLINEAR)
    figure = band_structure({"DFT": both}, (-10, 5), "wire")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["wire · spin up", "wire · spin down"]


def test_bands_without_fermi_level(dft):
    (axes,) = band_structure({"DFT": replace(dft, fermi_level=None)}, (-10, 5)).axes
    assert axes.get_ylabel() == "energy (eV)"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), dft.energies[:, 0])


def test_path_of_one_point(dft):
    one = replace(dft, kpoints=dft.kpoints[:1], x=dft.x[:1], energies=dft.energies[:1], ticks=np.zeros(0), labels=())
    assert png(band_structure({"DFT": one}, (-10, 5))).startswith(b"\x89PNG")


@pytest.mark.parametrize("window", [(100, 200), (-7, -6.5)])
def test_window_without_bands(dft, window):
    with pytest.raises(ConfigError, match=r"no band from .* eV; they lie from -9\.\d\d to 2\.\d\d"):
        band_structure({"DFT": dft}, window)


@pytest.mark.parametrize("window", [(5, -5), (0, 0), (0, np.nan), (-np.inf, 0)])
def test_bad_window(dft, window):
    with pytest.raises(ConfigError, match="the lower first"):
        band_structure({"DFT": dft}, window)


def test_predicted_bands(crystals, predictions):
    figure = predicted_bands(crystals[0])
    assert labels(figure.axes[0]) == ["DFT", "prediction"]
    assert predicted_bands(predictions(1)[0]) is None
    assert predicted_bands(crystals[0], (50, 60)) is None


def test_projections(wire):
    density = dos(wire.hamiltonian, wire.overlap, wire.structure, n_electrons=6, settings=DosSettings(by="shell"))
    (axes,) = density_of_states({"total": density}, "wire").axes
    assert labels(axes) == ["C 1s", "C 2s", "C 3s", "C 4s", "total"]
    (axes,) = density_of_states({"DFT": density, "model": density}).axes
    assert labels(axes) == ["C 1s", "C 2s", "C 3s", "C 4s", "DFT", "model"]
    bare = dos(wire.hamiltonian, wire.overlap, wire.structure)
    (axes,) = density_of_states({"total": bare}).axes
    assert axes.get_legend() is None
    assert axes.get_xlabel() == "energy (eV)"


def test_more_projections_than_colours(wire):
    density = dos(wire.hamiltonian, wire.overlap, wire.structure, n_electrons=6)
    parts = {f"C {k}": density.total * k / 45 for k in range(10)}
    (axes,) = density_of_states({"total": replace(density, projections=parts)}).axes
    names = labels(axes)
    assert names[:2] == ["C 9", "C 8"]
    assert len(names) == len(PROJECTION_COLOURS) + 1
    others = next(line for line in axes.lines if line.get_label() == "others")
    np.testing.assert_allclose(others.get_ydata(), density.total * sum(range(4)) / 45, atol=1e-12)


def test_density_of_spin_down(wire):
    density = dos(wire.hamiltonian, wire.overlap, wire.structure, n_electrons=6, settings=DosSettings(by="element"))
    total, parts = np.stack([density.total] * 2), {"C": np.stack([density.total] * 2)}
    (axes,) = density_of_states({"total": replace(density, total=total, projections=parts)}).axes
    assert labels(axes) == ["C", "total"]
    assert axes.get_ylim()[0] < -density.total.max() / 2
