"""Orders and signs of orbitals in DFT codes, and their conversion to harmose's order.

harmose's order: real harmonics m = -l..l without Condon-Shortley sign, shells in the order of the basis set. A
`Convention` maps a code's orbitals to this order. Only readers and writers of files apply it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from harmose.errors import BasisError


@dataclass(frozen=True)
class Convention:
    """Order and sign of a code's orbitals: `harmose[k] = sign[l][k] * code[order[l][k]]` within a shell.

    An l that is missing in `order` has the order m = -l..l; one that is missing in `sign` has all signs +1.
    """

    name: str
    order: Mapping[int, tuple[int, ...]]
    sign: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for l, order in self.order.items():
            if sorted(order) != list(range(2 * l + 1)):
                raise BasisError(f"convention {self.name}: l = {l} needs a permutation of {2 * l + 1}, got {order}")
        for l, sign in self.sign.items():
            if len(sign) != 2 * l + 1 or any(abs(s) != 1 for s in sign):
                raise BasisError(f"convention {self.name}: l = {l} needs {2 * l + 1} signs +1 or -1, got {sign}")
        object.__setattr__(self, "order", MappingProxyType(dict(self.order)))
        object.__setattr__(self, "sign", MappingProxyType(dict(self.sign)))

    def indices(self, degrees: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Index and sign (n,) of the n orbitals of consecutive shells: `harmose = sign * code[index]`."""
        index, sign, start = [], [], 0
        for l in degrees:
            index += [start + k for k in self.order.get(l, range(2 * l + 1))]
            sign += list(self.sign.get(l, [1] * (2 * l + 1)))
            start += 2 * l + 1
        return np.array(index, dtype=np.int64), np.array(sign, dtype=np.float64)

    def to_inside(self, matrix: np.ndarray, degrees: Sequence[int]) -> np.ndarray:
        """The matrix (..., n, n) of a code in harmose's order; `degrees` lists the l of all shells of all atoms."""
        index, sign = self.indices(degrees)
        return matrix[..., index[:, None], index] * (sign[:, None] * sign)

    def from_inside(self, matrix: np.ndarray, degrees: Sequence[int]) -> np.ndarray:
        """The matrix (..., n, n) in the code's order, the inverse of `to_inside`."""
        index, sign = self.indices(degrees)
        out = np.empty_like(matrix)
        out[..., index[:, None], index] = matrix * (sign[:, None] * sign)
        return out


E3NN = Convention("e3nn", {})
"""harmose's own order: m = -l..l, p = (y, z, x)."""

PYSCF = Convention("pyscf", {1: (1, 2, 0)})
"""PySCF's order: p is (x, y, z); d and higher are m = -l..l."""


def _openmx_order(l: int) -> tuple[int, ...]:
    """Return the places of m = -l..l in OpenMX: 0, 1, -1, 2, -2, ..., except p (x, y, z) and d (z2, x2-y2, xy, xz, yz)."""
    if l in (1, 2):
        return {1: (1, 2, 0), 2: (2, 4, 0, 3, 1)}[l]
    return (*range(2 * l, 0, -2), 0, *range(1, 2 * l, 2))


OPENMX = Convention("openmx", {l: _openmx_order(l) for l in range(1, 7)})
"""Order of OpenMX's orbitals, also in DeepH's first format."""
