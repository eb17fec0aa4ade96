"""A chain of C and O, for files that tests write."""

import pytest
from ase import Atoms


@pytest.fixture
def chain() -> Atoms:
    positions = [[0.1, 4.0, 4.0], [1.4, 4.3, 3.8]]
    return Atoms("CO", positions, cell=[[3.4, 0, 0], [0, 11.0, 0], [0, 0, 12.0]], pbc=[True, False, False])
