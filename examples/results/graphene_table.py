"""How a model of graphene does on structures beyond its training set: errors, out-of-domain score, time and memory, as one table.

    python examples/results/graphene_table.py graphene-pbe-dzvp STORE

STORE holds the labels (`examples/results/crystals_h5.py`), among them the sample `pristine_1x1`. The structures are those of
`examples/results/graphene_structures.py`. A perfect cell of any size has the blocks of the primitive cell, so that its error
against CP2K is computed without another DFT run. The other structures have no labels: the table shows how far they are from the
training set (out-of-domain score; above 2 is outside). Each prediction runs in its own process, so that its memory can be read.
"""

import argparse
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from ase import Atoms
from graphene_structures import primitive, structures
from rich.console import Console
from rich.table import Table

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample, relative_to_fermi_level
from harmose.data.store import Store
from harmose.errors import HarmoseError, OutsideDomain
from harmose.inference.pipeline import environments
from harmose.kernel_regression.training_domain import OOD_LIMIT

LABEL = "pristine_1x1"


@dataclass(frozen=True)
class Row:
    """One prediction: processor time in seconds, the process's peak memory in GB, H in eV, largest score of an atom."""

    name: str
    hamiltonian: BlockMatrix
    seconds: float
    memory: float
    ood_score: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Predict structures of graphene and compare perfect cells with their DFT reference."
    )
    parser.add_argument("model", help="a shipped model's name, or the folder of a training")
    parser.add_argument("store", type=Path, help=f"labels, with the sample {LABEL}")
    options = parser.parse_args(arguments)
    try:
        with Store.open(options.store) as store:
            label = relative_to_fermi_level(store[LABEL])
        rows = [isolated(options.model, name, atoms) for name, atoms in structures().items()]
        Console().print(table(rows, label))
    except HarmoseError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def isolated(model: str, name: str, atoms: Atoms) -> Row:
    """Return `predicted`, computed in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(predicted, model, name, atoms).result()


def predicted(model: str, name: str, atoms: Atoms) -> Row:
    """Predict one structure; a small one before it does the work that is done once for each process."""
    loaded = harmose.load(model)
    loaded.predict(primitive())
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideDomain)
        h = loaded.predict(atoms)
    seconds = time.process_time() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    oriented = loaded.space.orient(build_graph(atoms, loaded.space.basis))
    score = loaded.domain.scores(environments(loaded.regression, loaded.space, oriented)).max()
    return Row(name, h, seconds, memory / 1e9, float(score))


def table(rows: list[Row], label: Sample) -> Table:
    """Perfect cells with their errors, the others without."""
    out = Table(
        "structure", "atoms", "H MAE (meV)", "on-site", "off-site", "out-of-domain score", "time (s)", "memory (GB)"
    )
    for row in rows:
        h = row.hamiltonian
        errors = [f"{1e3 * x:.3f}" for x in perfect_errors(h, label)] if row.name.startswith("pristine") else [""] * 3
        score = f"{row.ood_score:.2f}" + (", outside" if row.ood_score > OOD_LIMIT else "")
        out.add_row(row.name, str(len(h.numbers)), *errors, score, f"{row.seconds:.2f}", f"{row.memory:.2f}")
    return out


def perfect_errors(h: BlockMatrix, label: Sample) -> tuple[float, float, float]:
    """Mean absolute error of a repeated cell's H against its primitive cell's, both triangles: all, on-site, off-site."""
    n = label.hamiltonian.n_orbitals // 2
    error = np.abs(h.values.reshape(-1, n, n) - primitive_blocks(h, label.hamiltonian)).mean((1, 2))
    onsite = h.is_onsite[h.offsets[:-1]]
    return float(np.average(error, weights=np.where(onsite, 1, 2))), error[onsite].mean(), error[~onsite].mean()


def primitive_blocks(h: BlockMatrix, small: BlockMatrix) -> np.ndarray:
    """For each block of a cell repeated n by n the one of the primitive cell that it equals (blocks, orbitals, orbitals)."""
    size = round((len(h.numbers) / 2) ** 0.5)
    i, j, x, y, z = h.keys.T
    # `Atoms.repeat` counts the first direction last: atom = 2 (size * cell x + cell y) + place in the cell
    across = [(j // 2 // size - i // 2 // size) + x * size, (j // 2 % size - i // 2 % size) + y * size, z]
    keys = np.stack([i % 2, j % 2, *across], 1)
    reverse = keys[:, [1, 0, 2, 3, 4]] * [1, 1, -1, -1, -1]
    ahead, back = (_rows(part, small.keys) for part in (keys, reverse))
    blocks = small.values.reshape(len(small.keys), *2 * [small.n_orbitals // 2])
    return np.where((ahead >= 0)[:, None, None], blocks[ahead], blocks[back].swapaxes(1, 2))


def _rows(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each key is in another list of keys, -1 where it is not."""
    names, place = np.unique(np.concatenate([among, keys]), axis=0, return_inverse=True)
    found = np.full(len(names), -1)
    found[place[: len(among)]] = np.arange(len(among))
    return found[place[len(among) :]]


if __name__ == "__main__":
    sys.exit(main())
