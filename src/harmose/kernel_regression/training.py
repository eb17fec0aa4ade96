"""`Training`: the samples that a fit learns from, and which variances it may choose for its terms."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures

Hyperparameters = tuple[float, float]
"""Of what no regression explains, and of the linear terms together, where the kernel's terms have variance one."""
CANDIDATES: tuple[Hyperparameters, ...] = tuple(product((1e-7, 1e-6, 1e-5), (1e3, 1e5, 1e7)))
"""The best for scalars is taken for all orders."""
ELECTRONIC_CANDIDATES: tuple[Hyperparameters, ...] = tuple(product((1e-6, 1e-5, 1e-4), (1e-1, 1e1, 1e3)))
"""Where the linear terms are those in the electrons of H0."""
DIVERSE_CANDIDATES: tuple[Hyperparameters, ...] = tuple(product((1e-4, 1e-3, 1e-2, 1e-1), (1e-1, 1e1, 1e3)))
"""For many molecules, of which no two are alike."""


@dataclass(frozen=True)
class Training:
    """All training samples as one graph: `pair_sample` (P,) and `atom_sample` (N,) say whose each pair and atom is.

    Samples that are left out together have one number. Of `diverse` ones, many molecules, less is to be had by likeness and
    more is noise. `references`: at most so many reference edges of each kind of pair; 0: no likeness. `charges` where H0 is read.
    """

    space: BlockIrreps
    oriented: OrientedPairs
    coefficients: Coefficients
    pair_sample: np.ndarray
    atom_sample: np.ndarray
    diverse: bool = False
    charges: ChargeFeatures | None = None
    references: int | None = None

    @property
    def candidates(self) -> tuple[Hyperparameters, ...]:
        if self.diverse:
            return DIVERSE_CANDIDATES
        return CANDIDATES if self.charges is None else ELECTRONIC_CANDIDATES
