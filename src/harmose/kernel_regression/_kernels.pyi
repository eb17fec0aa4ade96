"""Compiled from `_kernels.c`; called by `angles` and `descriptors`."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

def kernels(
    edges: int,
    sparse_points: int,
    angles: int,
    cosines: int,
    sines: int,
    squarings: int,
    to_angles: np.ndarray,
    to_orders: np.ndarray,
    envelope: np.ndarray,
    sides: int,
    even_overlaps: Arrays,
    odd_overlaps: Arrays,
    kernels: Arrays,
    reversed_kernels: Arrays,
    /,
) -> None: ...
def moments(
    edges: int,
    triangles: int,
    phases: int,
    p: int,
    b: int,
    c: int,
    n_species: int,
    third: int,
    start: np.ndarray,
    phase: np.ndarray,
    factor_p: np.ndarray,
    factor_b: np.ndarray,
    factor_c: np.ndarray,
    out: np.ndarray,
    /,
) -> None: ...
