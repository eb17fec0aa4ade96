"""`Scores`: how far a structure is from the training set, and which summands of the model were used for it."""

from typing import NamedTuple

import numpy as np

from harmose.kernel_regression.training_domain import OOD_LIMIT

HALF = 0.5
"""A summand with a smaller weight counts as not used."""


class Limits(NamedTuple):
    """Values above which a structure is outside the training domain.

    Attributes:
        last_layer_std, regression_std: of a pair, and of a block.
        error: expected error of H in eV; `usual_error`: that of a structure like those of the training set.
    """

    last_layer_std: float = np.inf
    regression_std: float = np.inf
    error: float = np.inf
    usual_error: float = np.inf


class Scores(NamedTuple):
    """Scores of a structure with N atoms, P pairs and B = N + P blocks.

    Attributes:
        ood: out-of-domain score of each atom (N,).
        last_layer_std: relative standard deviation of the network's last layer for each pair (P,).
        limits: what is outside the training domain.
        regression_std: standard deviation of the regression for each block (B,); 1 is usual.
        regression_weight: weight of the regression beside simpler ones in each block (B,).
        network_weight: weight of the network's first stage for each pair (P,).
        unknown: pairs of elements that the training set lacks (P,).
        expected_error: expected mean |dH| over all elements in eV; zero where it is not known.
        contact_excess: how far, in angstrom, distances of each atom to its neighbours are outside the training set's (N,).
    """

    ood: np.ndarray
    last_layer_std: np.ndarray
    limits: Limits = Limits()
    regression_std: np.ndarray = np.zeros(0)
    regression_weight: np.ndarray = np.zeros(0)
    network_weight: np.ndarray = np.zeros(0)
    unknown: np.ndarray = np.zeros(0, dtype=bool)
    expected_error: float = 0.0
    contact_excess: np.ndarray = np.zeros(0)

    @property
    def outside(self) -> bool:
        """True if an atom or a pair is outside the training domain."""
        return bool(self.reasons)

    @property
    def reasons(self) -> list[str]:
        """Parts that are outside the training domain, and by how much."""
        out = []
        if n := int((self.ood > OOD_LIMIT).sum()):
            out.append(
                f"{n} of {len(self.ood)} atoms (largest score {self.ood.max():.1f} at atom {self.ood.argmax()}; "
                f"limit {OOD_LIMIT:g})"
            )
        if n := int((self.contact_excess > 0).sum()):
            out.append(
                f"{n} of {len(self.contact_excess)} atoms with a neighbour nearer or further than in the training set "
                f"(by {self.contact_excess.max():.2g} angstrom at atom {self.contact_excess.argmax()})"
            )
        if n := int(self.unknown.sum()):
            out.append(f"{n} of {len(self.unknown)} pairs of elements that the training set lacks")
        if n := int((self.regression_std > self.limits.regression_std).sum()):
            out.append(
                f"the regression extrapolates for {n} of {len(self.regression_std)} blocks "
                f"(standard deviation {self.regression_std.max():.3g}; limit {self.limits.regression_std:.3g})"
            )
        if n := int((self.last_layer_std > self.limits.last_layer_std).sum()):
            out.append(f"the network extrapolates for {n} of {len(self.last_layer_std)} pairs of atoms")
        if self.expected_error > self.limits.error:
            out.append(f"expected error {self.expected_error / self.limits.usual_error:.2g} times the usual one")
        return out

    @property
    def unused(self) -> list[str]:
        """Summands that were faded out, and for how many blocks."""
        out = []
        if n := int((self.regression_weight < HALF).sum()):
            out.append(f"regression not used for {n} of {len(self.regression_weight)} blocks")
        if n := int((self.network_weight < HALF).sum()):
            out.append(f"network not used for {n} of {len(self.network_weight)} pairs")
        return out

    def describe(self) -> str:
        """Return one line that says what is outside the training domain, by how much, and what was not used."""
        parts = "; ".join([*self.reasons, *self.unused])
        return f"outside the training domain: {parts}; expect larger errors"
