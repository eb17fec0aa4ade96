"""A Wiener filter of the predicted correction H - H0 in the eigenbasis of S: it prevents ghost states.

In the eigenvectors of S (eigenvalues s) a change of the potential has elements that fall with s, `|v_k^T dH v_l| <= |dV| sqrt(s_k s_l)`.
The errors of a prediction do not fall, and where s is small the orbital energies change by error / s. The filter is

    v_k^T dH v_l  ->  s_k s_l / (s_k s_l + t^2)  v_k^T dH v_l

where t is the sqrt(s_k s_l) at which error and correction are of one size. It rotates with the molecule; t = 0 changes nothing.
"""

import numpy as np

from harmose.core.blocks import BlockMatrix


def filter_correction(correction: BlockMatrix, overlap: BlockMatrix, t: float) -> BlockMatrix:
    """Return the filtered correction (any unit) of a molecule without spin."""
    dense = filtered(correction.dense(), overlap.dense(), t)
    _, row, column = correction.indices
    return correction.with_values(dense[row, column][None])


def filtered(correction: np.ndarray, overlap: np.ndarray, t: float) -> np.ndarray:
    """Return the filtered correction (n, n) for the overlap (n, n)."""
    s, vectors = np.linalg.eigh(overlap)
    products = np.maximum(np.outer(s, s), 0.0)
    return vectors @ (vectors.T @ correction @ vectors * (products / (products + t**2))) @ vectors.T
