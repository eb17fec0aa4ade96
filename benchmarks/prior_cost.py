"""What a prediction of a molecule costs beside the DFT that it replaces: H0 of all kinds, the prediction, and SCFs.

    python benchmarks/prior_cost.py organics-b3lyp-def2svp [NAME ...]       # molecules of ASE's G2 set

Processor time of one thread in seconds, the least of several runs, in one process after imports. SCFs are those of labels
(exact integrals, grid level 3, 1e-9 Hartree) and with density fitting on PySCF's usual grid and convergence.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from ase.build import molecule
from pyscf import lib

import harmose
from harmose.errors import HarmoseError
from harmose.io.pyscf.pyscf import PySCFSettings, mean_field, prior_fock
from harmose.io.pyscf.pyscf import molecule as pyscf_molecule

NAMES = ("H2O", "CH3CH2OH", "C4H4NH", "C6H6")
KINDS = ("exact", "spherical", "tabulated")
COLUMNS = (
    "orbitals",
    *(f"H0 {kind}" for kind in KINDS),
    "prediction",
    "SCF",
    "SCF, density fitting",
    "SCF / prediction",
    "SCF, density fitting / prediction",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model of molecules that learned H - H0")
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lib.num_threads(1)
    warnings.simplefilter("ignore")  # molecules outside the training domain take as long
    try:
        model = harmose.load(options.model)
        print("| molecule | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
        for name in options.names:
            print(f"| {name} | " + " | ".join(f"{x:.3g}" for x in row(model, name)) + " |", flush=True)
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def row(model: harmose.Model, name: str) -> list[float]:
    """The columns of one molecule."""
    atoms = molecule(name)
    exact = PySCFSettings(model.card.settings["functional"], model.card.settings["basis"])
    mol = pyscf_molecule(atoms, exact.basis)
    settings = [replace(exact, prior=kind) for kind in KINDS]
    priors = [seconds(lambda s=s: prior_fock(mol, s), 3) for s in settings]
    prediction = seconds(lambda: model.predict(atoms), 5)
    fitted = mean_field(mol, replace(exact, density_fit=True, convergence_gradient=None))
    scf = seconds(mean_field(mol, exact).kernel, 1)
    quick = seconds(fitted.kernel, 1)
    return [mol.nao, *priors, prediction, scf, quick, scf / prediction, quick / prediction]


def seconds(call: Callable[[], Any], n: int) -> float:
    """Least processor time of n calls."""
    out = []
    for _ in range(n):
        started = time.process_time()
        call()
        out.append(time.process_time() - started)
    return min(out)


if __name__ == "__main__":
    sys.exit(main())
