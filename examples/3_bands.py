"""3. Predict the Hamiltonian of a crystal and plot its bands.

    python examples/3_bands.py

Writes `bands.png` to the current folder.
"""

from ase.build import graphene

import harmose
from harmose.evaluate.band_plots import band_structure

# A model of graphene that ships with the package, trained on PBE/DZVP calculations of CP2K.
model = harmose.load("graphene-pbe-dzvp")

# Two atoms in a cell; the lattice constant is that of the training set.
atoms = graphene(a=2.467, vacuum=10.0)
h = model.predict(atoms)
print(h)

# The overlap S follows from the basis set alone. No DFT program is needed.
s = harmose.overlap(atoms, h.basis)

# Blocks (i, j, R) couple the home cell with the cell at lattice vector R. Bands solve H(k) c
# = e S(k) c, where H(k) is the sum of the blocks with the phases exp(2 pi i k . R).
bands = harmose.bands(h, s, path="GMKG", structure=atoms, n_electrons=8)
n_k, n_bands = bands.energies.shape
print(f"{n_bands} bands at {n_k} k-points, special points {' '.join(bands.labels)}")

# Graphene is a semimetal: the highest occupied and the lowest empty band touch at K. 8
# valence electrons fill 4 bands.
k = bands.labels.index("K")
at_K = bands.relative[abs(bands.x - bands.ticks[k]).argmin()]
print(f"bands 4 and 5 at K, relative to the Fermi level: {at_K[3]:+.3f} and {at_K[4]:+.3f} eV")

band_structure({"prediction": bands}, window=(-20, 10), title="graphene").savefig("bands.png", dpi=150)
print("bands.png")
