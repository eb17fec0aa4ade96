"""A predicted correction to H0, trusted only as far as the overlap lets it be seen: no ghost states.

In the eigenvectors of S (eigenvalues s) a change of the potential has elements that fall with s, `|v_k^T dH v_l| <= |dV| sqrt(s_k s_l)`,
whereas a prediction's errors have one size for all, and where s is small the orbital energies see them as `error / s`. Hence
Wiener's filter

    v_k^T dH v_l  ->  s_k s_l / (s_k s_l + t^2)  v_k^T dH v_l

where t is the sqrt(s_k s_l) at which error and correction are of one size. It turns with the molecule, and t = 0 changes nothing.
"""

import numpy as np

from harmose.core.blocks import BlockMatrix


def filtered(correction: BlockMatrix, overlap: BlockMatrix, t: float) -> BlockMatrix:
    """The correction (any units) of a molecule without spin after this module's filter with the overlap S."""
    sizes, vectors = np.linalg.eigh(overlap.dense())
    products = np.maximum(np.outer(sizes, sizes), 0.0)
    seen = vectors.T @ correction.dense() @ vectors * (products / (products + t**2))
    dense = vectors @ seen @ vectors.T
    _, row, column = correction.indices
    return correction.with_values(dense[row, column][None])
