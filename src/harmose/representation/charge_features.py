"""Coefficients of the density matrix of a prior H0 and of H0 itself, with atomic charges and potentials."""

from dataclasses import dataclass

import numpy as np

from harmose.representation.block_irreps import Coefficients


@dataclass(frozen=True)
class ChargeFeatures:
    """Of structures laid end to end: coefficients of P and of H0 (eV), charge and potential of each atom (N,)."""

    density: Coefficients
    prior: Coefficients
    charge: np.ndarray
    potential: np.ndarray
