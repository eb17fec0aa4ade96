"""Features of atoms and of directed edges, and their numbers of channels.

In the frame of an edge (z along it) the symmetry that remains is O(2). An edge has scalars, pseudoscalars (odd under
the mirror) and SO(2) features of order m = 1..M: pairs of numbers that turn by e^{i m a}, as in eSCN (Passaro and
Zitnick, arXiv:2302.03655).
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor


class AtomFeatures(NamedTuple):
    """Irreps of the atoms: proper (N, (l_max+1)^2, C) of parity (-1)^l, pseudo (N, (l_max+1)^2, C') of -(-1)^l."""

    proper: Tensor
    pseudo: Tensor


class EdgeWidths(NamedTuple):
    """Numbers of channels of `EdgeFeatures`."""

    scalars: int
    pseudoscalars: int
    so2: int

    def size(self, l_max: int) -> int:
        """Return how many numbers the features of one edge are."""
        return self.scalars + self.pseudoscalars + 2 * l_max * self.so2


class EdgeFeatures(NamedTuple):
    """scalars (E, n0); pseudoscalars (E, p); so2 (M, E, 2, n), all orders of the same width, the even half first."""

    scalars: Tensor
    pseudoscalars: Tensor
    so2: Tensor

    def split(self, widths: EdgeWidths) -> tuple["EdgeFeatures", "EdgeFeatures"]:
        """Split the channels: the first `widths`, and the others."""
        parts = [x.split([n, x.shape[-1] - n], -1) for x, n in zip(self, widths, strict=True)]
        first, others = zip(*parts, strict=True)
        return EdgeFeatures(*first), EdgeFeatures(*others)


Features = TypeVar("Features", AtomFeatures, EdgeFeatures)


def add_features(a: Features, b: Features) -> Features:
    """Add features of the same atoms or edges."""
    return type(a)(*(x + y for x, y in zip(a, b, strict=True)))


def concatenate_channels(parts: Sequence[EdgeFeatures]) -> EdgeFeatures:
    """Concatenate the channels of features of the same edges."""
    return EdgeFeatures(*(torch.cat(x, -1) for x in zip(*parts, strict=True)))


def concatenate_edges(parts: Sequence[EdgeFeatures]) -> EdgeFeatures:
    """Concatenate features with the same channels, edge after edge."""
    scalars, pseudoscalars, so2 = zip(*parts, strict=True)
    return EdgeFeatures(torch.cat(scalars), torch.cat(pseudoscalars), torch.cat(so2, 1))
