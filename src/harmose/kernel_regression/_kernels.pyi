"""Compiled from `_kernels.c`; see `harmose.closed_form.angles` and `harmose.closed_form.triangles`."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

def kernels(
    edges: int,
    references: int,
    angles: int,
    cosines: int,
    sines: int,
    squarings: int,
    there: np.ndarray,
    back: np.ndarray,
    alike: np.ndarray,
    sides: int,
    first: Arrays,
    second: Arrays,
    ahead: Arrays,
    reverse: Arrays,
    /,
) -> None: ...
def moments(
    edges: int,
    triangles: int,
    turns: int,
    along: int,
    b: int,
    c: int,
    n_species: int,
    third: int,
    start: np.ndarray,
    turn: np.ndarray,
    height: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    out: np.ndarray,
    /,
) -> None: ...
