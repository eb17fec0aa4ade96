"""The spin kind of a calculation: how many matrices an operator has and of which number type."""

from enum import StrEnum

import numpy as np


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
