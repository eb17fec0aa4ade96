"""Compiled from `_kernels.c`; see `harmose.closed_form.angles`."""

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
