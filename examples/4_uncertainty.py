"""4. Ask a model how wrong it may be, and choose the structures to label next.

    python examples/4_uncertainty.py

The model ships with the package. Writes no files.
"""

import warnings

import numpy as np
from ase.build import molecule

import harmose
from harmose.errors import OutsideDomain

model = harmose.load("water-pbe-def2svp")

# Each block and each orbital energy has a bound that the error stays below with the stated
# probability.
water = molecule("H2O")
u = model.uncertainty(water, confidence=0.9)
print(f"expected mean absolute error of H: {1e3 * u.expected_error:.4f} meV")
for (i, j, *_), bound in zip(u.hamiltonian.keys, u.blocks, strict=True):
    print(f"  block {water.symbols[i]}{i}-{water.symbols[j]}{j}: mean absolute error below {1e3 * bound:.4f} meV")
print(f"gap: {u.gap.value:.4f} eV, within {1e3 * u.gap.bound:.2f} meV with probability {u.confidence}")

# Far from the training set there are no bounds that hold. The model says so instead of
# guessing.
stretched = molecule("H2O")
stretched.set_distance(0, 1, 2.0, fix=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", OutsideDomain)
    far = model.uncertainty(stretched)
print("stretched water is outside the training domain:", far.outside)

# Active learning: rank candidates by their expected error and label the largest first.
# `harmose rank` does this for files.
rng = np.random.default_rng(0)
candidates = []
for amplitude in (0.01, 0.05, 0.1):
    candidate = molecule("H2O")
    candidate.positions += amplitude * rng.normal(size=(3, 3))
    candidates.append(candidate)
errors = model.expected_errors(candidates)
for k in np.argsort(errors)[::-1]:
    print(f"candidate {k}: expected error {1e3 * errors[k]:.4f} meV")
