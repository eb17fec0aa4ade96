"""Band errors and ghost states of matrices that have them by construction."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import MatrixError
from harmose.evaluate.band_metrics import (
    bands_along,
    compare_bands,
    fermi_shift,
    occupied_shift,
    reference_bands,
    sample_band_errors,
)
from harmose.physics.bands import Bands, bands
from harmose.spin import Spin

LEVELS = np.array([-8.0, -5.0, -1.0, 3.0])
"""Orbital energies of the fixture `wire`, in eV."""


def flat(levels, fermi_level: float | None = 0.0, n_k: int = 3) -> Bands:
    """Bands without dispersion; `levels` (n,), or (2, n) for two spins, in eV."""
    levels = np.asarray(levels, dtype=float)
    energies = np.repeat(levels[..., None, :], n_k, axis=-2)
    k = np.column_stack([np.linspace(0, 0.5, n_k), np.zeros((n_k, 2))])
    spin = Spin.COLLINEAR if levels.ndim == 2 else Spin.NONE
    return Bands(k, k[:, 0], np.zeros(0), (), energies, spin, fermi_level)


def with_level(sample: Sample, orbital: int, level: float) -> BlockMatrix:
    """H with another energy of one orbital."""
    values = sample.hamiltonian.values.copy()
    values[0, 5 * orbital] = level
    return sample.hamiltonian.with_values(values)


def test_no_error():
    found = compare_bands(flat(LEVELS, None), flat(LEVELS))
    assert (found.mae, found.n_states, found.shift, found.ghost_states) == (0, 12, 0, 0)


def test_energy_zero_does_not_matter(wire):
    """The bands of H + c S are those of H, shifted by c."""
    h, s = wire.hamiltonian, wire.overlap
    for c in (-40.0, 0.3, 1000.0):
        found = sample_band_errors(wire, {"full": h.with_values(h.values + c * s.values)})["full"]
        assert found.mae == pytest.approx(0, abs=1e-9)
        assert found.shift == pytest.approx(-c)
        assert found.ghost_states == 0


def test_window():
    """Two bands are wrong by 0.1 and 0.15 eV, a third is right and aligns them, the fourth at 3 eV is outside."""
    predicted = flat(LEVELS + [0, -0.1, 0, 0.15], None)
    narrow = compare_bands(predicted, flat(LEVELS), (-6, 2))
    assert narrow.n_states == 6
    assert narrow.mae == pytest.approx(0.05)
    whole = compare_bands(predicted, flat(LEVELS), (-10, 5))
    assert whole.mae == pytest.approx(0.25 / 4)
    nothing = compare_bands(predicted, flat(LEVELS), (10, 20))
    assert (nothing.mae, nothing.n_states) == (None, 0)


def test_gap():
    """The gap from -1 to 3 eV; an energy zero of the prediction does not matter. A metal has none."""
    predicted = flat(LEVELS + [0.1, 0, 0.02, -0.03], None).shifted(7.0)
    assert compare_bands(predicted, flat(LEVELS)).gap == pytest.approx(0.05)
    assert compare_bands(predicted, flat(LEVELS, -1.0)).gap == pytest.approx(0.05)  # at the edge of a band
    assert compare_bands(predicted, flat(LEVELS, 3.5)).gap is None
    crossing = flat(LEVELS)
    crossing.energies[:, 2] = [-1.0, 0.0, 1.0]
    assert compare_bands(predicted, crossing).gap is None


def test_window_is_relative_to_the_fermi_level():
    found = compare_bands(flat(LEVELS, None), flat(LEVELS, -6.0), (-3, 2))
    assert found.n_states == 6  # -9 to -4 eV: the two lowest bands


@pytest.mark.parametrize("place", [-200.0, -20.0, -8.5])
def test_ghost_below_all_bands(place):
    """The empty band at 3 eV is predicted at `place`: in ascending order, each band would meet a wrong one."""
    predicted = flat(np.sort([place, *LEVELS[:3]]) + 7.0, None)
    found = compare_bands(predicted, flat(LEVELS), (-10, 2))
    assert found.ghost_states == 3
    assert found.ghosts[0, :, 0].all()
    assert found.shift == pytest.approx(-7)
    assert found.mae == pytest.approx(0)


def test_ghost_in_a_gap(wire):
    """The orbital at 3 eV is predicted at -3 eV: one state for each k-point in the gap between two bands of DFT."""
    dft = reference_bands(wire)
    found = sample_band_errors(wire, {"full": with_level(wire, 3, -3.0)})["full"]
    assert found.ghost_states == len(dft.kpoints)
    assert found.ghosts[0].sum(axis=0).tolist() == [0, 0, len(dft.kpoints), 0]
    assert found.shift == pytest.approx(0)


def test_ghost_of_a_real_solution(wire):
    found = sample_band_errors(wire, {"full": with_level(wire, 3, -60.0)})["full"]
    assert found.ghosts[0].sum(axis=0).tolist() == [len(found.ghosts[0]), 0, 0, 0]
    # of the window's four bands the empty one has no partner left; the other three are right
    assert found.mae == pytest.approx(4 / 4, abs=1e-9)


def test_ghost_at_one_kpoint():
    energies = flat(LEVELS, None, n_k=5).energies
    energies[2] = [-30.0, *LEVELS[:3]]
    predicted = replace(flat(LEVELS, None, n_k=5), energies=energies)
    found = compare_bands(predicted, flat(LEVELS, n_k=5), (-10, 2))
    assert np.argwhere(found.ghosts).tolist() == [[0, 2, 0]]
    assert found.mae == pytest.approx(0)


def test_ghosts_outside_the_window():
    predicted = flat(LEVELS + [0, 0, 0, 4.0], None)
    assert compare_bands(predicted, flat(LEVELS), (-10, 5)).ghost_states == 0
    assert compare_bands(predicted, flat(LEVELS), (-10, 8)).ghost_states == 3


def test_number_of_partners():
    """Compared with the largest assignment by SciPy, for random energies."""
    rng = np.random.default_rng(3)
    found, dft = (np.sort(rng.uniform(-5, 5, size=(40, 12)), axis=1) for _ in range(2))
    dft[:, 0], found[:, 0] = -5.5, -5.5
    predicted, reference = (replace(flat(LEVELS, 0.0, 40), energies=e) for e in (found, dft))
    ghosts = compare_bands(predicted, reference, (-9, 9), 0.2, shift=0.0).ghosts[0]
    for k in range(40):
        possible = np.abs(found[k][:, None] - dft[k]) <= 0.2
        rows, cols = linear_sum_assignment(possible, maximize=True)
        assert (~ghosts[k]).sum() == possible[rows, cols].sum()


def test_two_spins():
    up_down = np.stack([LEVELS, LEVELS + 0.5])
    found = compare_bands(flat(up_down[::-1] + 3, None), flat(up_down), (-10, 5))
    assert found.mae == pytest.approx(0.5)
    assert compare_bands(flat(up_down + 3, None), flat(up_down), (-10, 5)).mae == pytest.approx(0)


def test_shift():
    predicted, dft = flat(LEVELS + [1, 1, 1, 2], fermi_level=2.5), flat(LEVELS, 1.0)
    assert occupied_shift(predicted, dft) == pytest.approx(-1)
    assert fermi_shift(predicted, dft) == pytest.approx(-1.5)
    assert compare_bands(predicted, dft, shift=-1.5).mae == pytest.approx(0.5)


def test_graphene(graphene):
    """The number of ghosts is that of a brute-force assignment; the undisturbed matrix has none."""
    sample = graphene("pristine_1x1")
    h, s = sample.hamiltonian, sample.overlap
    dft = reference_bands(sample)
    exact = compare_bands(bands_along(h.with_values(h.values - 2 * s.values), s, dft), dft)
    assert exact.mae < 1e-9
    assert exact.ghost_states == 0
    # where S is nearly singular a small error of H makes a large one of an energy
    noise = np.random.default_rng(0).normal(size=h.values.shape)
    found = compare_bands(bands_along(h.with_values(h.values + 0.1 * noise), s, dft), dft, (-1000, 5))
    count = 0
    for e, levels in zip(found.aligned.energies, dft.energies):
        low = e[e <= dft.fermi_level + 5]
        possible = np.abs(low[:, None] - levels) <= 0.2
        rows, cols = linear_sum_assignment(possible, maximize=True)
        count += len(low) - possible[rows, cols].sum()
    assert found.ghost_states == count > 0


def test_samples_without_bands(wire, water_sample):
    assert reference_bands(replace(wire, overlap=None)) is None
    assert reference_bands(replace(wire, n_electrons=None)) is None
    assert reference_bands(replace(wire, n_electrons=None, fermi_level=1.0)).fermi_level == 1.0
    assert reference_bands(water_sample(0)) is None
    assert sample_band_errors(water_sample(0), {}) == {}


def test_bad_input(wire):
    with pytest.raises(MatrixError, match=r"expected energies of shape \(3, 4\), got \(3, 3\)"):
        compare_bands(flat(LEVELS[:3]), flat(LEVELS))
    moved = flat(LEVELS)
    with pytest.raises(MatrixError, match="same k-points"):
        compare_bands(replace(moved, kpoints=moved.kpoints + 0.1), flat(LEVELS))
    with pytest.raises(MatrixError, match="Fermi level is not known"):
        compare_bands(flat(LEVELS), flat(LEVELS, None))
    with pytest.raises(MatrixError, match="Fermi level below all bands"):
        compare_bands(flat(LEVELS), flat(LEVELS, -20))
    with pytest.raises(MatrixError, match="sample wire: S is not positive definite"):
        sample_band_errors(replace(wire, overlap=wire.overlap.with_values(-wire.overlap.values)), {})
    found = bands(wire.hamiltonian, wire.overlap, "GX", wire.structure)
    assert found.fermi_level is None
