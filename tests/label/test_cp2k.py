"""Labels of crystals from CP2K: samples, errors, killed runs, scratch folders, published graphene."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from tests.io.cp2k.cp2k_runs import needs_cp2k

from harmose.cli import main
from harmose.core.sample import check_sample
from harmose.data.store import Store
from harmose.errors import BasisError, HarmoseError, LabellingError, MatrixError, StructureError
from harmose.label import cp2k
from harmose.label.label import CP2KSettings, PySCFSettings, calculate, label, perturbed, sample_name

FAST = CP2KSettings(
    basis="SZV-MOLOPT-SR-GTH", kmesh=(2, 1, 1), cutoff=60, rel_cutoff=15, pair_cutoff=7.5, max_dropped=0.05
)
CHAIN = Atoms("H2", [[0.0, 0.1, 0.2], [0.75, 0.0, 0.0]], cell=[3.2, 8.5, 8.5], pbc=(True, False, False))
FAST_OPTIONS = (
    f"--code cp2k --basis {FAST.basis} --kmesh 2 1 1 --cutoff 60 --rel-cutoff 15 --pair-cutoff 7.5 --max-dropped 0.05"
).split()


def chains(n: int) -> list[Atoms]:
    return perturbed(CHAIN, n, 0.03, np.random.default_rng(0))


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Folder of scratch folders."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def leftovers(scratch: Path) -> list[str]:
    return [f.name for f in scratch.glob(f"{cp2k.SCRATCH}*")]


# With the program ----------------------------------------------------------------------------------------------------


@needs_cp2k
def test_provenance(scratch):
    atoms = CHAIN.copy()
    atoms.info |= {"source": "chain.xyz, frame 3", "group": "chains"}
    sample = calculate(atoms, FAST)
    check_sample(sample)
    assert sample.structure == atoms
    assert sample.basis == cp2k.CP2K.basis([1], FAST)
    assert sample.n_electrons == 2
    assert sample.energy == pytest.approx(-27.2, abs=0.5)
    assert sample.fermi_level is not None
    provenance = sample.provenance
    assert (provenance["code"], provenance["functional"], provenance["potential"]) == ("cp2k", "pbe", "GTH-PBE")
    assert (provenance["kmesh"], provenance["k_mesh_used"], provenance["converged"]) == ([2, 1, 1], [2, 1, 1], True)
    assert 0 < provenance["largest_dropped_H"] < 0.05
    assert provenance["largest_dropped_S"] < 1e-2
    assert (provenance["group"], provenance["source"]) == ("chains", "chain.xyz, frame 3")
    assert provenance["cycles"] > 1
    assert provenance["cp2k"][:2] == "20"
    assert leftovers(scratch) == []


@needs_cp2k
@pytest.mark.parametrize("z", [(0.2, 0.0), (0.1, -0.1)])
def test_place_of_a_layer_in_its_vacuum(scratch, z):
    """CP2K also wraps atoms along the vacuum; a layer at or across half the cell stays in one piece."""
    low = CHAIN.copy()
    low.positions[:, 2] = z
    half = low.copy()
    half.positions[:, 2] += 4.25  # half the cell, which is a whole number of grid points
    a, b = calculate(low, FAST), calculate(half, FAST)
    np.testing.assert_array_equal(a.hamiltonian.keys, b.hamiltonian.keys)
    assert np.abs(a.hamiltonian.values - b.hamiltonian.values).max() < 1e-4
    assert np.abs(a.overlap.values - b.overlap.values).max() < 1e-8


@needs_cp2k
def test_several_processes(tmp_path, scratch, capsys):
    write(tmp_path / "chains.xyz", chains(3))
    command = ["label", str(tmp_path / "chains.xyz"), str(tmp_path / "store"), *FAST_OPTIONS, "--workers", "2"]
    assert main([*command, "--skip-bad"]) == 0
    assert "3 labelled, 0 were there before, 0 failed" in capsys.readouterr().out
    with Store.open(tmp_path / "store") as store:
        assert sorted(store.names()) == sorted(sample_name(atoms, FAST) for atoms in chains(3))
        assert (store.metadata["code"], store.metadata["kmesh"]) == ("cp2k", [2, 1, 1])
        assert "max_dropped" not in store.metadata
        for sample in store:
            check_sample(sample)
    assert main([*command, "--max-cycle", "50"]) == 0
    assert "0 labelled, 3 were there before, 0 failed" in capsys.readouterr().out
    assert main([*command, "--smearing", "400"]) == 2
    assert "expected a store labelled with smearing 400.0, got one with 300.0" in capsys.readouterr().err
    assert main(["label", *command[1:3], "--code", "pyscf"]) == 2
    assert "expected a molecule, got a structure with pbc" in capsys.readouterr().err
    assert leftovers(scratch) == []


@needs_cp2k
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"max_cycle": 2}, LabellingError, "H2: the SCF is not converged in 2 cycles"),
        (
            {"pair_cutoff": 3.0},
            MatrixError,
            r"H2: harmose.out: expected elements of H beyond .* below 0.05 eV, got \d.*; a pair cutoff of \d\.\d angstrom is",
        ),
        (
            {"basis": "DZVP-MOLOPT-SR-GTH", "pair_cutoff": 2.5, "max_dropped": 99.0},
            HarmoseError,
            "S is not positive definite",
        ),
    ],
)
def test_failures_leave_no_scratch_folder(scratch, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        calculate(CHAIN, replace(FAST, **changes))
    assert "\n" not in str(caught.value)
    assert str(scratch) not in str(caught.value)
    assert leftovers(scratch) == []


@needs_cp2k
def test_failures_are_stored(tmp_path, scratch):
    structures = chains(2)
    summary = label(structures, tmp_path / "store", replace(FAST, max_cycle=2), workers=1)
    assert (summary.finished, sorted(summary.failed)) == (0, sorted(sample_name(a, FAST) for a in structures))
    assert label(structures, tmp_path / "store", FAST, workers=1).finished == 0
    assert label(structures, tmp_path / "store", FAST, workers=1, retry_failed=True).finished == 2


BN = Atoms("BN", [[0, 1.443, 2.2], [1.25, 0.722, 2.3]], cell=[[2.5, 0, 0], [-1.25, 2.165, 0], [0, 0, 9.5]], pbc=True)


@needs_cp2k
@pytest.mark.parametrize(
    ("structure", "error", "message"),
    [
        (molecule("H2O"), LabellingError, r"H2O: expected a periodic structure, got a molecule \(`--code pyscf`"),
        (Atoms("U", cell=[3, 3, 3], pbc=True), BasisError, "CP2K has no SZV-MOLOPT-SR-GTH for U in"),
        (Atoms("H", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), StructureError, "expected a cell with a volume"),
        (
            Atoms("H2", [[0, 0, 0], [0, 0, 0.1]], cell=[3, 3, 3], pbc=True),
            StructureError,
            "at least 0.3 angstrom apart",
        ),
        (Atoms("H", cell=[3, 9, 0], pbc=(True, True, False)), LabellingError, "a lattice vector with vacuum along c"),
        (Atoms("H", cell=[3, 3, 7], pbc=(True, True, False)), LabellingError, r"7\.5 angstrom of vacuum .* got 7\.000"),
        (
            Atoms("H", cell=[3, 3, 3], pbc=True, info={"charge": 1}),
            LabellingError,
            "a neutral crystal, got a charge of 1",
        ),
    ],
)
def test_bad_structures_raise_before_any_calculation(tmp_path, structure, error, message):
    with pytest.raises(error, match=message):
        cp2k.CP2K.check(structure, FAST)
    with pytest.raises(LabellingError, match="structure 1: "):
        label([CHAIN, structure], tmp_path / "store", FAST, workers=1)
    assert not (tmp_path / "store").exists()


@needs_cp2k
def test_missing_potential_raises():
    with pytest.raises(BasisError, match="potential GTH-NONE: CP2K has none for B"):
        cp2k.CP2K.check(BN, CP2KSettings(potential="GTH-NONE"))


def test_names_depend_on_cell_and_periodic_directions():
    other, slab = CHAIN.copy(), CHAIN.copy()
    other.set_cell([3.3, 8.5, 8.5])
    slab.pbc = (True, True, False)
    names = {sample_name(atoms, FAST) for atoms in (CHAIN, other, slab)}
    assert len(names) == 3
    assert sample_name(CHAIN, replace(FAST, max_cycle=9, max_dropped=1.0)) in names
    assert sample_name(CHAIN, replace(FAST, cutoff=61)) not in names


SCRIPT = """
import sys
from harmose.cli import main
from harmose.label import cp2k

run = cp2k._run

def print_and_run(*args):
    print("running", flush=True)
    run(*args)

cp2k._run = print_and_run
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def start(tmp_path: Path, store: Path, *options: str) -> subprocess.Popen:
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, "run.py", "label", "chains.xyz", str(store), *FAST_OPTIONS, *options]
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def running(scratch: Path) -> list[str]:
    """Processes whose working directory is a scratch folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(process / "cwd")
        except OSError:
            continue
        if where.startswith(str(scratch)):
            found.append(where)
    return found


@needs_cp2k
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="no /proc to look for processes")
def test_killed_run_leaves_no_process(tmp_path, scratch):
    n, store = 5, tmp_path / "store"
    write(tmp_path / "chains.xyz", chains(n))

    def count() -> int:
        if not store.exists():
            return 0
        with Store.open(store) as opened:
            return len(opened)

    run = start(tmp_path, store, "--workers", "1")
    assert run.stdout is not None
    assert [run.stdout.readline() for _ in range(2)] == ["running\n"] * 2  # the second begins after the first is stored
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert any(not running(scratch) for _ in range(100_000))  # the program is killed soon after its parent process
    kept = count()
    assert kept == 1
    left = leftovers(scratch)
    assert len(left) == 1
    os.utime(scratch / left[0], (0, 0))
    out, error = start(tmp_path, store, "--workers", "1").communicate(timeout=300)
    assert f"{n - kept} labelled, {kept} were there before, 0 failed" in out, error
    assert leftovers(scratch) == []


@needs_cp2k
def test_graphene_of_the_published_data(shared_data, scratch):
    """The primitive cell of graphene.h5, calculated again: same H, Fermi level and energy."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "crystals" / "graphene.h5") as file:
        group = file["pristine_1x1"]
        atoms = Atoms(group["Z"][()], group["pos"][()], cell=group["cell"][()], pbc=True)
        pairs, h, s = (group[name][()] for name in ("pairs", "H", "S"))
        fermi, energy = group.attrs["efermi_eV"], group.attrs["energy_Ha"]
    settings = CP2KSettings(kmesh=(15, 15, 1), cutoff=280, rel_cutoff=35, pair_cutoff=8.2)
    sample = calculate(atoms, settings)
    assert len(pairs) == len(sample.hamiltonian.keys)
    ours = [(int(i), int(j), (int(x), int(y), int(z))) for x, y, z, i, j in pairs]
    for operator, values, unit, tolerance in (
        (sample.hamiltonian, h, 1e-6, 2e-5),
        (sample.overlap, s, 1e-8, 1e-7),
    ):
        blocks = np.array([operator.block(i, j, cell) for i, j, cell in ours])
        assert np.abs(blocks - values * unit).max() < tolerance
    assert sample.fermi_level == pytest.approx(fermi, abs=1e-5)
    assert sample.energy == pytest.approx(energy * 27.211386, abs=1e-3)


# Without it ----------------------------------------------------------------------------------------------------------


def program(folder: Path, content: str, monkeypatch) -> None:
    """Put a program with the name of CP2K on the PATH, beside nothing but what a shell needs."""
    folder.mkdir()
    for name in ("sh", "kill", "cat"):
        where = shutil.which(name)
        if where is not None:
            (folder / name).symlink_to(where)
    (folder / "cp2k.psmp").write_text("#!/bin/sh\n" + content)
    (folder / "cp2k.psmp").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    data = folder / "data"
    data.mkdir()
    (data / "BASIS_MOLOPT").write_text("H SZV-MOLOPT-SR-GTH SZV-MOLOPT-SR-GTH-q1\n1\n1 0 0 1 1\n0.3 1.0\n")
    (data / "GTH_POTENTIALS").write_text("H GTH-PBE-q1 GTH-PBE\n1\n0.2 0\n")
    monkeypatch.setenv("CP2K_DATA_DIR", str(data))


def test_error_without_cp2k(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    write(tmp_path / "chain.xyz", CHAIN)
    assert main(["label", str(tmp_path / "chain.xyz"), str(tmp_path / "store"), "--code", "cp2k"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("harmose: error: expected CP2K on the PATH (cp2k.psmp, cp2k.ssmp, ")
    assert "apt install cp2k cp2k-data" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_missing_data_folder_raises(tmp_path, monkeypatch):
    program(tmp_path / "bin", "exit 0\n", monkeypatch)
    monkeypatch.setenv("CP2K_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(
        LabellingError, match=r"nowhere: expected the folder of CP2K's data files, found none; set CP2K_DATA_DIR"
    ):
        label([CHAIN], tmp_path / "store", FAST, workers=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("echo 'error while loading shared libraries: libelpa.so' >&2; exit 127\n",
         "H2: CP2K ended with exit code 127: error while loading shared libraries: libelpa.so"),
        ("exit 3\n", "H2: CP2K ended with exit code 3: no message"),
        ("echo ' PROGRAM STARTED AT' > harmose.out; exit 137\n", "H2: CP2K's output breaks off"),
        ("echo nonsense > harmose.out\n", "H2: CP2K's output breaks off"),
    ],
)  # fmt: skip
def test_crash_of_cp2k_is_a_failure_of_its_structure(tmp_path, scratch, monkeypatch, content, message):
    program(tmp_path / "bin", content, monkeypatch)
    with pytest.raises(LabellingError, match=message):
        calculate(CHAIN, FAST)
    summary = label([CHAIN], tmp_path / "store", FAST, workers=1)
    assert list(summary.failed.values()) == [message]
    assert leftovers(scratch) == []


def test_cp2k_runs_on_one_thread_in_its_own_folder(tmp_path, scratch, monkeypatch):
    written = tmp_path / "written"
    program(tmp_path / "bin", f"echo $OMP_NUM_THREADS $TMPDIR $PWD $1 $2 $3 $4 > {written}; exit 1\n", monkeypatch)
    with pytest.raises(LabellingError):
        calculate(CHAIN, FAST)
    threads, temporary, folder, *arguments = written.read_text().split()
    assert threads == "1"
    assert temporary == folder
    assert Path(folder).parent == scratch
    assert arguments == ["-i", "harmose.inp", "-o", "harmose.out"]


def test_abandoned_folders_are_removed(scratch):
    import fcntl

    old, young, busy = (scratch / f"{cp2k.SCRATCH}{name}" for name in ("old", "young", "busy"))
    for folder in (old, young, busy):
        folder.mkdir()
        (folder / "lock").touch()
        if folder is not young:
            os.utime(folder, (0, 0))
    with open(busy / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with cp2k._scratch() as mine:
            assert sorted(leftovers(scratch)) == sorted([young.name, busy.name, mine.name])


def test_store_of_another_code_raises(tmp_path, monkeypatch):
    label([molecule("H2")], tmp_path / "store", PySCFSettings("pbe", "sto-3g", grid_level=0), workers=1)
    program(tmp_path / "bin", "exit 0\n", monkeypatch)
    with pytest.raises(LabellingError, match="expected a store labelled with code cp2k, got one with pyscf"):
        label([CHAIN], tmp_path / "store", FAST, workers=1)
