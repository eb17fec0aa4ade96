"""Times of DeePTB's e3 model, run in an environment of its own, since it needs older releases of torch and others."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from harmose.bench.e3nn_stage1 import irreps_of
from harmose.bench.systems import System
from harmose.bench.timing import BenchmarkLimits, Timing
from harmose.core.basis import BasisSet
from harmose.errors import ConfigError
from harmose.inference.model import Model

SCRIPT = Path(__file__).with_name("deeptb_times.py")


def check(python: Path) -> None:
    """Raise `ConfigError` unless `python` is an interpreter that can import dptb."""
    try:
        done = subprocess.run([python, "-c", "import dptb"], capture_output=True, text=True)
    except OSError as error:
        raise ConfigError(f"--deeptb-python {python}: expected an interpreter ({error.strerror})") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"--deeptb-python {python}: expected an interpreter that can import dptb ({reason})")


def time_deeptb(
    python: Path, model: Model, system: System, n_edges: int, limits: BenchmarkLimits, threads: int
) -> dict[str, Timing]:
    """Times of "step" and "predict" for one structure, with the widths of the model's stage 1; empty for a batch.

    Raises `ConfigError` if DeePTB fails, or if its graph has another number of directed edges, which would be other
    work.
    """
    if len(system.structures) != 1:
        return {}
    atoms, basis = system.structures[0], model.space.basis
    elements = sorted(set(atoms.numbers.tolist()))
    request = {
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist() if atoms.pbc.any() else (np.eye(3) * 100).tolist(),
        "pbc": [bool(x) for x in atoms.pbc],
        "numbers": atoms.numbers.tolist(),
        "basis": {chemical_symbols[z]: shell_names(basis, z) for z in elements},
        "reach": 2 * max(basis.radii[z] for z in elements),
        "hidden": _hidden(model),
        "layers": model.network.settings.stage1.layers,
        "threads": threads,
        "repeats": limits.repeats,
        "seconds": limits.seconds,
    }
    done = subprocess.run([python, SCRIPT], input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"DeePTB, {system.name}: {reason}")
    reply = json.loads(done.stdout)
    if reply["edges"] != n_edges:
        raise ConfigError(f"DeePTB, {system.name}: expected {n_edges} directed edges, got {reply['edges']}")
    return {name: Timing.of([(wall, cpu) for wall, cpu in reply[name]]) for name in ("step", "predict")}


def _hidden(model: Model) -> str:
    """Irreps of the atoms in stage 1 without pseudoscalars, which DeePTB's gate does not accept."""
    s = model.network.settings.stage1
    irreps = irreps_of(model.space.l_max, s.channels, s.pseudo_channels)
    return "+".join(f"{n}x{ir}" for n, ir in irreps if str(ir) != "0o")


def shell_names(basis: BasisSet, z: int) -> str:
    """Shells of an element as DeePTB writes them, e.g. 2s2p1d."""
    counts = Counter(basis.degrees(z))
    return "".join(f"{counts[l]}{'spdfg'[l]}" for l in sorted(counts))
