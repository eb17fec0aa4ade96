"""Labels of crystals from CP2K: it runs in a scratch folder for each structure, and `io.cp2k` reads its output."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.electrons import total_charge
from harmose.core.sample import Sample, check_sample
from harmose.core.structure import check_structure, neighbour_pairs
from harmose.errors import HarmoseError, LabellingError
from harmose.io.cp2k.basis_data import Kind, basis_set, find_kinds
from harmose.io.cp2k.cp2k import sample_of
from harmose.io.cp2k.input import CP2KSettings, input_file, mesh_of
from harmose.io.cp2k.output import failure, read_output
from harmose.label.code import Code
from harmose.physics.bloch import bloch_sum

try:
    import fcntl
except ImportError:  # not on every system, and neither is CP2K
    fcntl = None

PROGRAMS = ("cp2k.psmp", "cp2k.ssmp", "cp2k.popt", "cp2k.sopt", "cp2k")

SCRATCH = "harmose-cp2k-"
"""Prefix of the names of scratch folders, which are in the folder for temporary files (TMPDIR)."""

ABANDONED = 60.0
"""Age in seconds from which a scratch folder is removed if no process holds its lock."""

WATCHED = """
exec 3<&0
"$@" </dev/null &
run=$!
(read line <&3; kill -9 $run) 2>/dev/null &
watch=$!
wait $run
code=$?
kill $watch 2>/dev/null
exit $code
"""
"""Shell script that runs a command and kills it when standard input closes: when the parent process is killed."""


def calculate(atoms: Atoms, settings: CP2KSettings, basis: BasisSet, name: str) -> Sample:
    """Converge one crystal on one thread and return its sample: H, S, energies, Fermi level, electrons, provenance.

    Raises `LabellingError` if CP2K stops or does not converge, or if S is not positive definite, `MatrixError` if the
    pair cutoff drops elements above `settings.max_dropped` or if `check_sample` fails.
    """
    started = time.perf_counter()
    formula = atoms.get_chemical_formula()
    kinds = _kinds(set(atoms.numbers.tolist()), settings)
    with _scratch() as folder:
        out = folder / "harmose.out"
        (folder / "harmose.inp").write_text(input_file(atoms, settings, kinds))
        _run(folder, formula)
        reason = failure(out.read_text(errors="replace"))
        if reason is not None:
            more = f" in {settings.max_cycle} cycles" if "not converged" in reason else ""
            raise LabellingError(f"{formula}: {reason}{more}")
        try:
            # The input file has three periodic directions, also for layers and wires.
            sample = sample_of(read_output(out), atoms, basis, settings.max_dropped, repeated=(True, True, True))
        except HarmoseError as error:  # without the scratch folder, which is removed
            raise type(error)(f"{formula}: {str(error).replace(f'{folder}/', '')}") from None
    used = {**settings.to_dict(), "k_mesh_used": list(mesh_of(atoms, settings)), **_origin(atoms)}
    seconds = time.perf_counter() - started
    sample = replace(sample, name=name, provenance={**sample.provenance, **used, "seconds": seconds})
    check_sample(sample)
    _check_overlap(sample)
    return sample


def _origin(atoms: Atoms) -> dict[str, Any]:
    group = str(atoms.info.get("group", atoms.get_chemical_formula()))
    return {**{key: str(atoms.info[key]) for key in ("name", "source") if key in atoms.info}, "group": group}


def _check_overlap(sample: Sample) -> None:
    """Raise `LabellingError` unless S(k) is positive definite at Gamma and at the corners and edges of the zone."""
    assert sample.overlap is not None
    corners = np.array(list(product((0.0, 0.5), repeat=3))) * sample.structure.pbc
    lowest = float(np.linalg.eigvalsh(bloch_sum(sample.overlap, np.unique(corners, axis=0))).min())
    if lowest <= 0:
        raise LabellingError(
            f"{sample.structure.get_chemical_formula()}: S is not positive definite (smallest eigenvalue {lowest:.1e}): "
            "use a larger pair cutoff or a less diffuse basis set"
        )


# The program ---------------------------------------------------------------------------------------------------------


def find_program() -> Path:
    """CP2K on the PATH. The `LabellingError` of a missing CP2K says how to install it."""
    for name in PROGRAMS:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    raise LabellingError(
        f"expected CP2K on the PATH ({', '.join(PROGRAMS)}), found none: `apt install cp2k cp2k-data` on Debian and "
        f"Ubuntu, `conda install -c conda-forge cp2k` elsewhere"
    )


def data_folder() -> Path:
    """Folder of CP2K's basis sets and potentials: `CP2K_DATA_DIR`, else the one of the program."""
    variable = os.environ.get("CP2K_DATA_DIR")
    folder = Path(variable) if variable else _built_in_folder(find_program())
    if not folder.is_dir():
        raise LabellingError(f"{folder}: expected the folder of CP2K's data files, found none; set CP2K_DATA_DIR")
    return folder


@lru_cache(maxsize=4)
def _built_in_folder(program: Path) -> Path:
    """The data folder that the program was compiled with, else one beside the program."""
    text = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False).stdout
    # CP2K breaks its list of compiler options into lines at any place.
    match = re.search(r'__DATA_DIR="([^"]+)"', re.sub(r"\n +", "", text))
    beside = (program.resolve().parent.parent / "share" / "cp2k" / name for name in ("data", ""))
    places = [*([Path(match[1])] if match else []), *beside]
    return next((place for place in places if place.is_dir()), places[0])


def _run(folder: Path, formula: str) -> None:
    """Run CP2K in the folder. Raises `LabellingError` if it ends without an output."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "TMPDIR": str(folder)}
    command = ["sh", "-c", WATCHED, "sh", str(find_program()), "-i", "harmose.inp", "-o", "harmose.out"]
    with open(folder / "stderr", "w+b") as errors:
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=errors, stderr=errors
        ) as process:
            code = process.wait()
        errors.seek(0)
        messages = errors.read().decode(errors="replace").strip().splitlines()
    if not (folder / "harmose.out").is_file():
        raise LabellingError(
            f"{formula}: CP2K ended with exit code {code}: {messages[-1] if messages else 'no message'}"
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A scratch folder that is removed at the end; one of a killed process is removed by a later process."""
    _remove_abandoned(time.time())
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    try:
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(now: float) -> None:
    """Remove scratch folders older than `ABANDONED` at the time `now` (seconds) that no process uses."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        try:
            if now - folder.stat().st_mtime < ABANDONED:
                continue
            with open(folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, removed by another process, or without permission


# Structures ----------------------------------------------------------------------------------------------------------


def _check_installed() -> None:
    find_program()
    data_folder()


def _check(atoms: Atoms, settings: CP2KSettings) -> None:
    """Raise for a structure that CP2K cannot calculate.

    `LabellingError` for a molecule, a charge or too little vacuum, `StructureError` if `check_structure` fails,
    `BasisError` for an element without basis set or potential.
    """
    formula = atoms.get_chemical_formula()
    check_structure(atoms, formula)
    if not atoms.pbc.any():
        raise LabellingError(f"{formula}: expected a periodic structure, got a molecule (`--code pyscf` labels those)")
    if charge := total_charge(atoms, formula):
        raise LabellingError(f"{formula}: expected a neutral crystal, got a charge of {charge:g}")
    _check_vacuum(atoms, settings.pair_cutoff, formula)
    _kinds(set(atoms.numbers.tolist()), settings)


def _check_vacuum(atoms: Atoms, pair_cutoff: float, formula: str) -> None:
    """Raise `LabellingError` unless atoms and their images along directions without periodicity are out of reach.

    CP2K repeats the cell in all directions.
    """
    if atoms.pbc.all():
        return
    for axis in np.flatnonzero(~atoms.pbc):
        if not atoms.cell.array[axis].any():
            raise LabellingError(f"{formula}: expected a lattice vector with vacuum along {'abc'[axis]}, got none")
    repeated = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    *_, cells, distance = neighbour_pairs(repeated, pair_cutoff, formula)
    across = cells[:, ~atoms.pbc].any(axis=1)
    if across.any():
        raise LabellingError(f"{formula}: expected {pair_cutoff:g} angstrom of vacuum along directions that are not "
                             f"periodic, got {distance[across].min():.3f}")  # fmt: skip


_find_kinds = lru_cache(maxsize=64)(find_kinds)


def _kinds(elements: Iterable[int], settings: CP2KSettings) -> Mapping[int, Kind]:
    return _find_kinds(tuple(sorted(elements)), settings.basis, str(settings.potential), data_folder())


def _basis(elements: Iterable[int], settings: CP2KSettings) -> BasisSet:
    return basis_set(settings.basis, _kinds(set(elements), settings), settings.pair_cutoff)


CP2K = Code(
    name="cp2k",
    settings=CP2KSettings,
    check_installed=_check_installed,
    check=_check,
    basis=_basis,
    calculate=calculate,
    remark=lambda settings: None,
    limits=frozenset({"max_cycle", "max_dropped"}),
)
