"""Functions of distance as a table, by local polynomials: quick for many distances, with a measured error."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

ORDER = 10
"""Number of points of the local polynomial: the error falls with the tenth power of the spacing."""

COARSEST = 0.04
"""Spacing (angstrom) that is tried first."""

FINEST = 6e-4
"""Least spacing (angstrom) that is tried."""


@dataclass(frozen=True, eq=False)
class Table:
    """`values` (n, F) at distances start, start + spacing, ...; `error` is the largest measured one between them."""

    start: float
    spacing: float
    values: np.ndarray
    error: float

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """Return the functions (E, F) at distances r (E,) inside the table."""
        position = (np.asarray(r) - self.start) / self.spacing
        first = np.clip(position.astype(np.int64) - (ORDER // 2 - 1), 0, len(self.values) - ORDER)
        weights = _lagrange(position - first)
        columns = first[:, None] + np.arange(ORDER)
        rows = np.arange(0, ORDER * len(first) + 1, ORDER)
        shape = (len(first), len(self.values))
        return scipy.sparse.csr_matrix((weights.ravel(), columns.ravel(), rows), shape=shape) @ self.values


def tabulate(
    functions: Callable[[np.ndarray], np.ndarray], low: float, high: float, tolerance: float, most: int
) -> Table | None:
    """Return a table of `functions` ((E,) -> (F, E)) from `low` to `high` (angstrom) with an error below `tolerance`.

    The spacing is halved until the error, measured at 97 distances, is small enough. None if that takes more than `most` points.
    """
    spacing = COARSEST
    probes = low + (high - low) * np.linspace(0, 1, 97) ** 1.5  # functions vary faster at short distances
    exact = None
    while spacing > FINEST:
        n = int(np.ceil((high - low) / spacing)) + ORDER
        if n > most:
            return None
        exact = functions(probes).T if exact is None else exact
        start = max(low - (ORDER // 2 - 1) * spacing, 0.0)
        values = np.ascontiguousarray(functions(start + spacing * np.arange(n)).T)
        table = Table(start, spacing, values, 0.0)
        error = float(np.abs(table(probes) - exact).max(initial=0.0))
        if error < tolerance:
            return Table(start, spacing, values, error)
        spacing /= 2
    return None


def _lagrange(u: np.ndarray) -> np.ndarray:
    """Return the weights (E, ORDER) of values at 0, 1, ... for the polynomial through all of them at u (E,)."""
    points = np.arange(ORDER)
    distance = u[:, None] - points
    below, above = np.ones((2, len(u), ORDER))
    np.cumprod(distance[:, :-1], axis=1, out=below[:, 1:])
    above[:, :-1] = np.cumprod(distance[:, :0:-1], axis=1)[:, ::-1]
    differences = (points[:, None] - points + np.eye(ORDER)).prod(axis=1)
    return below * above / differences
