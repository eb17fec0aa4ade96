"""Small molecules with bonds that few others have (N-F, O-F, N-N, O-O, ...), as an xyz file for `harmose label`.

    python examples/results/special_organics.py special.xyz
    harmose label special.xyz special --functional b3lypg --basis def2-svp --skip-bad

Made with RDKit (ETKDG, MMFF94 or UFF), three geometries of each, displaced by 0.04 to 0.12 angstrom and turned at random; and
bonds of common molecules stretched and compressed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from rdkit import Chem
from rdkit.Chem import AllChem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula
from scipy.spatial.transform import Rotation

SMILES = (
    "NF", "FNF", "OF", "COF", "CNF", "CN(F)F", "FN=NF", "FC#N", "FN=O", "FN(F)N(F)F", "NN", "N=N", "CN=NC", "NNF", "CNN", "N#N",
    "OO", "COO", "COOC", "OOO", "FOOF", "FOO", "ON(O)O", "N=O", "CN=O", "ON=O", "NO", "CNO", "CON", "FOF", "C(F)OF", "FC(F)OF",
    "[N-]=[N+]=N", "[N-]=[N+]=NF", "O=[N+]([O-])F", "FC(=O)OF", "N#CC#N", "O=C=O", "FC(=O)F", "FCF", "FC#CF", "FC=CF", "O=C=C=C=O",
    "C=C=O", "C#C", "OC#N", "N=C=O", "N#CN", "[C-]#[N+]N", "C1OO1", "N1NC1", "C1=NN1", "FC1=NN1", "O=NN=O", "ONN", "NOF", "FON=O",
)  # fmt: skip
"""N-F, O-F, O-O, N-N, N-O bonds, and molecules of few atoms."""
SIZES = (0.04, 0.08, 0.12)
"""Angstrom. Standard deviations of the displacements of three geometries."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--not-formula", nargs="*", default=(), help="formulas, in Hill order, that are left out")
    options = parser.parse_args()
    structures = geometries(set(options.not_formula))
    write(options.file, structures, format="extxyz")
    print(f"{options.file}: {len(structures)} structures")
    return 0


def geometries(left_out: set[str]) -> list[Atoms]:
    """All geometries, always the same."""
    generator, out = np.random.default_rng(7), []
    for smiles in dict.fromkeys(SMILES):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if CalcMolFormula(mol) in left_out or AllChem.EmbedMolecule(mol, randomSeed=1) != 0:
            continue
        if AllChem.MMFFHasAllMoleculeParams(mol):
            AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
        elif AllChem.UFFHasAllMoleculeParams(mol):
            AllChem.UFFOptimizeMolecule(mol, maxIters=2000)
        numbers, positions = [a.GetAtomicNum() for a in mol.GetAtoms()], mol.GetConformer().GetPositions()
        for size in SIZES:
            moved = positions + generator.normal(scale=size, size=positions.shape)
            atoms = Atoms(numbers, Rotation.random(rng=generator).apply(moved - moved.mean(0)))
            atoms.info |= {"name": smiles, "group": smiles}
            if (atoms.get_all_distances() + 10 * np.eye(len(atoms))).min() > 0.6:
                out.append(atoms)
    return out


if __name__ == "__main__":
    sys.exit(main())
