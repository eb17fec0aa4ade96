"""Small molecules with bonds that few others have (N-F, O-F, N-N, O-O, ...), as an xyz file for `harmose label`.

    python examples/results/special_organics.py special.xyz
    harmose label special.xyz special --functional b3lypg --basis def2-svp --skip-bad

Made with RDKit (ETKDG, MMFF94 or UFF), three geometries of each, displaced by 0.04 to 0.12 angstrom and turned at random; with
`--more` also carbenes, isocyanides and further molecules with such ends, and two more geometries of the smallest.
"""

import argparse
import sys
from collections.abc import Iterable
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
    "C=C=C", "C=C=C=C", "CN=C=O", "FN=C=O", "NN=C=O", "ON=C=O", "C=C=N", "C=C=NC", "FC=C=O", "CC=C=O", "OC=C=O", "NC=C=O",
    "C=C=C=O", "CN=C=NC", "FN=C=N", "C=C=C=N", "N=C=C=N", "O=C=C=N", "O=C=NC#N", "O=C=NN=C=O", "C#[N+][O-]", "FC#[N+][O-]",
    "CC#[N+][O-]", "N#[N+][O-]", "C[N+]#[C-]", "F[N+]#[C-]", "O[N+]#[C-]", "FC=[N+]=[N-]", "FC(F)=[N+]=[N-]", "O=C=[N+]=[N-]",
    "C=[O+][O-]", "CC=[O+][O-]", "FC=[O+][O-]", "C=[N+](C)[O-]", "O=C(O)O", "O=C1OO1", "O=CC=O", "O=CC(=O)F", "O=CF", "OC=O", "O=C",
    "O=C(F)OF", "O=C(O)F", "OCF", "OC(F)(F)F", "OOC=O", "OOOO", "COOO", "FOOO", "OON", "NOO", "OON=O", "NN(F)F", "FNF", "NNN", "N=NN",
    "FN=NN", "N=NC", "N=NO", "FN=NC", "N=NC=N", "O=NN", "O=NC=O", "O=NC#N", "O=NC(F)(F)F", "O=N[N+](=O)[O-]", "O=NOC", "ON=C", "FN=C",
    "N=CF", "N=CO", "N=CN", "FC=NF", "N=C(F)F", "N#CC=O", "N#CC(=O)F", "N#COC", "N#COF", "N#CC#C", "N#CN=O", "N#CNF", "N#CON", "C#CF",
    "C#CO", "C#CN", "C#CC=O", "C#COF", "FC#CC#N", "OC#CF", "CF", "C(F)(F)F", "CO", "CN", "C", "O", "N", "[H][H]", "FC(F)=C(F)F", "FC(F)=C",
    "N1=CO1", "C1=CO1", "C1=CN1", "C1=CC1", "N1OC1", "N1ON1", "FN1CC1", "FN1OC1", "O=C1CO1", "O=C1NC1", "O=C1C=C1", "C1CO1", "O1ON1",
)  # fmt: skip
"""N-F, O-F, O-O, N-N, N-O bonds, multiple bonds side by side, and molecules of few atoms."""
MORE = (
    "[CH2]", "F[C]F", "F[CH]", "O[C]O", "O[CH]", "O[C]F", "N[C]N", "N[CH]", "N[C]F", "N[C]O", "C[C]F", "C[C]O", "C=[C]", "FC=[C]",
    "FC(F)=[C]", "[C-]#[NH+]", "[C-]#[N+]C#N", "[C-]#[N+]C=O", "[C-]#[N+]C#C", "[C-]#[N+]C=C", "[C-]#[N+]OF", "[C-]#[N+]CF",
    "[C-]#[N+]CO", "[C-]#CC#[O+]", "[C]=C=[C]", "C=C=[C]", "C1=C[C]1", "O=C=C=O", "O=C1CC1", "O=C=C1CC1", "O=C=CF", "O=C=CC=O",
    "O=C=CO", "O=C=CC#N", "O=C=C=N", "O=C1NN1", "O=C1ON1", "O=C1OC1", "N=[O+][O-]", "FN=[O+][O-]", "O1NO1", "N1=NO1", "N1=NN1",
    "O=C=NF", "O=C=NO", "O=C=NC=O", "O=C=NC#C", "O=C(C#C)F", "O=C=C(F)F", "O=C=NC(F)F", "N#CC(=O)C#N", "O=C(N=O)F",
    "O=CC#CF", "O=C=CN=O", "FC(=O)N=O", "O=C(O)C#N", "O=C(OO)F", "O=C(N=[N+]=[N-])F", "OC(=O)OF", "C=C=C=C=O", "O=CN=C=O",
)  # fmt: skip
"""Ends of molecules that are like carbon monoxide, carbon dioxide and ozone, which are held out themselves."""
SIZES, MORE_SIZES = (0.04, 0.08, 0.12), (0.06, 0.1)
"""Angstrom. Standard deviations of the displacements of three geometries, and of two more of molecules with few atoms."""
FEW_ATOMS = 4
"""Largest number of atoms but hydrogen of molecules with more geometries."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--not-formula", nargs="*", default=(), help="formulas, in Hill order, that are left out")
    parser.add_argument("--more", action="store_true", help="further molecules and geometries, after the others")
    options = parser.parse_args()
    left_out, generator = set(options.not_formula), np.random.default_rng(7)
    structures = geometries(SMILES, SIZES, left_out, generator)
    if options.more:
        few = [smiles for smiles in SMILES if Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() <= FEW_ATOMS]
        structures += geometries(MORE, SIZES, left_out, generator) + geometries(few, MORE_SIZES, left_out, generator)
    write(options.file, structures, format="extxyz")
    print(f"{options.file}: {len(structures)} structures")
    return 0


def geometries(
    molecules: Iterable[str], sizes: Iterable[float], left_out: set[str], generator: np.random.Generator
) -> list[Atoms]:
    """Displaced geometries of molecules, given as SMILES; the same for generators in the same state."""
    out = []
    for smiles in dict.fromkeys(molecules):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if CalcMolFormula(mol) in left_out or AllChem.EmbedMolecule(mol, randomSeed=1) != 0:
            continue
        if AllChem.MMFFHasAllMoleculeParams(mol):
            AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
        elif AllChem.UFFHasAllMoleculeParams(mol):
            AllChem.UFFOptimizeMolecule(mol, maxIters=2000)
        numbers, positions = [a.GetAtomicNum() for a in mol.GetAtoms()], mol.GetConformer().GetPositions()
        for size in sizes:
            moved = positions + generator.normal(scale=size, size=positions.shape)
            atoms = Atoms(numbers, Rotation.random(rng=generator).apply(moved - moved.mean(0)))
            atoms.info |= {"name": smiles, "group": smiles}
            if (atoms.get_all_distances() + 10 * np.eye(len(atoms))).min() > 0.6:
                out.append(atoms)
    return out


if __name__ == "__main__":
    sys.exit(main())
