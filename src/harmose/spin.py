"""Spin kinds: the number of matrices of an operator, their number type, and the real channels that they consist of.

The components of an operator are what it stores: one matrix, two (up, down), or four (uu, ud, du, dd). Its channels are
orthonormal combinations of the components, each a real matrix like that of spin none. The Pauli components of a spinor
operator are `H = H_0 1 + sum_k H_k sigma_k`, k = x, y, z. Under time reversal, which holds without magnetic moments,
H_0 is real and the H_k are imaginary.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

TIME_REVERSAL_TOLERANCE = 1e-3
"""Largest element of the part of H (eV) that is odd under time reversal, in a calculation without magnetic moments.

SCF convergence and integration grids leave less than this; the exchange splitting of a magnet is 100 times larger.
"""


class Channel(NamedTuple):
    """One channel of an operator.

    Attributes:
        degree: 0 for a matrix that rotations of spin leave alone; 1 for three matrices that rotate as an axial vector,
            in the order (y, z, x).
        adjoint: the sign in `X[j, i, -R] = adjoint * X[i, j, R]^T`, +1 or -1.
    """

    degree: int
    adjoint: int


class Spin(StrEnum):
    """Spin kind of a calculation.

    `none`: one real matrix. `collinear`: two real matrices, up and down. `spinor`: a complex 2x2 matrix for each pair
    of orbitals, stored as four matrices in the order uu, ud, du, dd.

    Examples:
        >>> import harmose
        >>> harmose.Spin("collinear").n_components
        2
        >>> harmose.Spin.SPINOR.dtype
        dtype('complex128')
    """

    NONE = "none"
    COLLINEAR = "collinear"
    SPINOR = "spinor"

    @property
    def n_components(self) -> int:
        """Number of stored matrices, the first axis of an operator's values: 1, 2 or 4."""
        return {Spin.NONE: 1, Spin.COLLINEAR: 2, Spin.SPINOR: 4}[self]

    @property
    def dtype(self) -> np.dtype:
        """Number type of the stored values: float64, for spinors complex128."""
        return np.dtype(np.complex128 if self is Spin.SPINOR else np.float64)

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        """Blocks of the adjoint operator.

        Args:
            values: blocks, shape (n_components, ..., a, b).

        Returns:
            Shape (n_components, ..., b, a): transposed, for spinors also conjugated and with ud and du exchanged.
        """
        swapped = np.swapaxes(values, -1, -2)
        return swapped[[0, 2, 1, 3]].conj() if self is Spin.SPINOR else swapped

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels of an operator without magnetic moments of its own.

        none: H. collinear: (up + down) / sqrt 2 and (up - down) / sqrt 2. spinor: sqrt 2 Re H_0, symmetric, and
        sqrt 2 Im (H_y, H_z, H_x), antisymmetric. The other parts of a spinor operator are odd under time reversal.
        """
        scalar = Channel(degree=0, adjoint=1)
        return {Spin.NONE: (scalar,), Spin.COLLINEAR: (scalar, scalar), Spin.SPINOR: (scalar, Channel(1, -1))}[self]

    @property
    def n_channels(self) -> int:
        """Number of real matrices in all channels together: 1, 2 or 4."""
        return sum(2 * channel.degree + 1 for channel in self.channels)

    def to_channels(self, values: np.ndarray) -> np.ndarray:
        """Real channels of an operator, with the same sum of squares.

        Args:
            values: components, shape (n_components, ...).

        Returns:
            Shape (n_channels, ...). The part of a spinor operator that is odd under time reversal (`magnetic_part`) is
            left out.
        """
        if self is Spin.NONE:
            return values
        if self is Spin.COLLINEAR:
            return np.tensordot(UP_DOWN, values, 1)
        pauli = np.tensordot(PAULI, values, 1)
        return np.concatenate([np.real(pauli[:1]), np.imag(pauli[1:])])

    def from_channels(self, channels: np.ndarray) -> np.ndarray:
        """Components of an operator from its real channels, the inverse of `to_channels`.

        Args:
            channels: shape (n_channels, ...).

        Returns:
            Shape (n_components, ...).
        """
        if self is Spin.NONE:
            return channels
        if self is Spin.COLLINEAR:
            return np.tensordot(UP_DOWN, channels, 1)
        return np.tensordot(PAULI.conj().T, np.concatenate([channels[:1] + 0j, 1j * channels[1:]]), 1)


UP_DOWN = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
"""Components up, down -> their normalized sum and difference."""

PAULI = np.array([[1, 0, 0, 1], [0, 1j, -1j, 0], [1, 0, 0, -1], [0, 1, 1, 0]]) / np.sqrt(2)
"""Components uu, ud, du, dd -> sqrt 2 (H_0, H_y, H_z, H_x): unitary, vectors in the order of p orbitals."""


def magnetic_part(values: np.ndarray) -> np.ndarray:
    """Part (4, ...) of a spinor operator (4, ...) that is odd under time reversal: real, scaled as in `to_channels`."""
    pauli = np.tensordot(PAULI, values, 1)
    return np.concatenate([np.imag(pauli[:1]), np.real(pauli[1:])])


def time_reversal_error(values: np.ndarray) -> float:
    """Largest element of `magnetic_part`, to be compared with `TIME_REVERSAL_TOLERANCE` where values are in eV."""
    return float(np.abs(magnetic_part(values)).max(initial=0.0))


def absolute(values: np.ndarray) -> np.ndarray:
    """|values|; for complex values the mean of |real part| and |imaginary part|."""
    return (np.abs(np.real(values)) + np.abs(np.imag(values))) / 2 if np.iscomplexobj(values) else np.abs(values)
