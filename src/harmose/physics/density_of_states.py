"""A density of states as a function of the energy, computed from all states or by kernel polynomials."""

from dataclasses import dataclass

import numpy as np

from harmose.spin import Spin


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    """Density of states in states per eV and cell; without spin each state holds two electrons.

    Attributes:
        energies: In eV, on the scale of H (n_e,).
        total: All states (n_e,), collinear (2, n_e).
        projections: Parts of `total`, of the same shape, by the label of the element, atom or shell.
        spin: Spin of H.
        fermi_level: In eV on the scale of H, or None.
        error: Standard error of `total`, of the same shape, by kernel polynomials; None if all states are computed.
    """

    energies: np.ndarray
    total: np.ndarray
    projections: dict[str, np.ndarray]
    spin: Spin = Spin.NONE
    fermi_level: float | None = None
    error: np.ndarray | None = None

    @property
    def zero(self) -> float:
        """The Fermi level in eV, 0 without one."""
        return 0.0 if self.fermi_level is None else self.fermi_level

    @property
    def relative(self) -> np.ndarray:
        """Energies (n_e,) in eV relative to `zero`."""
        return self.energies - self.zero
