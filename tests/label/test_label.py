"""Labels of many structures: samples, repeated runs, errors, several processes, killed runs, full disks."""

import io as text_io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from distributed import LocalCluster
from rich.console import Console
from scipy.linalg import eigh

from harmose.core.sample import check_sample
from harmose.data.store import Store
from harmose.errors import BasisError, FormatError, LabellingError
from harmose.io.pyscf import pyscf as io
from harmose.label import label as engine
from harmose.label.label import PySCFSettings, calculate, label, perturbed, sample_name
from harmose.units import HARTREE

FAST = PySCFSettings("pbe", "sto-3g", grid_level=0, convergence=1e-7, convergence_gradient=1e-4)


def hydrogens(n: int) -> list[Atoms]:
    return perturbed(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), n, 0.03, np.random.default_rng(0))


def names(path: Path) -> list[str]:
    with Store.open(path) as store:
        return store.names()


def test_sample_is_pyscf_result():
    atoms = molecule("H2O")
    settings = PySCFSettings("pbe", "def2-svp", grid_level=1)
    sample = calculate(atoms, settings)
    check_sample(sample)
    mf = io.mean_field(io.molecule(atoms, "def2-svp"), settings).run(conv_tol=1e-12)
    np.testing.assert_allclose(io.from_blocks(sample.hamiltonian), mf.get_fock(), atol=1e-7)
    np.testing.assert_allclose(io.from_blocks(sample.overlap, energy=False), mf.get_ovlp(), atol=1e-12)
    h0 = mf.get_fock(dm=mf.init_guess_by_minao())
    np.testing.assert_allclose(io.from_blocks(sample.prior), h0, atol=1e-10)
    assert sample.energy == pytest.approx(mf.e_tot * HARTREE, abs=1e-7)
    np.testing.assert_allclose(sample.orbital_energies, mf.mo_energy * HARTREE, atol=1e-4)
    energies = eigh(sample.hamiltonian.dense(), sample.overlap.dense(), eigvals_only=True)
    np.testing.assert_allclose(sample.orbital_energies, energies, atol=1e-9)
    assert sample.n_electrons == 10


def test_provenance():
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1, "source": "ions.xyz, frame 3"})
    sample = calculate(ion, replace(FAST, functional="b3lyp"))
    provenance = sample.provenance
    assert provenance["functional"] == "b3lypg"
    assert (provenance["code"], provenance["basis"], provenance["grid_level"]) == ("pyscf", "sto-3g", 0)
    assert provenance["converged"] is True
    assert provenance["cycles"] > 1
    assert provenance["seconds"] > 0
    assert provenance["pyscf"].count(".") >= 1
    assert provenance["libxc"] != "unknown"
    assert (provenance["charge"], provenance["source"], provenance["group"]) == (-1, "ions.xyz, frame 3", "HO")
    assert sample.n_electrons == 10


def test_second_run_reuses_samples(tmp_path, monkeypatch):
    structures = hydrogens(3)
    first = label(structures[:2], tmp_path / "store", FAST, workers=1)
    assert (first.finished, first.reused, first.failed) == (2, 0, {})
    calculated = []
    monkeypatch.setattr(engine, "calculate", lambda *args: calculated.append(args[0]) or calculate(*args))
    # a structure given twice is calculated once
    again = label([*structures, structures[2]], tmp_path / "store", FAST, workers=1)
    assert (again.finished, again.reused, again.failed) == (1, 3, {})
    assert len(calculated) == 1
    assert calculated[0] is structures[2] or np.array_equal(calculated[0].positions, structures[2].positions)
    assert names(tmp_path / "store") == [sample_name(a, FAST) for a in structures]
    with Store.open(tmp_path / "store") as store:
        assert store.metadata["functional"] == "pbe"
        for sample in store:
            check_sample(sample)


def test_new_elements_extend_the_basis(tmp_path):
    label(hydrogens(1), tmp_path / "store", FAST, workers=1)
    summary = label([molecule("H2O"), molecule("LiH")], tmp_path / "store", FAST, workers=1)
    assert summary.finished == 2
    with Store.open(tmp_path / "store") as store:
        assert store.basis.elements == (1, 3, 8)
        assert [s.structure.get_chemical_formula() for s in store] == ["H2", "H2O", "HLi"]


def test_sample_names():
    atoms = molecule("H2O")
    name = sample_name(atoms, FAST)
    assert name.startswith("H2O-")
    moved, charged, noisy = atoms.copy(), atoms.copy(), atoms.copy()
    moved.positions[0, 0] += 1e-4
    charged.info["charge"] = 2
    noisy.positions += 1e-9
    noisy.info["source"] = "elsewhere.xyz, frame 8"
    assert sample_name(noisy, FAST) == name == sample_name(atoms, replace(FAST, max_cycle=7))
    others = [sample_name(moved, FAST), sample_name(charged, FAST)]
    others += [sample_name(atoms, replace(FAST, **change)) for change in (
        {"functional": "b3lypg"}, {"functional": "b3lyp5"}, {"basis": "6-31g"}, {"grid_level": 1}, {"convergence": 1e-8}
    )]  # fmt: skip
    assert len({name, *others}) == len(others) + 1


def test_store_with_other_settings_raises(tmp_path):
    label(hydrogens(1), tmp_path / "store", FAST, workers=1)
    with pytest.raises(LabellingError, match="store: expected a store labelled with grid_level 1, got one with 0"):
        label(hydrogens(2), tmp_path / "store", replace(FAST, grid_level=1), workers=1)
    with pytest.raises(LabellingError, match="functional b3lyp5, got one with pbe"):
        label(hydrogens(2), tmp_path / "store", replace(FAST, functional="b3lyp5"), workers=1)
    assert len(names(tmp_path / "store")) == 1
    # the number of cycles is not part of the settings that a store has
    assert label(hydrogens(2), tmp_path / "store", replace(FAST, max_cycle=50), workers=1).finished == 1


def test_retry_of_failures(tmp_path):
    path, structures = tmp_path / "store", [*hydrogens(1), molecule("H2O")]
    out = text_io.StringIO()
    hasty, patient = replace(FAST, max_cycle=2), FAST
    summary = label(structures, path, hasty, workers=1, console=Console(file=out, width=200))
    name = sample_name(structures[1], FAST)
    assert list(summary.failed) == [name]
    assert "not converged in 2 cycles" in summary.failed[name]
    assert f"left out {name}: H2O: not converged" in out.getvalue()
    with Store.open(path) as store:
        assert store.names() == [sample_name(structures[0], FAST)]
        assert store.failures == summary.failed
    assert label(structures, path, patient, workers=1) == replace(summary, finished=0, reused=1)
    assert label(structures, path, patient, workers=1, retry_failed=True).finished == 1
    with Store.open(path) as store:
        assert store.failures == {}
        assert name in store


def test_failure_of_one_structure_does_not_stop_the_others(tmp_path, monkeypatch):
    structures = hydrogens(3)

    def fail_once(atoms, *args):
        if atoms is structures[1]:
            raise np.linalg.LinAlgError("Eigenvalues did not converge\nand more")
        return calculate(atoms, *args)

    monkeypatch.setattr(engine, "calculate", fail_once)
    summary = label(structures, tmp_path / "store", FAST, workers=1)
    assert summary.finished == 2
    assert list(summary.failed.values()) == ["LinAlgError: Eigenvalues did not converge"]


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        (molecule("CH3"), "structure 1: CH3: .* even number of electrons, got 9"),
        (Atoms("U"), "structure 1: basis sto-3g: PySCF has no sto-3g for U"),
        (Atoms("He", cell=[4] * 3, pbc=True), "structure 1: He: expected a molecule"),
        (Atoms("He", info={"charge": 0.5}), "structure 1: He: expected a whole number as charge"),
    ],
)
def test_bad_structures_raise_or_are_skipped(tmp_path, structure, text):
    structures = [*hydrogens(1), structure]
    with pytest.raises(LabellingError, match=text):
        label(structures, tmp_path / "store", FAST, workers=1)
    assert not (tmp_path / "store").exists()
    summary = label(structures, tmp_path / "store", FAST, workers=1, skip_bad=True)
    assert (summary.finished, len(summary.failed)) == (1, 1)
    with Store.open(tmp_path / "store") as store:
        assert store.failures == summary.failed
    with pytest.raises(LabellingError, match="structure 0"):
        label([structure], tmp_path / "other", FAST, workers=1, skip_bad=True)
    assert not (tmp_path / "other").exists()


def test_errors(tmp_path):
    with pytest.raises(LabellingError, match="at least one structure"):
        label([], tmp_path / "store", FAST)
    with pytest.raises(LabellingError, match="basis nonsense"):
        label(hydrogens(1), tmp_path / "store", replace(FAST, basis="nonsense"))
    (tmp_path / "file").write_text("no store")
    with pytest.raises(FormatError, match="file: expected a harmose store"):
        label(hydrogens(1), tmp_path / "file", FAST)
    with pytest.raises(LabellingError, match="cannot write a store there"):
        label(hydrogens(1), tmp_path / "file" / "store", FAST)


def test_missing_element_of_the_basis_raises():
    with pytest.raises(BasisError, match="PySCF has no sto-3g for U"):
        calculate(Atoms("U"), FAST)


def test_message_about_b3lyp(tmp_path):
    out = text_io.StringIO()
    label(hydrogens(1), tmp_path / "store", replace(FAST, functional="b3lyp"), workers=1, console=Console(file=out))
    assert "b3lypg: B3LYP with VWN3 correlation" in out.getvalue()
    with Store.open(tmp_path / "store") as store:
        assert store.metadata["functional"] == "b3lypg"


def test_several_processes_give_the_same_numbers(tmp_path):
    structures = [*hydrogens(4), molecule("H2O")]
    hasty = replace(FAST, max_cycle=4)
    one, two = (label(structures, tmp_path / str(n), hasty, workers=n) for n in (1, 2))
    assert one == two
    with Store.open(tmp_path / "1") as serial, Store.open(tmp_path / "2") as parallel:
        assert sorted(serial.names()) == sorted(parallel.names())
        for name in serial.names():
            np.testing.assert_allclose(serial[name].hamiltonian.values, parallel[name].hamiltonian.values, atol=1e-10)


def test_dask_scheduler(tmp_path):
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        summary = label(hydrogens(3), tmp_path / "store", FAST, scheduler=cluster.scheduler_address)
    assert summary.finished == 3


def test_missing_scheduler_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(LabellingError, match=r"Dask scheduler tcp://127\.0\.0\.1:1") as caught:
        label(hydrogens(1), tmp_path / "store", FAST, scheduler="tcp://127.0.0.1:1")
    assert "\n" not in str(caught.value)


SCRIPT = """
import sys
from harmose.data.store import Store
from harmose.label.label import PySCFSettings, label, read_structures

append = Store.append

def append_and_print(store, sample, check=True):
    append(store, sample, check)
    print("stored", flush=True)

Store.append = append_and_print
if __name__ == "__main__":
    settings = PySCFSettings("pbe", "6-31g", grid_level=1)
    summary = label(read_structures(sys.argv[1]), sys.argv[2], settings, workers=int(sys.argv[3]))
    print(summary.finished, summary.reused)
"""


def start(tmp_path: Path, workers: int, **options) -> subprocess.Popen:
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "run.py"), "water.xyz", "store", str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(Path(engine.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_killed_run_keeps_finished_samples(tmp_path):
    n, workers, store = 8, 2, tmp_path / "store"
    write(tmp_path / "water.xyz", perturbed(molecule("H2O"), n, 0.03, np.random.default_rng(0)))
    run = start(tmp_path, workers)
    assert run.stdout is not None
    assert [run.stdout.readline() for _ in range(2)] == ["stored\n"] * 2
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    kept = names(store)
    assert 2 <= len(kept) < n
    with Store.open(store) as half:
        before = {name: half.provenance(name) for name in kept}
        for sample in half:
            check_sample(sample)
    out, error = start(tmp_path, 1).communicate(timeout=300)
    assert out.splitlines()[-1].split() == [str(n - len(kept)), str(len(kept))], error
    with Store.open(store) as whole:
        assert len(whole) == n
        # the seconds that each took would change if one were repeated
        assert {name: whole.provenance(name) for name in kept} == before


def test_full_disk(tmp_path):
    resource = pytest.importorskip("resource")
    structures, store = perturbed(molecule("H2O"), 12, 0.03, np.random.default_rng(0)), tmp_path / "store"
    settings = replace(FAST, basis="6-31g")
    label(structures[:2], store, settings, workers=1)
    limit = (store / "data.mdb").stat().st_size + 40_000
    # no file may grow further: what a full disk does, to this process alone
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(FormatError, match="cannot write") as caught:
            label(structures, store, settings, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    kept = names(store)
    assert 2 <= len(kept) < 12
    with Store.open(store) as half:
        for sample in half:
            check_sample(sample)
    assert label(structures, store, settings, workers=1).finished == 12 - len(kept)


def test_perturbed():
    atoms = molecule("CH4")
    first, again = (perturbed(atoms, 200, 0.05, np.random.default_rng(5)) for _ in range(2))
    shifts = np.array([a.positions - atoms.positions for a in first])
    assert shifts.std() == pytest.approx(0.05, rel=0.05)
    assert abs(shifts.mean()) < 0.005
    np.testing.assert_array_equal(shifts, [a.positions - atoms.positions for a in again])
