"""Time, memory and error of `harmose.overlap` for large structures, on one thread.

    python benchmarks/overlap.py [DATA]

Systems: graphene sheets of 5,000 and 10,000 atoms (gth-dzvp-molopt-sr, 13 orbitals per atom), liquid-like water of
3,000 atoms (def2-SVP), and, with DATA (a folder with dft-outputs/siesta-Si), silicon of 1,000 atoms (DZP of SIESTA);
all atoms are displaced at random. Each system has a process of its own. Seconds are processor time: of the whole call,
of its graph, and, to compare, of writing the values into new memory once. Memory is the peak of the process above its
memory before the call. The error is the largest of 200 random blocks, compared with integrals without interpolation.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, graphene, molecule

import harmose
from harmose.core.graph import build_graph
from harmose.core.radial import RadialBasis


def sheet(repeats: int) -> tuple[Atoms, RadialBasis]:
    atoms = graphene(size=(repeats, repeats, 1), vacuum=10.0)
    atoms.pbc = (True, True, False)
    return atoms, harmose.basis("gth-dzvp-molopt-sr", ["C"])


def water(repeats: int) -> tuple[Atoms, RadialBasis]:
    one = molecule("H2O", cell=[3.1, 3.1, 3.1], pbc=True)
    return one * (repeats, repeats, repeats), harmose.basis("def2-svp", ["H", "O"])


def silicon(repeats: int, data: str) -> tuple[Atoms, RadialBasis]:
    atoms = bulk("Si", cubic=True) * (repeats, repeats, repeats)
    return atoms, harmose.basis(Path(data) / "dft-outputs" / "siesta-Si" / "Si.ion.nc")


CASES = {
    "graphene-5000": lambda data: sheet(50),
    "graphene-10000": lambda data: sheet(71),
    "water-3000": lambda data: water(10),
    "silicon-1000": lambda data: silicon(5, data),
}


def measure(name: str, data: str) -> None:
    torch.set_num_threads(1)
    atoms, basis = CASES[name](data)
    atoms.rattle(0.05, seed=1)
    harmose.overlap(atoms[:2], basis)
    before = peak()
    s, whole = timed(lambda: harmose.overlap(atoms, basis))
    used = peak() - before
    _, graph = timed(lambda: build_graph(atoms, basis.basis))
    _, touch = timed(lambda: np.zeros(s.values.size).fill(1.0))
    print(f"{name:<16}{len(atoms):>6}{s.n_orbitals:>9}{len(s.pairs):>10}{whole:>9.2f}{graph:>8.2f}{touch:>8.2f}"
          f"{used:>10.0f}{s.values.nbytes / 1e6:>9.0f}{error(atoms, basis, s):>10.1e}")  # fmt: skip


def timed(work):
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def peak() -> float:
    """Peak memory of the process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def error(atoms: Atoms, basis: RadialBasis, s: harmose.BlockMatrix) -> float:
    """Largest error of 200 random blocks. The overlap of two single atoms does not use an interpolation table."""
    worst = 0.0
    for k in np.random.default_rng(0).integers(0, len(s.pairs), 200):
        i, j, *cell = s.pairs[k].tolist()
        second = atoms.positions[j] + cell @ atoms.cell.array
        pair = harmose.overlap(Atoms(atoms.numbers[[i, j]], [atoms.positions[i], second]), basis)
        worst = max(worst, float(np.abs(pair.block(0, 1) - s.block(i, j, tuple(cell))).max()))
    return worst


def main(data: str = "") -> None:
    print(f"{'':<16}{'atoms':>6}{'orbitals':>9}{'pairs':>10}{'seconds':>9}{'graph':>8}{'touch':>8}"
          f"{'peak MB':>10}{'S MB':>9}{'error':>10}", flush=True)  # fmt: skip
    for name in CASES:
        if data or name != "silicon-1000":
            subprocess.run([sys.executable, __file__, "--case", name, data], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        measure(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
