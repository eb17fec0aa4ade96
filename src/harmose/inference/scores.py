"""`Scores`: how far a structure is from the training set."""

from typing import NamedTuple

import numpy as np

from harmose.kernel_regression.training_domain import OOD_LIMIT


class Scores(NamedTuple):
    """Out-of-domain score of each atom (N,), and relative standard deviation of the last layer of each pair (P,).

    `std_limit`: standard deviation above which a pair is outside the training domain.
    """

    ood: np.ndarray
    last_layer_std: np.ndarray
    std_limit: float = np.inf

    @property
    def outside(self) -> bool:
        """True if an atom or a pair is outside the training domain."""
        return bool(self.ood.max(initial=0.0) > OOD_LIMIT or self.last_layer_std.max(initial=0.0) > self.std_limit)

    def describe(self) -> str:
        """Return one line that says what is outside the training domain, and by how much."""
        parts, n_atoms, n_pairs = [], (self.ood > OOD_LIMIT).sum(), (self.last_layer_std > self.std_limit).sum()
        if n_atoms:
            parts.append(
                f"{n_atoms} of {len(self.ood)} atoms (largest score {self.ood.max():.1f} at atom {self.ood.argmax()}; "
                f"limit {OOD_LIMIT:g})"
            )
        if n_pairs:
            parts.append(f"the network extrapolates for {n_pairs} of {len(self.last_layer_std)} pairs of atoms")
        return f"outside the training domain: {'; '.join(parts)}; expect larger errors"
