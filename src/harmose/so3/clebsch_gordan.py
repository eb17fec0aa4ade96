"""Clebsch-Gordan coefficients of real spherical harmonics.

For complex harmonics with the Condon-Shortley sign, with B for binomial coefficients, n = l1 + l2 - l and m = m1 + m2,
Racah's formula is

    <l1 m1 l2 m2 | l m> = sqrt(B(2 l1, n) B(2 l2, n) / B(l1 + l2 + l + 1, n))
                          / sqrt(B(2 l1, l1 - m1) B(2 l2, l2 - m2) B(2 l, l - m))
                          * sum_k (-1)^k B(n, k) B(l1 - l2 + l, l1 - m1 - k) B(l2 - l1 + l, l2 + m2 - k)

Times (-i)^l, real harmonics are a unitary combination of complex ones that makes all coefficients real. The signs are
those of e3nn: the table here is sqrt(2l + 1) times its `wigner_3j(l1, l2, l)`.
"""

from functools import lru_cache
from math import comb, sqrt

import numpy as np

from harmose.so3.harmonics import complex_to_real


@lru_cache(maxsize=1024)
def clebsch_gordan(l1: int, l2: int, l: int) -> np.ndarray:
    """Orthonormal real coupling coefficients, float64, shape (2l+1, 2l1+1, 2l2+1); cached, so do not write to it."""
    table = np.zeros((2 * l + 1, 2 * l1 + 1, 2 * l2 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l - m1), min(l2, l - m1) + 1):
            table[l + m1 + m2, l1 + m1, l2 + m2] = _complex_coefficient(l1, m1, l2, m2, l)
    u1, u2, u = complex_to_real(l1), complex_to_real(l2), complex_to_real(l)
    table = (-1j) ** (l1 + l2 - l) * np.einsum("mn,nik->mik", u, u1.conj() @ table @ u2.conj().T)
    return np.where(np.abs(table.real) > 1e-14, table.real, 0.0)  # what is zero by symmetry is zero exactly


def _complex_coefficient(l1: int, m1: int, l2: int, m2: int, l: int) -> float:
    n, n1, n2, top, bottom = l1 + l2 - l, l1 - l2 + l, l2 - l1 + l, l1 - m1, l2 + m2
    terms = range(max(0, top - n1, bottom - n2), min(n, top, bottom) + 1)
    total = sum((-1) ** k * comb(n, k) * comb(n1, top - k) * comb(n2, bottom - k) for k in terms)
    numerator = comb(2 * l1, n) * comb(2 * l2, n)
    denominator = comb(l1 + l2 + l + 1, n) * comb(2 * l1, top) * comb(2 * l2, bottom) * comb(2 * l, l - m1 - m2)
    return total * sqrt(numerator / denominator)
