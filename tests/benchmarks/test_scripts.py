"""Scripts of `benchmarks/`: imports, order of molecules, error of the overlap."""

import numpy as np
import pytest

from harmose.data.store import Store
from harmose.evaluate.evaluation import Errors, EvaluatedSample
from harmose.physics.bands import Bands
from harmose.spin import Spin


@pytest.mark.parametrize(
    "name",
    ["learning_curve", "overlap", "scf_guard", "scf_start", "deeptb_times", "cp2k_restart", "spin_orbit_splitting"],
)
def test_import(benchmark_script, name):
    assert callable(benchmark_script(name).main)


def test_molecules_in_random_order(benchmark_script, water_store):
    """Samples of one group, two by two, stay together."""
    with Store.open(water_store) as store:
        names = benchmark_script("learning_curve").molecule_by_molecule(store, store.names())
    groups = [int(name.removeprefix("water-")) // 2 for name in names]
    assert groups[::2] == groups[1::2]
    assert sorted(groups) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert groups != sorted(groups)


def test_overlap_error(benchmark_script):
    script = benchmark_script("overlap")
    atoms, basis = script.water(1)
    s = script.harmose.overlap(atoms, basis)
    assert script.error(atoms, basis, s) < 1e-6
    wrong = s.with_values(s.values + 1e-3)
    assert script.error(atoms, basis, wrong) == pytest.approx(1e-3, rel=0.1)


CP2K_STEPS = """
     1 NoMix/Diag. 0.50E+00    1.4     1.06203936       -12.8849401860 -1.29E+01
     2 Broy./Diag. 0.50E+00    2.4     7.3169E-10       -12.8849401868 -8.48E-10

  *** SCF run converged in     2 steps ***
"""


def test_steps_of_cp2k(benchmark_script):
    found = benchmark_script("cp2k_restart").steps(CP2K_STEPS)
    assert found.pop("convergence") == [1.06203936, 7.3169e-10]
    assert found == {"converged": True, "cycles": 2, "scf_s": pytest.approx(3.8), "energy": -12.8849401868}


def test_folds(benchmark_script):
    """Each sample is left out once, and neither trained on nor used to choose weights in its own fold."""
    names = [f"s{k}" for k in range(14)]
    found = benchmark_script("cross_validation").folds(names, 7)
    assert sorted(name for splits in found for name in splits["test"]) == sorted(names)
    assert [len(splits["train"]) for splits in found] == [11] * 7
    for splits in found:
        assert sorted(name for part in splits.values() for name in part) == sorted(names)


def test_table_of_left_out_samples(benchmark_script):
    """A metal has no gap."""
    samples = [
        EvaluatedSample("a", "Bi", {"regression": Errors(mae=1e-3, bands=2e-3, band_gap=5e-3)}),
        EvaluatedSample("b", "Bi", {"regression": Errors(mae=3e-3, bands=4e-3)}),
    ]
    assert benchmark_script("cross_validation").table(samples).splitlines() == [
        "| 2 samples | regression |",
        "| --- | --- |",
        "| H MAE (meV) | 2, worst 3 |",
        "| bands (meV) | 3, worst 4 |",
        "| band gap (meV) | 5, worst 5 |",
    ]


def test_splittings_next_to_the_gap(benchmark_script):
    """Four pairs of flat bands of which the third, the first empty one, is split by 100 k meV at the k-point k."""
    energies = np.repeat([[-2.0, -2.0, -1.0, -1.0, 1.0, 1.0, 2.0, 2.0]], 3, axis=0)
    energies[:, 5] += [0.0, 0.1, 0.2]
    k = np.column_stack([[0.0, 0.25, 0.5], np.zeros((3, 2))])
    dft = Bands(k, k[:, 0], k[[0, 1], 0], ("G", "K"), energies, Spin.SPINOR, 0.0)
    script = benchmark_script("spin_orbit_splitting")
    assert [row.split(" | ")[:2] for row in script.points({"own": dft}, dft).splitlines()[2:4]] == [
        ["| conduction 1, K", "100.00"],
        ["| conduction 1, (0.500 0.000 0.000)", "200.00"],
    ]
    wide = script.summary({"own": dft}, dft, (-3.0, 3.0)).splitlines()[2]
    assert wide == "| own | 2.0000 | 0 | 0 | 0 | 0 of 25.0 | 0 | 0 |"
