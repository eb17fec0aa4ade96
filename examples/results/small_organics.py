"""Small organic molecules of C, H, N, O and F by rule, as an xyz file for `harmose label`.

    pip install rdkit
    python examples/results/small_organics.py organics.xyz --heavy 5 --not-formula C3H4N2 CO2
    harmose label organics.xyz STORE --functional b3lypg --basis def2-svp

Graphs grow atom by atom, bond by bond, ring by ring from methane, ammonia and water, with normal valences; chains of
heteroatoms and rings too strained to exist are left out. Geometries: ETKDG and MMFF94 (UFF where it lacks parameters), then
each atom displaced at random by 0.04 angstrom (H: 0.03) and the molecule turned at random.
"""

import argparse

import numpy as np
from ase import Atoms
from ase.io import write
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula
from scipy.spatial.transform import Rotation

DISPLACEMENT = {1: 0.03}
SPECIAL = (
    "C[N+](=O)[O-]", "CC[N+](=O)[O-]", "C=C[N+](=O)[O-]", "O[N+](=O)[O-]", "CO[N+](=O)[O-]", "N[N+](=O)[O-]", "CN[N+](=O)[O-]",
    "CN=[N+]=[N-]", "N=[N+]=[N-]", "CCN=[N+]=[N-]", "C=[N+]=[N-]", "CC=[N+]=[N-]", "C[N+]#[C-]", "CC[N+]#[C-]", "C=C[N+]#[C-]",
    "N#[N+][O-]", "O=[O+][O-]", "[C-]#[O+]", "C[N+](C)(C)[O-]", "C=[N+](C)[O-]", "CC#[N+][O-]", "FC(F)[N+](=O)[O-]", "[H][H]", "F", "FF",
)  # fmt: skip


def grown(molecules: set[str], n_heavy: int) -> set[str]:
    """All molecules with one more atom, bond order or ring than those given."""
    found = set()
    for smiles in molecules:
        mol = Chem.MolFromSmiles(smiles)
        Chem.Kekulize(mol, clearAromaticFlags=True)
        free = [a.GetIdx() for a in mol.GetAtoms() if a.GetTotalNumHs() > 0]
        if mol.GetNumAtoms() < n_heavy:
            for k in free:
                for z in (6, 7, 8, 9):
                    new = Chem.RWMol(mol)
                    new.AddBond(k, new.AddAtom(Chem.Atom(z)), Chem.BondType.SINGLE)
                    found.add(_canonical(new))
        for k in free:
            for j in (j for j in free if j < k):
                new, bond = Chem.RWMol(mol), mol.GetBondBetweenAtoms(j, k)
                if bond is None:
                    new.AddBond(j, k, Chem.BondType.SINGLE)
                elif bond.GetBondTypeAsDouble() < 3:
                    order = {1: Chem.BondType.DOUBLE, 2: Chem.BondType.TRIPLE}[int(bond.GetBondTypeAsDouble())]
                    new.GetBondBetweenAtoms(j, k).SetBondType(order)
                else:
                    continue
                found.add(_canonical(new))
    return found - {""}


def _canonical(mol: Chem.RWMol) -> str:
    try:
        Chem.SanitizeMol(mol)
    except (Chem.AtomValenceException, Chem.KekulizeException):
        return ""
    smiles = Chem.MolToSmiles(mol)
    return smiles if Chem.MolFromSmiles(smiles) is not None else ""


UNLIKELY = [
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[N,O;!a]~[N,O]~[N,O]",  # chains of three heteroatoms, but for azoles
        "[N,O]-F",
        "[a;r3,r4]",
        "[O;a]~[O,N;a]~[O,N;a]",
        "[nH]~[nH]",
        "[n]~[n]~[n]~[n]~[n]",
        "[CX4]([OH,NH2,NH])[OH,NH2,NH]",  # hydrates and their like
        "[CX4]([OX2,NX3])([OX2,NX3])[OX2,NX3]",
        "[C;R0]=[C;R0]-[OH,NH2,NH]",  # enols, enamines
        "C=N[NH]C=N",
        "[CX3;R0](=N)[OH]",
        "C#C-[O,N]",
        "*=*=*=*",
        "[!#6;!#1;!H]-[N;X2]=O",
        "[N;R0]-[O;R0]-[N,O;R0]",
        "[r3,r4,r5]#*",
        "*=[C;R;X2]=*",
        "[R2;N,O]",
        "[R2]=*",
        "[R3]",
        "[r3]=[O,N;r3]",
        "[O,N;r3]1-,=[C;r3]=,-[C;r3]1=*",
        "[O,N;r3]1-[C;r3]=[C;r3]1",
        "[O,N;r3]~[O,N;r3]",
        "[O,N;r4]~[O,N;r4]",
        "[r4]=[r4]~[r4]=[r4]",
    )
]


def plausible(smiles: str) -> bool:
    mol = Chem.MolFromSmiles(smiles)
    return not any(mol.HasSubstructMatch(pattern) for pattern in UNLIKELY)


def strangeness(smiles: str) -> int:
    """Bonds between heteroatoms and small rings, outside of aromatic rings."""
    mol = Chem.MolFromSmiles(smiles)
    bonds = sum({b.GetBeginAtom().GetAtomicNum(), b.GetEndAtom().GetAtomicNum()} <= {7, 8} for b in mol.GetBonds())
    strained = sum(b.IsInRingSize(3) or b.IsInRingSize(4) for b in mol.GetBonds())
    aromatic = any(a.GetIsAromatic() for a in mol.GetAtoms())
    return 0 if aromatic else bonds + (strained > 0) + (strained > 4)


def geometry(smiles: str, seed: int) -> Atoms | None:
    """A conformer at its force field's minimum, displaced and turned; None where none is found or it fell apart."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(mol, randomSeed=seed + 1) != 0:
        return None
    if AllChem.MMFFHasAllMoleculeParams(mol):
        AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
    elif AllChem.UFFHasAllMoleculeParams(mol):
        AllChem.UFFOptimizeMolecule(mol, maxIters=2000)
    numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()])
    rng = np.random.default_rng([seed, *smiles.encode()])
    sigma = np.array([DISPLACEMENT.get(z, 0.04) for z in numbers])
    positions = mol.GetConformer().GetPositions() + rng.normal(size=(len(numbers), 3)) * sigma[:, None]
    atoms = Atoms(numbers, Rotation.random(rng=rng).apply(positions - positions.mean(0)))
    atoms.info |= {"name": smiles, "group": smiles}
    distances = atoms.get_all_distances() + 10 * np.eye(len(atoms))
    return atoms if distances.min() > 0.6 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--heavy", type=int, default=5, help="most atoms besides H")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=1, help="geometries of each molecule")
    parser.add_argument("--not-formula", nargs="*", default=[], help="formulas to leave out (Hill order)")
    parser.add_argument("--only-formula", nargs="*", default=[], help="formulas to keep, no others")
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    found, new = {"C", "N", "O", "F"}, {"C", "N", "O"}
    while new:
        new = grown(new, arguments.heavy) - found
        found |= new
    chosen = {s for s in found if plausible(s)}
    chosen |= {Chem.CanonSmiles(s) for s in SPECIAL if Chem.MolFromSmiles(s).GetNumHeavyAtoms() <= arguments.heavy}
    formula = {s: CalcMolFormula(Chem.MolFromSmiles(s)).rstrip("+-") for s in sorted(chosen)}
    kept = [s for s, f in formula.items() if f not in arguments.not_formula]
    kept = [s for s in kept if not arguments.only_formula or formula[s] in arguments.only_formula]
    frames = [geometry(s, arguments.seed + copy) for copy in range(arguments.copies) for s in kept]
    frames = [f for f in frames if f is not None]
    # The likeliest first, but for chance: labelling may stop anywhere.
    chance = np.random.default_rng(arguments.seed).uniform(size=len(frames))
    order = np.argsort(chance + [0.4 * strangeness(f.info["name"]) for f in frames])
    write(arguments.out, [frames[k] for k in order], format="extxyz")
    print(f"{arguments.out}: {len(frames)} geometries of {len(kept)} molecules")


if __name__ == "__main__":
    main()
