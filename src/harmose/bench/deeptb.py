"""DeePTB's e3 model beside harmose: in an environment of its own, because it asks for older releases of torch and others."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from harmose.bench.e3nn_stage1 import irreps_of
from harmose.bench.systems import System
from harmose.bench.timing import Patience, Timing
from harmose.core.basis import BasisSet
from harmose.errors import ConfigError
from harmose.inference.model import Model

SCRIPT = Path(__file__).with_name("deeptb_times.py")


def check(python: Path | None) -> Path:
    """`ConfigError` unless `python` is an interpreter that finds dptb."""
    if python is None:
        raise ConfigError("--against deeptb: expected --deeptb-python, of an environment made by benchmarks/deeptb.sh")
    try:
        done = subprocess.run([python, "-c", "import dptb"], capture_output=True, text=True)
    except OSError as error:
        raise ConfigError(f"--deeptb-python {python}: expected an interpreter ({error.strerror})") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"--deeptb-python {python}: expected one that finds dptb ({reason})")
    return python


def deeptb(
    python: Path, model: Model, system: System, n_edges: int, patience: Patience, threads: int
) -> dict[str, Timing]:
    """`step` and `predict` of one structure, with the widths of the model's encoder; nothing of a batch.

    `ConfigError` where DeePTB fails, or finds another number of directed edges: other graphs would be other work.
    """
    if len(system.structures) != 1:
        return {}
    atoms, basis = system.structures[0], model.regression.space.basis
    reach = 2 * max(basis.radii[z] for z in set(atoms.numbers.tolist()))
    asked = {
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist() if atoms.pbc.any() else (np.eye(3) * 100).tolist(),
        "pbc": [bool(x) for x in atoms.pbc],
        "numbers": atoms.numbers.tolist(),
        "basis": {chemical_symbols[z]: shells(basis, z) for z in sorted(set(atoms.numbers.tolist()))},
        "reach": reach,
        "hidden": _hidden(model),
        "layers": model.network.settings.stage1.layers,
        "threads": threads,
        "repeats": patience.repeats,
        "seconds": patience.seconds,
    }
    done = subprocess.run([python, SCRIPT], input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"DeePTB, {system.name}: {reason}")
    found = json.loads(done.stdout)
    if found["edges"] != n_edges:
        raise ConfigError(f"DeePTB, {system.name}: expected {n_edges} directed edges, got {found['edges']}")
    return {name: Timing.of([(wall, cpu) for wall, cpu in found[name]]) for name in ("step", "predict")}


def _hidden(model: Model) -> str:
    """Irreps of the encoder's atoms, less pseudoscalars: no block of a crystal's s, p and d shells has any, and slem's gate
    cannot take them."""
    s = model.network.settings.stage1
    irreps = irreps_of(model.regression.space.l_max, s.channels, s.pseudo_channels)
    return "+".join(f"{n}x{ir}" for n, ir in irreps if str(ir) != "0o")


def shells(basis: BasisSet, z: int) -> str:
    """As DeePTB writes them: 2s2p1d."""
    counts = Counter(basis.degrees(z))
    return "".join(f"{counts[l]}{'spdfg'[l]}" for l in sorted(counts))
