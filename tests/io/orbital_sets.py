"""A made-up crystal whose two carbon atoms have different sets of orbitals."""

import numpy as np
from ase import Atoms
from tests.io.openmx.openmx_runs import random_operator, random_overlap

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample
from harmose.core.species import with_species
from harmose.spin import Spin

SHELLS = {6: (Shell(1, 0), Shell(2, 1), Shell(3, 2)), 8: (Shell(1, 0), Shell(2, 1)), 1006: (Shell(1, 0), Shell(2, 1))}
BASIS = BasisSet("sets", SHELLS, {6: 2.0, 8: 2.2, 1006: 1.8})


def sample_of(spin: Spin = Spin.NONE) -> Sample:
    """C with s, p and d, O, and C with s and p, with random matrices."""
    plain = Atoms("COC", [[0.1, 0, 0], [1.4, 0.3, -0.2], [0.2, 1.9, 2.2]], pbc=True)
    plain.cell = [[3.4, 0, 0], [0.5, 3.8, 0], [0, 0.1, 4.1]]
    atoms = with_species(plain, np.array([6, 8, 1006]))
    h = random_operator(atoms, spin, 3, basis=BASIS)
    s = random_overlap(atoms, BASIS)
    s = s.with_values(np.where(s.is_onsite, s.values, 0.2 * s.values))
    return Sample("sets", atoms, BASIS, h, overlap=s, spin=spin, n_electrons=14.0, fermi_level=-1.25)
