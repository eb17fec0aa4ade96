"""Scripts of `benchmarks/`: imports, order of molecules, error of the overlap."""

import pytest

from harmose.data.store import Store


@pytest.mark.parametrize(
    "name", ["learning_curve", "overlap", "scf_guard", "scf_start", "deeptb_times", "cp2k_restart"]
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
