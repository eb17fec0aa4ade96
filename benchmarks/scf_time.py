"""What a predicted start saves of an SCF, prediction included: processor time and cycles beside PySCF's own start.

    python benchmarks/scf_time.py organics-b3lyp-def2svp [NAME ...] [--out scf_time.csv]     # molecules of ASE's G2 set

Each molecule is solved from `minao` and from the model, in turns, `--repeats` times in one process on one thread, with the
functional and the basis set of the model's labels, PySCF's usual grid and convergence. The time of the start is that of everything
that `harmose.pyscf.start` and the SCF do: H0, prediction, and the check of the start.
"""

import argparse
import csv
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.build import molecule
from pyscf import lib

import harmose
from harmose.errors import HarmoseError
from harmose.io.pyscf.pyscf import PySCFSettings, mean_field
from harmose.io.pyscf.pyscf import molecule as pyscf_molecule

NAMES = (
    *("CH3CH2OH", "CH3OCH3", "CH3CHO", "HCOOH", "CH3CN", "C4H4NH", "C4H4O", "C6H6", "CH3NO2", "CH3COOH"),
    *("HCOOCH3", "CH3CONH2", "CH2NHCH2", "C2H6NH", "CH3CH2NH2", "H2CCHCN", "CH3COCH3", "H2CCO", "CH3COF", "C5H5N"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model of molecules, labelled with PySCF")
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lib.num_threads(1)
    warnings.simplefilter("ignore")
    try:
        model = harmose.load(options.model)
        rows = [row(model, name, options.repeats) for name in options.names]
    except (HarmoseError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ratio = np.array([x["start, s"] / x["minao, s"] for x in rows])
    print(
        f"time with the start / without: mean {ratio.mean():.2f}, median {np.median(ratio):.2f}, worst {ratio.max():.2f}"
    )
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


def row(model: harmose.Model, name: str, repeats: int) -> dict[str, Any]:
    """Times and cycles of one molecule."""
    settings = PySCFSettings(model.card.settings["functional"], model.card.settings["basis"], convergence_gradient=None)
    mol = pyscf_molecule(molecule(name), settings.basis)
    model.predict(molecule(name))  # what is computed once for each pair of elements
    times: dict[str, list[float]] = {"minao": [], "start": []}
    cycles, energies = {}, {}
    for _ in range(repeats):
        for kind, own in times.items():
            mf = mean_field(mol, settings)
            started = time.process_time()
            if kind == "start":
                mf = harmose.pyscf.start(mf, model)
            mf.kernel()
            own.append(time.process_time() - started)
            cycles[kind], energies[kind] = mf.cycles, mf.e_tot
    minao, start = (float(np.median(own)) for own in times.values())
    difference = abs(energies["start"] - energies["minao"])
    print(
        f"{name:10s} {mol.nao:4d} orbitals  minao {minao:6.2f} s, {cycles['minao']:2d} cycles   start {start:6.2f} s, "
        f"{cycles['start']:2d} cycles   {start / minao:.2f}   energies differ by {difference:.0e} Hartree",
        flush=True,
    )
    return {
        "molecule": name,
        "orbitals": mol.nao,
        "minao, s": minao,
        "minao, cycles": cycles["minao"],
        "start, s": start,
        "start, cycles": cycles["start"],
    }


if __name__ == "__main__":
    sys.exit(main())
