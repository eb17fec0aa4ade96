"""5. Start a PySCF calculation from a predicted Hamiltonian.

    python examples/5_scf_start.py

The model ships with the package. Writes no files.
"""

import pyscf
from ase.build import molecule

import harmose

# The model was trained on PBE/def2-SVP, so the calculation uses the same functional and basis
# set.
model = harmose.load("water-pbe-def2svp")
atoms = molecule("H2O")
atoms.rattle(0.03, seed=1)
mol = pyscf.M(
    atom=list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)), basis="def2-svp", verbose=0
)


def n_cycles(mf):
    """Converge `mf`; return the number of cycles and the total energy in Hartree."""
    cycles = []
    mf.callback = lambda state: cycles.append(state["cycle"])
    energy = mf.kernel()
    return len(cycles), energy


# PySCF's own guess.
cycles, energy = n_cycles(pyscf.dft.RKS(mol, xc="pbe"))
print(f"superposed atoms:  {cycles} cycles, {energy:.8f} Hartree")

# The predicted H gives orbitals, these give a density, and the self-consistent field starts
# from it. The result is the same; only the way there is shorter. If the prediction is poor, a
# guard returns to PySCF's guess and warns.
mf = harmose.pyscf.start(pyscf.dft.RKS(mol, xc="pbe"), model)
fewer_cycles, same_energy = n_cycles(mf)
print(f"predicted density: {fewer_cycles} cycles, {same_energy:.8f} Hartree")

assert fewer_cycles < cycles
assert abs(same_energy - energy) < 1e-7
