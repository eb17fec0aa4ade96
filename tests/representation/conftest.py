"""A basis set with s, p and d shells."""

import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.representation.block_irreps import BlockIrreps

S, P, D = Shell(1, 0), Shell(2, 1), Shell(3, 2)


@pytest.fixture(scope="package")
def space() -> BlockIrreps:
    """Irreps of H, C and O."""
    return BlockIrreps(BasisSet("spd", {1: (S, P), 6: (S, P, D), 8: (S, P, D)}, {1: 5.0, 6: 5.0, 8: 5.0}), 4)
