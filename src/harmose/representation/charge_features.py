"""Charge features: coefficients of the density matrix P of a prior H0 and of H0, with atomic charges and potentials."""

from dataclasses import dataclass

import numpy as np

from harmose.representation.block_irreps import Coefficients


@dataclass(frozen=True)
class ChargeFeatures:
    """Charge features of a concatenated graph (`harmose.physics.charges`).

    Attributes:
        density: coefficients of P.
        prior: coefficients of H0 in eV.
        charge: electrons in excess of the nuclear charge of each atom (N,).
        potential: potential at each atom (N,), Hartree.
    """

    density: Coefficients
    prior: Coefficients
    charge: np.ndarray
    potential: np.ndarray
