"""Group the rows of an array by an integer key."""

from collections.abc import Iterable

import numpy as np


def rows_by_key(keys: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    """Yield each non-negative integer that occurs in `keys` (n,), with the rows at which it occurs."""
    return ((k, np.flatnonzero(keys == k)) for k in np.flatnonzero(np.bincount(keys)).tolist())
