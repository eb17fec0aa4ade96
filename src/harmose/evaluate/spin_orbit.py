"""What spin-orbit coupling does to a molecule's levels, and how well it is predicted.

    shift_p = e_p(H) - e_p(H_0)

of each occupied Kramers pair p, in ascending order: H with coupling, H_0 its scalar part (`harmose.spin`), both solved with
the same S. Where levels of H_0 are degenerate, differences of shifts are splittings.
"""

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.physics.eigen import spin_orbitals


def scalar_part(h: BlockMatrix) -> BlockMatrix:
    """H_0 (spin none) of a spinor operator."""
    return BlockMatrix(h.basis, h.numbers, h.pairs, h.spin.to_channels(h.values)[:1] / np.sqrt(2))


def spin_orbit_shifts(h: BlockMatrix, s: BlockMatrix, n_electrons: float) -> np.ndarray:
    """Shifts of the occupied Kramers pairs (n_electrons / 2,) in eV; `MatrixError` as of `spin_orbitals`."""
    (coupled,), (alone,) = spin_orbitals(h, s, n_electrons), spin_orbitals(scalar_part(h), s, n_electrons)
    pairs = coupled.energies[: coupled.n_occupied].reshape(-1, 2).mean(1)
    return pairs - alone.energies[: alone.n_occupied]
