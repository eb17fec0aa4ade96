"""`Training`: the samples of a fit, and the hyperparameters it chooses from."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from harmose.kernel_regression.settings import DEFAULT, RegressionSettings
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures


class Hyperparameters(NamedTuple):
    """Variances relative to the prior variance of the kernel terms: of the noise, and of the linear terms together."""

    noise: float
    prior_variance: float


Grid = tuple[Hyperparameters, ...]


def _grid(noise: tuple[float, ...], prior_variance: tuple[float, ...]) -> Grid:
    return tuple(Hyperparameters(*pair) for pair in product(noise, prior_variance))


GRID = _grid((1e-7, 1e-6, 1e-5), (1e3, 1e5, 1e7))
"""Hyperparameters are chosen for scalars, and kept for all other orders."""
CHARGES_GRID = _grid((1e-6, 1e-5, 1e-4), (1e-1, 1e1, 1e3))
"""For linear terms in the density and the charges of H0."""
MANY_MOLECULES_GRID = _grid((1e-4, 1e-3, 1e-2, 1e-1), (1e-1, 1e1, 1e3))
"""For data sets of many molecules."""


@dataclass(frozen=True)
class Training:
    """Training samples as one concatenated graph.

    Attributes:
        space: the irreps of the blocks.
        oriented: the pairs.
        coefficients: targets in eV.
        pair_sample: sample of each pair (P,); samples that are left out together have the same number.
        atom_sample: sample of each atom (N,).
        many_molecules: True for a set of many molecules, False for geometries of a few.
        charges: charge features of H0, or None.
        sparse_points: largest number of sparse points of a pair type; 0 for no kernel, None for the limits of `settings`.
        settings: limits on time and memory.
        grid: hyperparameters to choose from; None for the usual ones.
        is_part: True for a part of a larger training set, whose fit is continued (`refit`): limits of the number of rows then
            leave the number of sparse points as it is.
    """

    space: BlockIrreps
    oriented: OrientedPairs
    coefficients: Coefficients
    pair_sample: np.ndarray
    atom_sample: np.ndarray
    many_molecules: bool = False
    charges: ChargeFeatures | None = None
    sparse_points: int | None = None
    settings: RegressionSettings = DEFAULT
    grid: Grid | None = None
    is_part: bool = False

    @property
    def hyperparameters(self) -> Grid:
        """The hyperparameters to choose from."""
        if self.grid is not None:
            return self.grid
        if self.many_molecules:
            return MANY_MOLECULES_GRID
        return GRID if self.charges is None else CHARGES_GRID
