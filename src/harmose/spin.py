"""The spin kind of a calculation: how many matrices an operator has, of which number type, and what they are made of.

Every operator is a set of real *channels* X, each a matrix like that of spin none, orthonormal combinations of its
components. The Pauli components of a spinor operator are `H = H_0 1 + sum_k H_k sigma_k`; one that is symmetric under
time reversal, as every one without magnetic moments is, has a real H_0 and imaginary H_k, k = x, y, z.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np


class Channel(NamedTuple):
    """degree 0: indifferent to rotations; 1: three matrices that turn as an axial vector, in the order (y, z, x).

    adjoint: `X[j, i, -R] = adjoint * X[i, j, R]^T`, +1 or -1.
    """

    degree: int
    adjoint: int


class Spin(StrEnum):
    """`none`: one real matrix. `collinear`: two real matrices, up and down. `spinor`: 2x2 complex per orbital pair.

    A spinor operator stores its four spin blocks in the order uu, ud, du, dd.
    """

    NONE = "none"
    COLLINEAR = "collinear"
    SPINOR = "spinor"

    @property
    def n_components(self) -> int:
        """Leading axis of a matrix's values: 1, 2 or 4."""
        return {Spin.NONE: 1, Spin.COLLINEAR: 2, Spin.SPINOR: 4}[self]

    @property
    def dtype(self) -> np.dtype:
        """Number type of the stored values."""
        return np.dtype(np.complex128 if self is Spin.SPINOR else np.float64)

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        """Blocks `(n_components, ..., a, b)` -> the blocks of the adjoint `(n_components, ..., b, a)`."""
        swapped = np.swapaxes(values, -1, -2)
        return swapped[[0, 2, 1, 3]].conj() if self is Spin.SPINOR else swapped

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What an operator without magnetic moments of its own consists of.

        none: H. collinear: (up + down) / sqrt 2 and (up - down) / sqrt 2. spinor: sqrt 2 Re H_0, symmetric, and
        sqrt 2 Im (H_y, H_z, H_x), antisymmetric. The other real parts of a spinor operator are odd under time reversal.
        """
        scalar = Channel(degree=0, adjoint=1)
        kinds = {Spin.NONE: (scalar,), Spin.COLLINEAR: (scalar, scalar), Spin.SPINOR: (scalar, Channel(1, -1))}
        return kinds[self]

    @property
    def n_channels(self) -> int:
        """Real matrices of all channels: 1, 2 or 4."""
        return sum(2 * channel.degree + 1 for channel in self.channels)

    def to_channels(self, values: np.ndarray) -> np.ndarray:
        """Components (n_components, ...) -> channels (n_channels, ...), real, with the same sum of squares.

        What a spinor operator has besides (`magnetic_part`) is left out.
        """
        if self is Spin.NONE:
            return values
        if self is Spin.COLLINEAR:
            return np.tensordot(UP_DOWN, values, 1)
        pauli = np.tensordot(PAULI, values, 1)
        return np.concatenate([np.real(pauli[:1]), np.imag(pauli[1:])])

    def from_channels(self, channels: np.ndarray) -> np.ndarray:
        """The inverse of `to_channels`: (n_channels, ...) -> (n_components, ...)."""
        if self is Spin.NONE:
            return channels
        if self is Spin.COLLINEAR:
            return np.tensordot(UP_DOWN, channels, 1)
        return np.tensordot(PAULI.conj().T, np.concatenate([channels[:1] + 0j, 1j * channels[1:]]), 1)


def absolute(values: np.ndarray) -> np.ndarray:
    """|values|; of complex ones the mean of |real part| and |imaginary part|."""
    return (np.abs(np.real(values)) + np.abs(np.imag(values))) / 2 if np.iscomplexobj(values) else np.abs(values)


UP_DOWN = np.array([[1, 1], [1, -1]]) / np.sqrt(2)

PAULI = np.array([[1, 0, 0, 1], [0, 1j, -1j, 0], [1, 0, 0, -1], [0, 1, 1, 0]]) / np.sqrt(2)
"""Components uu, ud, du, dd -> sqrt 2 (H_0, H_y, H_z, H_x): unitary, vectors in the order of p orbitals."""


def magnetic_part(values: np.ndarray) -> np.ndarray:
    """The part of a spinor operator (4, ...) that changes sign under time reversal: (4, ...), real, as in `to_channels`."""
    pauli = np.tensordot(PAULI, values, 1)
    return np.concatenate([np.imag(pauli[:1]), np.real(pauli[1:])])
