"""1. Read a DFT calculation and look at its Hamiltonian.

    python examples/1_read_and_look.py

Writes `water.npz` to the current folder.
"""

import numpy as np
from ase.build import molecule

import harmose
from harmose.label.label import PySCFSettings, calculate

# A sample is one DFT calculation: structure, basis set, H, S, and energies. This one is
# computed here, by PySCF. `harmose.read` takes the folder of a SIESTA, ABACUS, FHI-aims, CP2K
# or DeepH calculation as well.
sample = calculate(molecule("H2O"), PySCFSettings(functional="pbe", basis="sto-3g"), name="water")
harmose.write("water.npz", sample)
sample = harmose.read("water.npz")
print(sample.structure)
print(sample.basis)

# H is a `BlockMatrix` in eV. A block holds the matrix elements between the orbitals of two
# atoms: rows belong to atom i, columns to atom j. Orbitals of a shell are ordered m = -l,
# ..., l, so that p orbitals are y, z, x.
h, s = sample.hamiltonian, sample.overlap
print(h)
print("block O-H (eV), rows 1s 2s 2p_y 2p_z 2p_x of O, column 1s of H:")
print(h.block(0, 1).round(3))

# H is Hermitian by construction: the block of the reversed pair is the transpose.
assert np.array_equal(h.block(1, 0), h.block(0, 1).T)

# If the molecule turns, each block turns with it. This is what an equivariant model
# reproduces.
quarter_turn_about_z = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
print("the same block of the rotated molecule:")
print(h.rotate(quarter_turn_about_z).block(0, 1).round(3))

# H c = e S c gives the orbital energies: those that PySCF found.
energies = harmose.eigenvalues(h, s)[0]
print("orbital energies (eV):", energies.round(3))
homo, lumo = energies[sample.n_occupied - 1], energies[sample.n_occupied]
print(f"gap: {lumo - homo:.3f} eV")
assert np.allclose(energies, sample.orbital_energies, atol=1e-6)
